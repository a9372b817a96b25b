// How whole an answer is. Carried by every query result, rule evaluation and alert.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace daemoneye::event {

// A closed range of time; an absent end is open.
struct TimeRange {
  std::optional<Timestamp> from, to;
  [[nodiscard]] bool overlaps(Timestamp other_from, Timestamp other_to) const {
    return (!from || other_to >= *from) && (!to || other_from <= *to);
  }
};

struct Incompleteness {
  std::string reason;  // events_lost | collector_unavailable | late | limit_reached | corrupt_block | …
  std::optional<std::uint64_t> count;
  std::optional<Timestamp> from, to;
  bool operator==(const Incompleteness&) const = default;
};

struct Completeness {
  std::vector<Incompleteness> reasons;  // empty: complete
  [[nodiscard]] bool complete() const { return reasons.empty(); }
  bool operator==(const Completeness&) const = default;
};

// {"status":"complete"} or {"status":"degraded","reasons":[…]} as in the contract; times ISO 8601 unless `raw`.
std::string to_json(const Completeness& completeness, bool raw = false);
Result<Completeness> parse_completeness(std::string_view json);

}  // namespace daemoneye::event
