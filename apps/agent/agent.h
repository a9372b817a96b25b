// The agent, wired: line to the collector -> store -> detection -> delivery, and the operators' socket.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/alert_admin.h"
#include "agent/bundle_audit.h"
#include "agent/collector_peer.h"
#include "agent/monitoring.h"
#include "agent/operators.h"
#include "agent/resources.h"
#include "agent/rule_admin.h"
#include "alert/delivery.h"
#include "base/event_loop.h"
#include "config/config.h"
#include "detect/engine.h"
#include "observe/health.h"
#include "sandbox/sandbox.h"
#include "store/writer.h"

namespace daemoneye::apps {

class Agent {
 public:
  struct Context {
    sandbox::Reached reached;
    bool supervised = false;  // the collector's line comes from the supervisor
    std::optional<uid_t> collector_uid;
    std::string reader_group, admin_group;
    config::Sources sources;  // that the configuration came from
  };
  Agent(EventLoop& loop, const config::Loaded& loaded, Context context);
  ~Agent();

  // Opens and starts everything; the error names what could not be.
  Result<void> start();
  void reload();  // SIGHUP: the configuration, rules, and files of sinks
  // In order: line, store, detection, delivery. Bounded.
  void stop(std::chrono::milliseconds grace);

 private:
  // agent_reload.cc
  void record_start();
  [[nodiscard]] std::string kept_configuration() const;
  void keep_configuration() const;
  // What changed, as JSON; an error: nothing did, and why.
  Result<std::string> load_again(const std::string& asked_by, std::optional<uid_t> by);
  Result<void> check_new(const config::Settings& wanted) const;
  Result<void> take_up(const config::Settings& wanted);
  Result<void> record_configuration_change(uid_t by, const std::string& payload);
  void refuse_reload(const std::vector<std::string>& problems, const std::string& asked_by, std::optional<uid_t> by);
  bool audit(const std::string& action, const std::string& payload);
  void audit_retention(bool at_start = false);
  // agent_health.cc. Probes read from the store and commit to it, which takes a while and writes.
  enum class Probes : bool { no, yes };
  [[nodiscard]] std::vector<observe::ComponentHealth> report(Probes probes);
  [[nodiscard]] observe::ComponentHealth store_health(Probes probes) const;
  [[nodiscard]] observe::ComponentHealth rules_health(const detect::Engine::State& state) const;
  [[nodiscard]] observe::ComponentHealth detection_health(const detect::Engine::State& state) const;
  [[nodiscard]] observe::ComponentHealth config_health() const;
  [[nodiscard]] observe::ComponentHealth agent_health() const;
  [[nodiscard]] std::string metrics_text();
  void publish_metrics();
  // Counts a refusal of the SQL front door; whether it may go into the ledger, which is not anybody's to fill.
  bool may_record_refusal(std::optional<uid_t> by);

  EventLoop& loop_;
  config::Loaded loaded_;  // in force: as it was at the start, but for live keys that a reload changed
  struct ReloadState {
    std::optional<Timestamp> at;             // the last that was taken up
    std::vector<std::string> at_next_start;  // keys whose new value waits for that
    std::vector<std::string> problems;       // why the last one was refused; none: it was not
    std::optional<Timestamp> refused_at;
  } reload_;
  mutable std::mutex routes_mutex_;
  std::vector<config::SinkSettings> routes_;  // as new alerts go
  Context context_;
  std::unique_ptr<store::Writer> writer_;
  std::unique_ptr<store::ReaderPool> readers_;  // all of this process that read the store
  std::unique_ptr<alert::Deliverer> deliverer_;
  std::unique_ptr<AlertAdmin> alert_admin_;
  std::unique_ptr<RuleAdmin> rule_admin_;
  std::unique_ptr<detect::Engine> engine_;
  std::unique_ptr<CollectorPeer> collector_;
  std::unique_ptr<BundleAudit> bundles_;
  std::unique_ptr<Operators> operators_;
  std::unique_ptr<Resources> resources_;
  std::unique_ptr<Monitoring> monitoring_;
  std::string set_aside_;  // the damaged store's file, when one was set aside at this start
  struct Refusals {
    base::SteadyClock::time_point minute{}, hour{};
    unsigned in_minute = 0, in_hour = 0;
    std::map<uid_t, unsigned> by_user;  // in this minute
    std::uint64_t unrecorded = 0;
  } refusals_;
  std::uint64_t retention_told_ = 0;  // events removed, of which the ledger knows
};

}  // namespace daemoneye::apps
