// How fast a total grew lately. Not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>

#include "base/time.h"

namespace daemoneye::observe {

class Rate {
 public:
  static constexpr std::chrono::seconds window{60};
  static constexpr std::size_t max_samples = 64;

  // A total that fell was begun anew: what was before is forgotten. Samples that come closer together than the window
  // has room for are left out.
  void sample(double total, base::SteadyClock::time_point now = base::SteadyClock::now()) {
    if (!samples_.empty() && total < samples_.back().total) samples_.clear();
    if (samples_.size() > 1 && now - samples_[samples_.size() - 2].at < window / max_samples) samples_.pop_back();
    samples_.push_back({now, total});
    while (samples_.size() > 2 && (now - samples_[1].at >= window || samples_.size() > max_samples)) {
      samples_.pop_front();
    }
  }
  // Over the window, or as long as there are samples; nothing before the second one.
  [[nodiscard]] std::optional<double> per_second() const {
    if (samples_.size() < 2) return std::nullopt;
    const std::chrono::duration<double> span = samples_.back().at - samples_.front().at;
    if (span.count() <= 0) return std::nullopt;
    return (samples_.back().total - samples_.front().total) / span.count();
  }

 private:
  struct Sample {
    base::SteadyClock::time_point at;
    double total = 0;
  };
  std::deque<Sample> samples_;
};

}  // namespace daemoneye::observe
