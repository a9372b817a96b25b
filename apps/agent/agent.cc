#include "agent/agent.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "agent/rules_audit.h"
#include "agent/store_admin.h"
#include "base/memory.h"
#include "common/startup.h"
#include "config/change.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "supervise/supervise.h"

namespace daemoneye::apps {
namespace {

using nlohmann::json;
using observe::Level;

constexpr std::chrono::seconds retention_interval{60};
// Refusals of SQL in the ledger: at most this many, of one user fewer; the rest is counted.
constexpr unsigned max_refusals_a_minute = 30, max_refusals_of_one = 15, max_refusals_an_hour = 300;
constexpr std::size_t max_refusal_bytes = 1024;

}  // namespace

Agent::Agent(EventLoop& loop, const config::Loaded& loaded, Context context)
    : loop_(loop), loaded_(loaded), context_(std::move(context)) {}
Agent::~Agent() = default;

Result<void> Agent::start() {
  const auto& settings = loaded_.settings;
  store::StoreOptions store;
  store.path = settings.database.path;
  store.retention_days = settings.database.retention_days;
  store.max_size_mb = settings.database.max_size_mb;
  store.delivery_retention_days = settings.alerting.delivery_retention_days;
  store.dead_letter_retention_days = settings.alerting.dead_letter_retention_days;
  store.reader_group = context_.reader_group;
  // The collector's window bounds what can be on the way; with room for it the loop never waits for the disk.
  store.queue_capacity = settings.queues.at("events").capacity + settings.ipc.max_pending_records;
  DE_TRY(writer_, open_store(store, settings.database.on_damage == "set_aside", set_aside_));

  readers_ = std::make_unique<store::ReaderPool>(settings.database.path);
  DE_TRY(deliverer_, alert::Deliverer::start(settings.alerting, *readers_, *writer_,
                                             alert::Deliverer::Identity{host_name(), DAEMONEYE_VERSION}));

  detect::EngineOptions detect;
  detect.store_path = settings.database.path;
  detect.readers = readers_.get();
  detect.audit_path = settings.audit.path;
  detect.rule_paths = config::rule_folders(settings);
  detect.rule_timeout = std::chrono::milliseconds(settings.detection.rule_timeout_ms);
  detect.dedup_window = std::chrono::milliseconds(settings.alerting.dedup_window_ms);
  detect.host = host_name();
  detect.agent_version = DAEMONEYE_VERSION;
  detect.queue_capacity = settings.queues.at("detection").capacity;
  detect.covered = [this] { return writer_->covered_until("procmond").value_or(Timestamp{0}); };
  routes_ = settings.alerting.sinks;
  detect.route = [this](const store::Alert& alert) {
    std::lock_guard lock(routes_mutex_);
    return alert::route(routes_, alert);
  };
  alert_admin_ = std::make_unique<AlertAdmin>(loop_, *writer_, *deliverer_, settings.database.path,
                                              [this](const std::string& action, const std::string& payload) {
                                                return audit(action, payload) && collector_->audit_durable();
                                              });
  detect.on_raised = [this] {
    deliverer_->wake();
    alert_admin_->on_raised();
  };
  // From its rules thread, and the first time before there is a collector to tell.
  detect.on_rules = [this](const detect::RuleSet* before, const detect::RuleSet& now) {
    loop_.post([this, payload = rules_audit(before, now)] {
      collector_->audit("rules", payload);
      bundles_->look();
    });
  };
  detect.on_refused = [this](const detect::UnhealthyRule& refused, const detect::RuleProblem& why) {
    const std::string payload = json{{"rule_id", refused.id},
                                     {"file", refused.file},
                                     {"digest", refused.digest},
                                     {"reason", sql::without_quoted(why.message)}}
                                    .dump(-1, ' ', false, json::error_handler_t::replace);
    loop_.post([this, payload] {
      if (may_record_refusal(std::nullopt)) collector_->audit("sql_refused", payload);
    });
  };
  detect.on_over_budget = [this](const std::string& rule_id, const std::string& reason) {
    const std::string payload =
        json{{"rule_id", rule_id}, {"when", "run"}, {"reason", sql::without_quoted(reason)}}.dump(
            -1, ' ', false, json::error_handler_t::replace);
    loop_.post([this, payload] {
      if (may_record_refusal(std::nullopt)) collector_->audit("sql_refused", payload);
    });
  };
  DE_TRY(engine_, detect::Engine::start(std::move(detect), *writer_));
  rule_admin_ = std::make_unique<RuleAdmin>(*engine_, *writer_, settings.database.path,
                                            [this](const std::string& action, const std::string& payload) {
                                              return audit(action, payload) && collector_->audit_durable();
                                            });

  const auto state_folder = settings.database.path.substr(0, settings.database.path.rfind('/'));
  collector_ = std::make_unique<CollectorPeer>(
      loop_, *writer_,
      CollectorPeer::Options{.credit_records = settings.ipc.max_pending_records,
                             .audit_queue_path = state_folder + "/audit-requests",
                             .on_commit = [this](const store::Commit& commit) { engine_->on_commit(commit); }});

  bundles_ = std::make_unique<BundleAudit>(
      settings.bundle.path, [this](const std::string& action, const std::string& payload, std::optional<uid_t> by) {
        return collector_->audit(action, payload, by);
      });

  auto operators = Operators::open(
      loop_,
      {.socket_path = settings.ipc.socket_path,
       .reader_group = context_.reader_group,
       .admin_group = context_.admin_group,
       .collector_uid = context_.collector_uid},
      {.health_json = [this] { return observe::to_json(report(Probes::yes)); },
       .metrics_text = [this] { return metrics_text(); },
       .reload = [this](uid_t by) { return load_again("operator", by); },
       .rotate_audit_key = [this](uid_t by) { return collector_->rotate_key(by); },
       .on_refusal =
           [this](uid_t by, const std::string& payload) {
             // Bounds the nesting, too, which the parser would follow on the stack when it prints.
             if (!may_record_refusal(by) || payload.size() > max_refusal_bytes) return;
             auto refusal = json::parse(payload, nullptr, false);
             if (!refusal.is_object()) return;
             refusal["by_uid"] = by;
             collector_->audit("sql_refused", refusal.dump(-1, ' ', false, json::error_handler_t::replace), by);
           },
       .maintain = [this](uid_t by, const std::string& payload) -> Result<std::string> {
         return maintain_store(*writer_, by, payload, [this](const std::string& action, const std::string& details) {
           return audit(action, details) && collector_->audit_durable();
         });
       },
       .maintenance_json = [this] { return maintenance_json(writer_->maintenance()); },
       .bundle = [this](uid_t by, const std::string& payload) -> Result<void> {
         DE_TRY(const bool imported, bundles_->answer(by, payload));
         // The bundle is in force, whatever else is wrong with the files: health tells that.
         if (!imported) return {};
         [[maybe_unused]] const auto told = load_again("bundle", by);
         return {};
       },
       .bundle_denied = [this](uid_t by) { bundles_->denied(by); },
       .configuration = [this](uid_t by,
                               const std::string& payload) { return record_configuration_change(by, payload); },
       .alerting = [this](uid_t by, const ipc::Request& request,
                          Operators::Handlers::Reply reply) { alert_admin_->answer(by, request, std::move(reply)); },
       .rules = [this](uid_t by, const ipc::Request& request,
                       Operators::Handlers::Reply reply) { rule_admin_->answer(by, request, std::move(reply)); },
       .on_collector = [this](std::unique_ptr<ipc::Connection> connection,
                              ipc::Message hello) { collector_->attach(std::move(connection), std::move(hello)); }});
  if (!operators) return fail(operators.error().code, "ipc.socket_path: " + operators.error().message);
  operators_ = std::move(*operators);

  if (context_.supervised) {
    DE_CHECK(supervise::receive_sockets(
        loop_, supervise::control_fd, [this](UniqueFd socket) { collector_->attach(std::move(socket)); },
        [this] { loop_.stop(); }));
  }
  record_start();
  audit_retention(/*at_start=*/true);
  bundles_->look();
  DE_CHECK(loop_.add_timer(retention_interval, retention_interval, [this] { audit_retention(); }));
  if (!set_aside_.empty()) collector_->audit("store_set_aside", json{{"kept_as", set_aside_}}.dump());
  resources_ = std::make_unique<Resources>(settings.app.memory_budget_mb, context_.supervised);
  DE_CHECK(loop_.add_timer(Resources::interval, Resources::interval, [this, first = true]() mutable {
    resources_->sample();
    // What a storm took for a moment; the allocator would keep it. And once what the start read.
    base::release_free_memory();
    if (std::exchange(first, false)) base::release_read_pages();
  }));
  // So that a rate over them is right from the first one on.
  for (const auto* severity : {"low", "medium", "high", "critical"}) observe::alerts_generated(severity).add(0);
  monitoring_ = std::make_unique<Monitoring>(loop_, settings.metrics,
                                             Monitoring::From{.metrics_text = [this] { return metrics_text(); },
                                                              .health = [this] { return report(Probes::no); }});
  DE_CHECK(monitoring_->start());
  observe::log(Level::info, "agent", "running",
               {{"store", settings.database.path}, {"socket", settings.ipc.socket_path}});
  return {};
}

// In the name of the operator that the payload names, if any.
bool Agent::audit(const std::string& action, const std::string& payload) {
  const auto object = json::parse(payload, nullptr, false);
  const auto by = object.is_object() ? object.find("by_uid") : object.end();
  const bool named = object.is_object() && by != object.end() && by->is_number_unsigned();
  return collector_->audit(action, payload, named ? std::optional<uid_t>(by->get<uid_t>()) : std::nullopt);
}

// What retention took away since the last entry, so that what is missing from the store can be explained. At the start
// what an agent that was killed may have owed.
void Agent::audit_retention(bool at_start) {
  const auto removed = writer_->state().retention_events_removed;
  if (!at_start && removed == retention_told_) return;
  const auto reader = store::Reader::open(loaded_.settings.database.path);
  if (!reader) return;
  const auto left = oldest_left(**reader);
  if (at_start && !left.anything_removed) return;
  json payload = {{"before", base::to_iso(left.time.value_or(base::wall_now()))},
                  {"events", removed - retention_told_}};
  if (left.batch) {
    payload["oldest"] = {{"batch", left.batch->sequence}, {"epoch", event::to_string(left.batch->epoch)}};
  }
  collector_->audit("retention", payload.dump());
  retention_told_ = removed;
}

bool Agent::may_record_refusal(std::optional<uid_t> by) {
  const auto now = base::SteadyClock::now();
  if (now - refusals_.minute > std::chrono::minutes(1)) {
    refusals_.minute = now;
    refusals_.in_minute = 0;
    refusals_.by_user.clear();
    if (refusals_.unrecorded > 0) {
      collector_->audit("sql_refused", json{{"more", std::exchange(refusals_.unrecorded, 0)}}.dump());
    }
  }
  if (now - refusals_.hour > std::chrono::hours(1)) {
    refusals_.hour = now;
    refusals_.in_hour = 0;
  }
  observe::counter("daemoneye_sql_refused_total", "Statements that the SQL front door refused").add();
  // One who has many refused must not keep the others' from being recorded.
  const bool may = refusals_.in_minute < max_refusals_a_minute && refusals_.in_hour < max_refusals_an_hour &&
                   (!by || ++refusals_.by_user[*by] <= max_refusals_of_one);
  if (!may) {
    ++refusals_.unrecorded;
    return false;
  }
  ++refusals_.in_minute;
  ++refusals_.in_hour;
  return true;
}

void Agent::stop(std::chrono::milliseconds grace) {
  const auto deadline = Deadline::after(grace);
  operators_.reset();
  monitoring_.reset();
  if (collector_) {
    audit_retention();
    collector_->audit("stop", json{{"version", DAEMONEYE_VERSION}}.dump());
    // What the line brought is committed and acknowledged before it is closed.
    writer_->drain(deadline);
    collector_->close();
  }
  if (engine_) engine_->stop(deadline);
  if (deliverer_) deliverer_->stop(deadline);
  if (writer_) writer_->close(deadline);
  observe::log(Level::info, "agent", "stopped", {{"in_time", !deadline.expired()}});
}

}  // namespace daemoneye::apps
