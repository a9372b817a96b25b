#include "observe/latencies.h"

#include <algorithm>
#include <vector>

namespace daemoneye::observe {

void Latencies::add(std::chrono::nanoseconds took) {
  ms_[measured_++ % ms_.size()] = std::chrono::duration<float, std::milli>(took).count();
}

double Latencies::quantile_ms(double q) const {
  const auto count = std::min(measured_, ms_.size());
  if (count == 0) return 0;
  std::vector<float> sorted(ms_.begin(), ms_.begin() + static_cast<std::ptrdiff_t>(count));
  const auto at = std::min(count - 1, static_cast<std::size_t>(q * static_cast<double>(count)));
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(at), sorted.end());
  return static_cast<double>(sorted[at]);
}

}  // namespace daemoneye::observe
