// Rules on the stream: each committed event is shown to each active stream rule exactly once.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "detect/rule.h"
#include "sql/connection.h"
#include "store/writer.h"

namespace daemoneye::detect {

struct EngineOptions {
  std::string store_path, audit_path;
  std::vector<std::string> rule_paths;
  std::chrono::milliseconds rule_timeout{30000};
  std::chrono::milliseconds dedup_window{300000};
  std::string host, agent_version;
  std::uint32_t queue_capacity = 256;  // committed batches that wait; a full queue is caught up from the store
  // Which sinks an alert goes to (alert's routing).
  std::function<std::vector<std::string>(const store::Alert&)> route;
  // Called after an alert and its outbox entries are committed.
  std::function<void()> on_raised;
};

class Engine {
 public:
  // Loads the rules and starts the detection thread, which first catches up from the stream watermark.
  static Result<std::unique_ptr<Engine>> start(EngineOptions options, store::Writer& writer);
  ~Engine();

  // From the writer's thread, after each commit, in order. Never blocks.
  void on_commit(const store::Commit& commit);
  // Loads again in the background (file change, SIGHUP, operator).
  void reload();
  // Processes what is queued until the deadline, then stops.
  void stop(Deadline deadline);

  struct RuleState {
    std::string rule_id, state, reason;
    std::uint64_t evaluations = 0, matches = 0, timeouts = 0;
    double p50_ms = 0, p99_ms = 0;
  };
  struct State {
    std::size_t active = 0, inactive = 0, unhealthy = 0;
    event::EventId evaluated_to = 0;
    std::uint64_t alerts = 0, merged = 0;
    std::vector<RuleState> rules;
  };
  [[nodiscard]] State state() const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What `rules test` does: the rule over stored history in `range`, without alerts; each matching row.
Result<sql::RunStats> test_rule(sql::Connection& connection, const LoadedRule& rule, const event::TimeRange& range,
                                const sql::RunOptions& options,
                                const std::function<bool(const sql::Row&)>& each);

}  // namespace daemoneye::detect
