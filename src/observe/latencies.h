// How long the last of something took: quantiles over a bounded number of measurements. Not thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

namespace daemoneye::observe {

class Latencies {
 public:
  void add(std::chrono::nanoseconds took);
  [[nodiscard]] double quantile_ms(double q) const;  // 0 without any
  [[nodiscard]] bool empty() const { return measured_ == 0; }

 private:
  std::array<float, 512> ms_{};
  std::size_t measured_ = 0;
};

}  // namespace daemoneye::observe
