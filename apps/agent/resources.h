// What both daemons take of memory and processor, held against app.memory_budget_mb. Loop thread only.
#pragma once

#include <optional>

#include "agent/collector_peer.h"
#include "observe/health.h"
#include "observe/rate.h"

namespace daemoneye::apps {

class Resources {
 public:
  static constexpr std::chrono::seconds interval{10};  // between two calls of sample()
  // Of one core, over the last minute. Above it health says so; what is promised for 1,600 processes a second.
  static constexpr double cpu_budget_percent = 20;

  // `supervised`: the supervisor, our parent, counts as well.
  Resources(std::uint32_t memory_budget_mb, bool supervised);
  void sample();
  [[nodiscard]] observe::ComponentHealth health(const std::optional<CollectorPeer::Use>& collector) const;
  void publish_metrics(const std::optional<CollectorPeer::Use>& collector) const;

 private:
  struct Sum {
    std::uint64_t agent = 0, supervisor = 0, collector = 0;
    [[nodiscard]] std::uint64_t all() const { return agent + supervisor + collector; }
  };
  [[nodiscard]] Sum resident(const std::optional<CollectorPeer::Use>& collector) const;

  const std::uint64_t budget_bytes_;
  const bool supervised_;
  observe::Rate cpu_;
};

}  // namespace daemoneye::apps
