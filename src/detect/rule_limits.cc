#include "detect/rule_limits.h"

#include <cstdlib>

namespace daemoneye::detect {

bool RuleLimits::may_raise(const std::string& rule_id, const std::string& dedup_key, Timestamp now,
                           std::chrono::milliseconds dedup_window) {
  if (alerts_ == 0) return true;
  std::lock_guard lock(mutex_);
  auto& rule = rules_[rule_id];
  const auto age = now.ns - rule.begin.ns;
  // A clock that was put back begins a new window, too.
  if (age < 0 || age >= window_.count()) rule = {now, 0, {}};
  const auto known = rule.keys.find(dedup_key);
  const bool merges = known != rule.keys.end() && dedup_window.count() > 0 &&
                      std::abs(now.ns - known->second.ns) <= std::chrono::nanoseconds(dedup_window).count();
  if (merges) {
    known->second = now;
    return true;
  }
  if (rule.raised == alerts_) return false;
  ++rule.raised;
  rule.keys[dedup_key] = now;
  return true;
}

}  // namespace daemoneye::detect
