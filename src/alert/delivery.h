// Delivers what lies in the outbox: concurrently, in order a sink, with retries, and every attempt recorded.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "alert/sink.h"
#include "config/settings.h"
#include "store/reader.h"
#include "store/writer.h"

namespace daemoneye::alert {

// The names of the sinks that want this alert (min_severity).
std::vector<std::string> route(const std::vector<config::SinkSettings>& sinks, const store::Alert& alert);

class Deliverer {
 public:
  static Result<std::unique_ptr<Deliverer>> start(const config::Settings::Alerting& settings,
                                                  const std::string& store_path, store::Writer& writer);
  ~Deliverer();
  void wake();    // new outbox entries are committed; any thread
  void reopen();  // SIGHUP
  // Finishes the attempts under way until the deadline; what is not delivered stays in the outbox.
  void stop(Deadline deadline);

  struct SinkState {
    std::string name, type;
    HealthStatus health;
    std::uint64_t delivered = 0, failed = 0, dead_letters = 0, waiting = 0;
    std::optional<Timestamp> last_success;
  };
  [[nodiscard]] std::vector<SinkState> state() const;

 private:
  struct Impl;
  explicit Deliverer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace daemoneye::alert
