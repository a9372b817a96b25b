#include <sys/capability.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

constexpr std::size_t max_status = 64 * 1024;

using Set = std::unique_ptr<_cap_struct, int (*)(void*)>;

Set own(cap_t raw) { return {raw, &::cap_free}; }

std::string name_of(cap_value_t value) {
  const std::unique_ptr<char, int (*)(void*)> name(::cap_to_name(value), &::cap_free);
  return name ? name.get() : std::to_string(value);
}

bool contains(const Capabilities& list, cap_value_t value) { return std::ranges::find(list, value) != list.end(); }

}  // namespace

Result<Capabilities> capabilities_by_name(const std::vector<std::string>& names) {
  Capabilities values;
  for (const auto& name : names) {
    cap_value_t value = 0;
    if (::cap_from_name(name.c_str(), &value) != 0) return fail(Errc::invalid_input, "no capability is called " + name);
    values.push_back(value);
  }
  return values;
}

Result<void> clear_bounding_and_ambient(const Capabilities& keep) {
  for (cap_value_t value = 0; value < ::cap_max_bits(); ++value) {
    if (contains(keep, value)) continue;
    if (::cap_get_bound(value) > 0 && ::cap_drop_bound(value) != 0) {
      return fail_errno("dropping " + name_of(value) + " from the bounding set", errno);
    }
  }
  if (::cap_reset_ambient() != 0) return fail_errno("clearing the ambient capabilities", errno);
  return {};
}

Result<void> keep_over_change_of_user(bool keep) {
  if (::prctl(PR_SET_KEEPCAPS, keep ? 1 : 0, 0, 0, 0) != 0) return fail_errno("prctl(PR_SET_KEEPCAPS)", errno);
  return {};
}

Result<void> clear_capabilities(const Capabilities& keep) {
  const auto current = own(::cap_get_proc());
  if (!current) return fail_errno("capget", errno);
  const auto wanted = own(::cap_init());
  if (!wanted) return fail_errno("cap_init", errno);
  for (const cap_value_t value : keep) {
    cap_flag_value_t permitted = CAP_CLEAR;
    if (::cap_get_flag(current.get(), value, CAP_PERMITTED, &permitted) != 0) return fail_errno("cap_get_flag", errno);
    if (permitted == CAP_CLEAR) continue;
    for (const cap_flag_t flag : {CAP_PERMITTED, CAP_EFFECTIVE}) {
      if (::cap_set_flag(wanted.get(), flag, 1, &value, CAP_SET) != 0) return fail_errno("cap_set_flag", errno);
    }
  }
  // Started without any by a service manager, whose filter of system calls may refuse even to ask.
  if (::cap_compare(current.get(), wanted.get()) != 0 && ::cap_set_proc(wanted.get()) != 0) {
    return fail_errno("capset", errno);
  }
  // Without CAP_SETPCAP, where the bounding set stays as it is, the ambient set still can be emptied.
  if (::cap_reset_ambient() != 0) return fail_errno("clearing the ambient capabilities", errno);
  return {};
}

Result<CapabilityNames> read_capabilities() {
  // From /proc/self/status and not by capget and prctl: what is verified last is verified under the system call list.
  DE_TRY(const auto status, base::read_file("/proc/self/status", max_status));
  CapabilityNames names;
  const std::array<std::pair<std::string_view, std::vector<std::string>*>, 5> sets{{{"CapEff:", &names.effective},
                                                                                    {"CapPrm:", &names.permitted},
                                                                                    {"CapInh:", &names.inheritable},
                                                                                    {"CapAmb:", &names.ambient},
                                                                                    {"CapBnd:", &names.bounding}}};
  std::size_t found = 0;
  for (const auto line : base::split(status, '\n')) {
    for (const auto& [key, list] : sets) {
      if (!line.starts_with(key)) continue;
      const auto digits = base::trim(line.substr(key.size()));
      std::uint64_t bits = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits, 16);
      if (error != std::errc{} || end != digits.data() + digits.size()) break;
      for (cap_value_t value = 0; value < 64; ++value) {
        if ((bits >> value & 1) != 0) list->push_back(name_of(value));
      }
      ++found;
    }
  }
  if (found != sets.size()) return fail(Errc::corrupt, "/proc/self/status does not tell of all capability sets");
  return names;
}

}  // namespace daemoneye::sandbox
