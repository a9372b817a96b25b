#include "event/merged_reasons.h"

#include <algorithm>

namespace daemoneye::event {
namespace {

constexpr Timestamp first_moment{INT64_MIN}, last_moment{INT64_MAX};

// Both ends count: what begins with the next nanosecond goes on.
template <class Stretch>
bool touches(const Stretch& earlier, const Stretch& later) {
  return earlier.to == last_moment || later.from.ns <= earlier.to.ns + 1;
}

}  // namespace

void MergedReasons::add(const Incompleteness& reason) {
  Stretch added{reason.from.value_or(first_moment), reason.to.value_or(last_moment), reason.count};
  if (added.count) {
    counted_[reason.reason].insert(added);
    return;
  }
  auto& known = uncounted_[reason.reason];
  for (auto each = known.begin(); each != known.end();) {
    const bool one = each->from <= added.from ? touches(*each, added) : touches(added, *each);
    if (!one) {
      ++each;
      continue;
    }
    added.from = std::min(added.from, each->from);
    added.to = std::max(added.to, each->to);
    each = known.erase(each);
  }
  known.insert(added);
}

std::vector<Incompleteness> MergedReasons::all() const {
  auto stretches = counted_;
  for (const auto& [reason, of] : uncounted_) stretches[reason].insert(of.begin(), of.end());
  std::vector<Incompleteness> out;
  for (const auto& [reason, of] : stretches) {
    std::vector<Stretch> merged;
    for (const auto& each : of) {
      if (merged.empty() || !touches(merged.back(), each)) {
        merged.push_back(each);
        continue;
      }
      auto& whole = merged.back();
      whole.to = std::max(whole.to, each.to);
      if (whole.count && each.count)
        *whole.count += *each.count;
      else
        whole.count.reset();
    }
    for (const auto& each : merged) {
      Incompleteness told{reason, each.count, {}, {}};
      if (each.from != first_moment) told.from = each.from;
      if (each.to != last_moment) told.to = each.to;
      out.push_back(std::move(told));
    }
  }
  return out;
}

}  // namespace daemoneye::event
