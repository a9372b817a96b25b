// How many new alerts a rule may raise in a while. What is beyond is not raised one by one but counted on one alert
// that stands for all of it, so that a rule that matches everything does not bury the others. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/time.h"

namespace daemoneye::detect {

class RuleLimits {
 public:
  RuleLimits(std::uint32_t alerts, std::chrono::nanoseconds window) : alerts_(alerts), window_(window) {}  // 0: none

  // Whether a match with this deduplication key may be raised as an alert of its own. One that was let through in
  // this window may again, when that is not longer ago than `dedup_window`: it is counted on that alert.
  bool may_raise(const std::string& rule_id, const std::string& dedup_key, Timestamp now,
                 std::chrono::milliseconds dedup_window);

  [[nodiscard]] std::uint32_t alerts() const { return alerts_; }
  [[nodiscard]] std::chrono::nanoseconds window() const { return window_; }

 private:
  struct OfRule {
    Timestamp begin;
    std::uint32_t raised = 0;
    std::unordered_map<std::string, Timestamp> keys;  // when each was let through last
  };
  const std::uint32_t alerts_;
  const std::chrono::nanoseconds window_;
  std::mutex mutex_;
  std::map<std::string, OfRule> rules_;
};

}  // namespace daemoneye::detect
