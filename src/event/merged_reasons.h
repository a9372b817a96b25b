// What many readings of one history lack, each thing told once.
#pragma once

#include <compare>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "event/completeness.h"

namespace daemoneye::event {

class MergedReasons {
 public:
  void add(const Incompleteness& reason);
  void add(const Completeness& completeness) {
    for (const auto& reason : completeness.reasons) add(reason);
  }
  // In the order of their names and times: stretches of one reason that overlap or touch are one. What was lost in them
  // is added up, or not told when it is not known of one of them.
  [[nodiscard]] std::vector<Incompleteness> all() const;

 private:
  struct Stretch {
    Timestamp from, to;  // an absent end is the first or the last moment there is
    std::optional<std::uint64_t> count;
    auto operator<=>(const Stretch&) const = default;
  };
  // By reason. Those with a count are kept apart until the end, so that the same loss that is met again is not counted
  // again; of those without, there are never more than stretches.
  std::map<std::string, std::set<Stretch>> counted_, uncounted_;
};

}  // namespace daemoneye::event
