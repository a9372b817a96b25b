#include "base/backoff.h"

#include <algorithm>

namespace daemoneye::base {

Backoff::Backoff(Duration first, Duration max, std::uint64_t seed, Duration floor)
    : first_(first), max_(max), floor_(floor), random_(seed) {}

Backoff::Duration Backoff::next() {
  constexpr unsigned highest_shift = 30;
  const auto ceiling = std::min<std::int64_t>(max_.count(), first_.count() << std::min(attempt_, highest_shift));
  ++attempt_;
  std::uniform_int_distribution<std::int64_t> pick(0, std::max<std::int64_t>(ceiling, 0));
  return std::max(floor_, Duration(pick(random_)));
}

}  // namespace daemoneye::base
