// Exponential backoff with full jitter: the n-th delay is uniform in [0, min(max, first * 2^n)], at least `floor`.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>

namespace daemoneye::base {

class Backoff {
 public:
  using Duration = std::chrono::milliseconds;
  Backoff(Duration first, Duration max, std::uint64_t seed, Duration floor = Duration(0));
  Duration next();
  void reset() { attempt_ = 0; }
  [[nodiscard]] unsigned attempts() const { return attempt_; }

 private:
  Duration first_, max_, floor_;
  unsigned attempt_ = 0;
  std::mt19937_64 random_;
};

}  // namespace daemoneye::base
