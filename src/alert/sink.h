// A place where alerts go. A sink is one file in sinks/ that registers itself by type.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "store/alert.h"

namespace daemoneye::alert {

struct DeliveryResult {
  std::optional<int> response_code;
};

struct DeliveryError {
  std::string message;
  bool permanent = false;  // trying again cannot help
  std::optional<int> response_code;
  std::optional<std::chrono::milliseconds> retry_after = {};  // the receiver asks not to be tried again before
};

struct HealthStatus {
  bool healthy = true;
  std::string reason;
  std::string warning = {};  // healthy, but to be known: alerts leave unencrypted
};

// send() may be called from several threads at once. It returns by itself within its own time-out, and soon after
// `stop` is requested.
class AlertSink {
 public:
  virtual ~AlertSink() = default;
  virtual std::expected<DeliveryResult, DeliveryError> send(const store::Alert& alert, std::stop_token stop) = 0;
  // What is known without asking anyone: returns at once, from any thread.
  virtual HealthStatus health_check() = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;
  virtual void reopen() {}  // SIGHUP
};

struct SinkType {
  std::string type;
  std::vector<config::SinkKey> keys;
  std::function<Result<std::unique_ptr<AlertSink>>(const config::SinkSettings&)> make;
  config::SinkCheck check = {};  // whether keys that are each valid fit together
};
const std::vector<SinkType>& sink_types();
// Tells `config` every type's keys, so that a wrong one is an error of the configuration.
void register_sink_types();
// An unknown type or format is refused with what is available. Format "auto" (or empty) is the sink's own choice.
Result<std::unique_ptr<AlertSink>> make_sink(const config::SinkSettings& settings);
// The formats that there are, for every sink.
const std::vector<std::string>& formats();

// What the agent's user must be able to do so that this sink works.
struct NeededPath {
  std::string path;
  enum class Use : std::uint8_t { read, write_folder } use = Use::read;
};
std::vector<NeededPath> needed_paths(const config::SinkSettings& settings);

// The alert in one of the formats but "template", without a line end.
std::string format_alert(const store::Alert& alert, std::string_view format, bool colour);

}  // namespace daemoneye::alert
