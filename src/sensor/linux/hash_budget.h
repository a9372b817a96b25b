// A share of one core: a token bucket over this process' own processor time. What was saved while idle (at most
// `burst`) is there for the next files at once, so that small ones do not wait.
#pragma once

#include <algorithm>
#include <chrono>

namespace daemoneye::sensor {

class CpuBudget {
 public:
  using ns = std::chrono::nanoseconds;
  static constexpr ns burst = std::chrono::milliseconds(250);

  // `wall` and `cpu` are readings of ever-growing clocks, the same ones in every call.
  CpuBudget(unsigned percent, ns wall, ns cpu) : percent_(std::max(percent, 1U)), wall_(wall), cpu_(cpu) {}

  // Another share from now on; what was saved stays.
  void set_percent(unsigned percent) { percent_ = std::max(percent, 1U); }

  // How long to rest before more may be done; zero: go on.
  ns rest(ns wall, ns cpu) {
    const auto earned = std::max(wall - wall_, ns(0)) * percent_ / 100;
    const auto spent = std::max(cpu - cpu_, ns(0));
    wall_ = wall;
    cpu_ = cpu;
    saved_ = std::min(saved_ + earned, burst) - spent;
    return saved_ > ns(0) ? ns(0) : (-saved_ + ns(1)) * 100 / percent_ + ns(1);
  }

 private:
  unsigned percent_;
  ns wall_, cpu_;
  ns saved_ = burst;
};

}  // namespace daemoneye::sensor
