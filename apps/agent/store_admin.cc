#include "agent/store_admin.h"

#include <algorithm>
#include <future>
#include <nlohmann/json.hpp>

#include "observe/log.h"
#include "store/reader.h"
#include "store/store_file.h"
#include "store/store_metrics.h"

namespace daemoneye::apps {
namespace {

using nlohmann::json;
using observe::ComponentHealth;
using observe::HealthState;

// Who asks for health waits for the store's commit, and with it the agent's loop: not for long.
constexpr std::chrono::milliseconds probe_patience{1000};
constexpr std::size_t gaps_shown = 5;
constexpr std::string_view collector_source = "procmond";
constexpr std::size_t max_foreign_batches = 10'000;  // looked at before the collector's oldest

std::string number(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.3f", value);
  return buffer;
}

double milliseconds_since(base::SteadyClock::time_point begin) {
  return std::chrono::duration<double, std::milli>(base::SteadyClock::now() - begin).count();
}

void degrade(ComponentHealth& health, HealthState state, const std::string& reason) {
  health.state = std::max(health.state, state);
  health.reason += (health.reason.empty() ? "" : "; ") + reason;
}

void tell_state(ComponentHealth& health, const store::Writer::State& state, const config::Settings& settings) {
  if (state.paused) degrade(health, HealthState::failed, "writes fail, ingestion waits: " + state.reason);
  health.details["events_committed"] = std::to_string(state.events);
  health.details["batches"] = std::to_string(state.batches);
  health.details["blocks"] = std::to_string(state.blocks);
  health.details["commit_p50_ms"] = number(state.commit_p50_ms);
  health.details["commit_p99_ms"] = number(state.commit_p99_ms);
  health.details["file_bytes"] = std::to_string(state.file_bytes);
  health.details["wal_bytes"] = std::to_string(state.wal_bytes);
  health.details["queue"] = std::to_string(static_cast<std::uint64_t>(store::queue_depth_gauge().value())) + " of " +
                            std::to_string(settings.queues.at("events").capacity + settings.ipc.max_pending_records);
  health.details["max_size_bytes"] = std::to_string(std::uint64_t{settings.database.max_size_mb} * 1024 * 1024);
  health.details["retention_days"] = std::to_string(settings.database.retention_days);
  health.details["events_removed_by_retention"] = std::to_string(state.retention_events_removed);
  health.details["rows_removed_by_retention"] = std::to_string(state.retention_rows_removed);
  const auto limit = std::uint64_t{settings.database.max_size_mb} * 1024 * 1024;
  if (state.retention_events_by_size > 0) {
    health.details["events_removed_by_size"] = std::to_string(state.retention_events_by_size);
    degrade(health, HealthState::degraded,
            "database.max_size_mb (" + std::to_string(settings.database.max_size_mb) + ") cuts history short of " +
                std::to_string(settings.database.retention_days) + " days");
  }
  if (state.over_size) {
    degrade(health, HealthState::degraded, "larger than database.max_size_mb, and nothing is left that may be removed");
  }
  if (!state.retention_damage.empty()) {
    degrade(health, HealthState::degraded,
            "what retention or a purge had to remove is damaged (daemoneye db check tells where): " +
                state.retention_damage);
  }
  if (!state.sealing_error.empty()) {
    degrade(health, HealthState::degraded,
            "events are stored, but cannot be sealed into blocks, which are smaller and searched sooner (daemoneye db "
            "check tells of damage): " +
                state.sealing_error);
  }
  if (!state.checkpoint_error.empty()) {
    degrade(health, HealthState::failed,
            "events are stored in the write-ahead log (" + std::to_string(state.wal_bytes / (1024 * 1024)) +
                " MiB), which cannot go into the file: " + state.checkpoint_error);
  }
  if (!state.housekeeping_error.empty()) {
    degrade(health, HealthState::degraded, "housekeeping fails, and retention with it: " + state.housekeeping_error);
  }
  if (state.wal_pinned_s) {
    std::string who;
    for (const auto& holder : state.wal_pinned_by) who += (who.empty() ? "" : ", ") + holder;
    const bool too_large = state.file_bytes + state.wal_bytes > limit;
    degrade(health, too_large ? HealthState::failed : HealthState::degraded,
            (who.empty() ? "a reader that is not known" : who) + " holds an old snapshot for " +
                std::to_string(static_cast<long long>(*state.wal_pinned_s)) +
                " s: the write-ahead log cannot shrink (" + std::to_string(state.wal_bytes / (1024 * 1024)) + " MiB)" +
                (too_large ? " and the store is larger than database.max_size_mb" : ""));
  }
}

void probe_commit(ComponentHealth& health, store::Writer& writer) {
  const auto begin = base::SteadyClock::now();
  // Shared with a callback that may come after we have given up.
  const auto done = std::make_shared<std::promise<Result<void>>>();
  auto committed = done->get_future();
  writer.probe([done](Result<void> result) { done->set_value(std::move(result)); });
  if (committed.wait_for(probe_patience) != std::future_status::ready) {
    degrade(health, HealthState::degraded,
            "a commit takes longer than " + std::to_string(probe_patience.count()) + " ms");
    return;
  }
  const auto result = committed.get();
  if (!result) degrade(health, HealthState::failed, "a commit failed: " + result.error().message);
  health.details["commit_ms"] = number(milliseconds_since(begin));
}

void probe_reading(ComponentHealth& health, store::ReaderPool& readers) {
  const auto pool = readers.state();
  health.details["reader_connections"] =
      std::to_string(pool.on_loan + pool.idle) + " of " + std::to_string(pool.capacity);
  const auto opening = base::SteadyClock::now();
  auto reader = readers.take_new(Deadline::after(probe_patience));
  if (!reader) {
    degrade(health, HealthState::failed, "cannot be opened for reading: " + reader.error().message);
    return;
  }
  reader->keep_from_others();
  health.details["open_ms"] = number(milliseconds_since(opening));
  const auto reading = base::SteadyClock::now();
  auto stats = (*reader)->stats();
  if (!stats) {
    degrade(health, HealthState::failed, "cannot be read: " + stats.error().message);
    return;
  }
  health.details["read_ms"] = number(milliseconds_since(reading));
  health.details["events"] = std::to_string(stats->events);
  health.details["live_processes"] = std::to_string(stats->live_processes);
  if (stats->oldest) health.details["oldest"] = base::to_iso(*stats->oldest);
  for (std::size_t i = 0; i < std::min(gaps_shown, stats->recent_gaps.size()); ++i) {
    const auto& gap = stats->recent_gaps[i].gap;
    health.details["gap_" + std::to_string(i + 1)] = gap.reason + " " + base::to_iso(gap.from) + " .. " +
                                                     base::to_iso(gap.to) +
                                                     (gap.count ? " (" + std::to_string(*gap.count) + " events)" : "");
  }
}

}  // namespace

Result<std::unique_ptr<store::Writer>> open_store(const store::StoreOptions& options, bool may_set_aside,
                                                  std::string& set_aside) {
  auto writer = store::Writer::open(options);
  if (writer) return writer;
  const auto& error = writer.error();
  if (error.code != Errc::corrupt) return fail(error.code, "event store " + options.path + ": " + error.message);
  if (!may_set_aside) {
    return fail(error.code, "event store " + options.path + " is damaged: " + error.message +
                                " (daemoneye-cli db check tells more; --set database.on_damage=set_aside keeps this "
                                "file aside and begins a new one)");
  }
  DE_TRY(set_aside, store::set_aside(options.path));
  observe::log(observe::Level::error, "store", "a damaged store was set aside and a new one begun",
               {{"kept_as", set_aside}, {"reason", error.message}});
  return store::Writer::open(options);
}

Result<std::string> maintain_store(store::Writer& writer, uid_t by, const std::string& payload,
                                   const std::function<bool(const std::string& action, const std::string&)>& audit) {
  const auto asked = json::parse(payload, nullptr, false);
  if (!asked.is_object() || !asked.contains("do") || !asked["do"].is_string()) {
    return fail(Errc::invalid_input, "maintain: not understood");
  }
  const auto what = asked["do"].get<std::string>();
  store::MaintenanceRequest request;
  if (what == "compact") {
    request.kind = store::MaintenanceRequest::Kind::compact;
  } else if (what == "analyze") {
    request.kind = store::MaintenanceRequest::Kind::analyze;
  } else if (what == "purge") {
    request.kind = store::MaintenanceRequest::Kind::purge;
    const auto before = asked.find("before");
    // Everything must be asked for in so many words.
    if (before == asked.end() || !(before->is_null() || before->is_number_integer())) {
      return fail(Errc::invalid_input, "maintain: a purge without a moment");
    }
    if (!before->is_null()) request.before = Timestamp{before->get<std::int64_t>()};
  } else {
    return fail(Errc::invalid_input, "maintain: not understood");
  }
  const auto record = [&]() -> Result<void> {
    if (request.kind != store::MaintenanceRequest::Kind::purge) return {};
    const json purge = {{"by_uid", by},
                        {"before", request.before ? json(base::to_iso(*request.before)) : json(nullptr)}};
    if (audit("store_purge", purge.dump())) return {};
    return fail(Errc::limit_exceeded, "a purge that cannot be recorded is not begun: too much waits for the collector");
  };
  DE_TRY(const auto id, writer.start_maintenance(request, record));
  return json{{"id", id}}.dump();
}

OldestLeft oldest_left(store::Reader& reader) {
  OldestLeft left;
  if (const auto stats = reader.stats()) left.time = stats->oldest;
  std::size_t looked_at = 0;
  event::EventId first = 0;
  const auto read = reader.batches([&](const store::Reader::BatchRow& batch) {
    if (looked_at == 0) first = batch.first_event;
    if (batch.id.source == collector_source) left.batch = batch.id;
    return !left.batch && ++looked_at < max_foreign_batches;
  });
  const auto newest = reader.last_event_id();
  left.anything_removed = first > 1 || (read && !left.batch && newest && *newest > 0);
  return left;
}

std::string maintenance_json(const store::MaintenanceState& state) {
  return json{{"id", state.id},
              {"running", state.running},
              {"done", state.done},
              {"total", state.total},
              {"error", state.error},
              {"bytes_freed", state.bytes_freed},
              {"events_removed", state.events_removed},
              {"rows_removed", state.rows_removed},
              {"blocks_kept", state.blocks_kept}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

ComponentHealth store_health(store::Writer& writer, store::ReaderPool& readers, const config::Settings& settings,
                             bool probing) {
  ComponentHealth health{.component = "store", .state = HealthState::ok, .reason = {}, .details = {}};
  auto state = writer.state();
  if (probing && !state.paused) {
    probe_commit(health, writer);
    state = writer.state();
  }
  tell_state(health, state, settings);
  if (probing) probe_reading(health, readers);
  return health;
}

}  // namespace daemoneye::apps
