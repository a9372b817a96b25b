#include <sys/capability.h>

#include <cerrno>
#include <memory>

#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

using Capabilities = std::unique_ptr<_cap_struct, int (*)(void*)>;

Capabilities own(cap_t raw) { return {raw, &::cap_free}; }

std::string name_of(cap_value_t value) {
  const std::unique_ptr<char, int (*)(void*)> name(::cap_to_name(value), &::cap_free);
  return name ? name.get() : std::to_string(value);
}

}  // namespace

Result<void> clear_bounding_and_ambient() {
  for (cap_value_t value = 0; value < ::cap_max_bits(); ++value) {
    if (::cap_get_bound(value) > 0 && ::cap_drop_bound(value) != 0) {
      return fail_errno("dropping " + name_of(value) + " from the bounding set", errno);
    }
  }
  if (::cap_reset_ambient() != 0) return fail_errno("clearing the ambient capabilities", errno);
  return {};
}

Result<void> clear_capabilities() {
  const auto none = own(::cap_init());
  if (!none) return fail_errno("cap_init", errno);
  if (::cap_set_proc(none.get()) != 0) return fail_errno("capset", errno);
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
