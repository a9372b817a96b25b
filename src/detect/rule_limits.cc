#include "detect/rule_limits.h"

namespace daemoneye::detect {

bool RuleLimits::may_raise(const std::string& rule_id, const std::string& dedup_key, Timestamp now) {
  if (alerts_ == 0) return true;
  std::lock_guard lock(mutex_);
  auto& rule = rules_[rule_id];
  const auto age = now.ns - rule.begin.ns;
  // A clock that was put back begins a new window, too.
  if (age < 0 || age >= window_.count()) rule = {now, 0, {}};
  if (rule.keys.contains(dedup_key)) return true;
  if (rule.raised == alerts_) return false;
  ++rule.raised;
  rule.keys.insert(dedup_key);
  return true;
}

}  // namespace daemoneye::detect
