#include <sys/capability.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

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
  if (::cap_set_proc(wanted.get()) != 0) return fail_errno("capset", errno);
  // Without CAP_SETPCAP, where the bounding set stays as it is, the ambient set still can be emptied.
  if (::cap_reset_ambient() != 0) return fail_errno("clearing the ambient capabilities", errno);
  return {};
}

Result<CapabilityNames> read_capabilities() {
  const auto current = own(::cap_get_proc());
  if (!current) return fail_errno("capget", errno);
  CapabilityNames names;
  for (cap_value_t value = 0; value < ::cap_max_bits(); ++value) {
    const auto add = [&](cap_flag_t flag, std::vector<std::string>& list) -> Result<void> {
      cap_flag_value_t set = CAP_CLEAR;
      if (::cap_get_flag(current.get(), value, flag, &set) != 0) return fail_errno("cap_get_flag", errno);
      if (set == CAP_SET) list.push_back(name_of(value));
      return {};
    };
    DE_CHECK(add(CAP_EFFECTIVE, names.effective));
    DE_CHECK(add(CAP_PERMITTED, names.permitted));
    DE_CHECK(add(CAP_INHERITABLE, names.inheritable));
    if (::cap_get_bound(value) > 0) names.bounding.push_back(name_of(value));
    if (::cap_get_ambient(value) > 0) names.ambient.push_back(name_of(value));
  }
  return names;
}

}  // namespace daemoneye::sandbox
