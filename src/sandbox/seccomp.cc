// A system call list becomes a filter in the kernel, by libseccomp.
#include <seccomp.h>

#include <cerrno>
#include <cstdlib>
#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "sandbox/mechanisms.h"
#include "sandbox/system_calls.h"

namespace daemoneye::sandbox {
namespace {

constexpr int named_numbers = 512;
constexpr std::size_t max_status = 64 * 1024;
constexpr std::uint32_t binary_tree = 2;  // what is not a plain yes in the kernel's cache is found in few steps

std::string call_name(int number) {
  const std::unique_ptr<char, void (*)(void*)> name(::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number),
                                                    &::free);
  return name ? name.get() : "";
}

Result<void> step(const char* what, int outcome) {
  if (outcome < 0) return fail_errno(what, -outcome);
  return {};
}

}  // namespace

OnViolation default_on_violation() {
#ifdef DAEMONEYE_STRICT_SANDBOX
  return OnViolation::end;
#else
  return OnViolation::deny;
#endif
}

std::string_view name_of(SystemCalls list) {
  switch (list) {
    case SystemCalls::any: return "any";
    case SystemCalls::collector: return "collector";
    case SystemCalls::hasher: return "hasher";
  }
  return "any";
}

Result<void> load_filter(SystemCalls list, OnViolation on_violation) {
  if (list == SystemCalls::any) return {};
  // What is not in the list, a call through another processor's table included, never runs, whatever became of the
  // handler: that is the kernel's work. The handler only decides what comes after.
  const std::unique_ptr<void, void (*)(void*)> filter(::seccomp_init(SCMP_ACT_TRAP), &::seccomp_release);
  if (!filter) return fail(Errc::internal, "seccomp_init failed");
  DE_CHECK(step("seccomp: other architectures",
                ::seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS)));
  // no_new_privs is set, and verified, by its own step.
  DE_CHECK(step("seccomp: no_new_privs", ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_NNP, 0)));
  DE_CHECK(step("seccomp: optimization", ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, binary_tree)));
  for (const auto& call : allowed_calls(list)) {
    std::vector<scmp_arg_cmp> checks;
    for (const auto& check : call.checks) {
      checks.push_back({check.index, SCMP_CMP_MASKED_EQ, check.mask, check.value});
    }
    const int outcome = ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call.number,
                                                 static_cast<unsigned>(checks.size()), checks.data());
    if (outcome < 0) return fail_errno("seccomp: the rule for " + call_name(call.number), -outcome);
  }
  std::vector<std::string> names;
  for (int number = 0; number < named_numbers; ++number) names.push_back(call_name(number));
  DE_CHECK(watch_refusals(list, std::move(names), on_violation));
  return step("seccomp_load", ::seccomp_load(filter.get()));
}

Result<bool> has_filter() {
  DE_TRY(const auto status, base::read_file("/proc/self/status", max_status));
  for (const auto line : base::split(status, '\n')) {
    if (line.starts_with("Seccomp:")) return base::trim(line.substr(8)) == "2";
  }
  return fail(Errc::unavailable, "/proc/self/status does not tell of seccomp");
}

Result<void> restrict_system_calls(SystemCalls list, OnViolation on_violation) {
  DE_CHECK(require_single_thread());
  DE_TRY(const bool before, has_no_new_privs());
  if (!before) return fail(Errc::invalid_input, "a system call list needs no_new_privs first");
  DE_CHECK(load_filter(list, on_violation));
  if (list == SystemCalls::any) return {};
  DE_TRY(const bool in_force, has_filter());
  if (!in_force) return fail(Errc::internal, "the system call filter is not in force after it was loaded");
  return {};
}

}  // namespace daemoneye::sandbox
