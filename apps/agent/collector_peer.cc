#include "agent/collector_peer.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "observe/log.h"
#include "observe/metrics.h"

namespace daemoneye::apps {

using observe::HealthState;
using observe::Level;

namespace {

constexpr std::size_t max_unanswered_audit = 32;
constexpr std::chrono::milliseconds audit_pause{1000};
constexpr std::chrono::milliseconds room_pause{50};  // until the store is asked again whether it has room
// An acknowledgement waits so long for others, unless this part of what the collector may have on the way waits for it.
constexpr std::chrono::milliseconds acknowledge_after{200};
constexpr std::size_t window_share = 8;
// What only a collector can tell (the contract's components that are its own).
constexpr std::array collector_components = {"collector", "ledger", "capabilities"};

observe::Counter audit_lost_total() {
  return observe::counter("daemoneye_audit_requests_lost_total", "Audit entries dropped while the collector was away");
}

const observe::ComponentHealth* component_of(const std::vector<observe::ComponentHealth>& report,
                                             std::string_view name) {
  const auto found = std::ranges::find(report, name, &observe::ComponentHealth::component);
  return found == report.end() ? nullptr : &*found;
}

std::optional<double> number_of(const observe::ComponentHealth& health, const std::string& detail) {
  const auto found = health.details.find(detail);
  if (found == health.details.end()) return std::nullopt;
  const auto number = base::parse_integer<std::uint64_t>(found->second);
  return number ? std::optional(static_cast<double>(*number)) : std::nullopt;
}

std::string one_decimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

}  // namespace

CollectorPeer::CollectorPeer(EventLoop& loop, store::Writer& writer, Options options)
    : loop_(loop),
      writer_(writer),
      options_(std::move(options)),
      audit_queue_(ipc::AuditQueue::open(options_.audit_queue_path)),
      here_(std::make_shared<bool>(true)) {
  audit_lost_ = audit_queue_.left_out();
  audit_lost_total().add(0);  // there from the start, so that an alert on its increase sees the first one
  last_beat_ = base::SteadyClock::now();
}

CollectorPeer::~CollectorPeer() {
  *here_ = false;
  if (audit_pause_) loop_.remove_timer(*audit_pause_);
  if (deferred_pause_) loop_.remove_timer(*deferred_pause_);
  if (acknowledge_timer_) loop_.remove_timer(*acknowledge_timer_);
}

ipc::Connection::Handlers CollectorPeer::handlers() {
  return {.on_message = [this](ipc::Message message) { on_message(std::move(message)); },
          .on_close = [this](const std::string& why) { end(why.empty() ? "the collector closed it" : why); },
          .on_drained = {}};
}

void CollectorPeer::Ingest::took(Timestamp first_event, Timestamp committed) {
  const std::chrono::nanoseconds span(std::max<std::int64_t>(committed.ns - first_event.ns, 0));
  seconds.observe(std::chrono::duration<double>(span).count());
  const std::scoped_lock held(mutex);
  latencies.add(span);
}

void CollectorPeer::take(std::unique_ptr<ipc::Connection> connection) {
  if (connection_) end("replaced by a new line");
  connection_ = std::move(connection);
  ++line_;
  committed_ = std::make_shared<std::atomic<std::uint64_t>>(0);
  received_ = acknowledged_ = 0;
  unacknowledged_ = {};
}

void CollectorPeer::attach(UniqueFd socket) {
  auto connection = ipc::Connection::adopt(loop_, std::move(socket), handlers());
  if (!connection) {
    observe::log(Level::error, "ipc", "cannot use the line to the collector", {{"error", connection.error().message}});
    return;
  }
  take(std::move(*connection));
}

void CollectorPeer::attach(std::unique_ptr<ipc::Connection> connection, ipc::Message hello) {
  connection->set_handlers(handlers());
  take(std::move(connection));
  on_message(std::move(hello));
}

void CollectorPeer::send(const ipc::Message& message) {
  if (!connection_) return;
  if (auto sent = connection_->send(message); !sent) end(sent.error().message);
}

// What it claimed may lie in a future that was the present before the clock was set back.
void CollectorPeer::set_gone() {
  alive_ = std::min(alive_, base::wall_now());
  if (hello_) writer_.set_collector(hello_->source, false, alive_);
}

void CollectorPeer::end(const std::string& why) {
  if (!connection_) return;
  observe::log(Level::warn, "ipc", "line to the collector ended", {{"why", why}});
  last_end_ = why;
  set_gone();
  audit_queue_.disconnected();
  deferred_.clear();  // not acknowledged: they come again
  receiver_.reset();
  hello_.reset();
  connection_.reset();
}

void CollectorPeer::close() {
  if (!connection_) return;
  acknowledge();
  set_gone();
  connection_->flush_and_close(Deadline::after(std::chrono::seconds(1)));
  connection_.reset();
}

void CollectorPeer::on_message(ipc::Message message) {
  if (const auto* hello = std::get_if<ipc::Hello>(&message)) {
    on_hello(*hello);
  } else if (!receiver_) {
    end("the collector spoke before its greeting");
  } else if (const auto* resume = std::get_if<ipc::Resume>(&message)) {
    if (auto resumed = receiver_->on_resume(*resume); !resumed) end(resumed.error().message);
  } else if (auto* batch = std::get_if<ipc::BatchMessage>(&message)) {
    on_batch(std::move(*batch));
  } else if (const auto* beat = std::get_if<ipc::Heartbeat>(&message)) {
    on_beat(*beat);
  } else if (const auto* reply = std::get_if<ipc::Reply>(&message)) {
    on_reply(*reply);
  } else {
    end("the collector sent a message that is not for an agent");
  }
}

void CollectorPeer::on_beat(const ipc::Heartbeat& beat) {
  last_beat_ = base::SteadyClock::now();
  alive_ = beat.time;  // not always later than the last one: the clock may have been set back
  // A beat from before this epoch: the gap up to its start is not stored yet, and must not look covered.
  writer_.set_collector(hello_->source, beat.time >= hello_->epoch_started, alive_);
  if (!beat.health_json.empty()) {
    if (auto report = observe::parse_health(beat.health_json)) collector_health_ = std::move(*report);
  }
  if (const auto* collector = component_of(collector_health_, "collector")) {
    if (const auto events = number_of(*collector, "events_emitted")) event_rate_.sample(*events);
    if (const auto cpu = number_of(*collector, "cpu_ms")) cpu_rate_.sample(*cpu / 1000);
  }
  if (!beat.metrics_text.empty()) observe::set_foreign_metrics("procmond", beat.metrics_text);
}

void CollectorPeer::on_reply(const ipc::Reply& reply) {
  // A full disk or too many requests at once are no reason to forget who did what.
  const bool for_good = reply.error == Errc::invalid_input || reply.error == Errc::limit_exceeded;
  if (reply.error && !for_good && audit_queue_.put_back(reply.id)) {
    if (audit_pause_) return;
    auto timer = loop_.add_timer(audit_pause, std::chrono::nanoseconds(0), [this] {
      audit_pause_.reset();
      send_waiting_audit();
    });
    if (timer) audit_pause_ = *timer;
    return;
  }
  const bool ours = audit_queue_.answered(reply.id);
  if (reply.error) {
    audit_refused_ += ours ? 1 : 0;
    observe::log(Level::error, "ledger", ours ? "audit entry was refused" : "the collector refused a request",
                 {{"error", reply.message}});
  }
  if (ours) send_waiting_audit();
}

void CollectorPeer::on_hello(const ipc::Hello& hello) {
  if (receiver_) {
    end("the collector greeted twice");
    return;
  }
  if (auto checked = ipc::check_hello(hello); !checked) {
    end(checked.error().message);
    return;
  }
  hello_ = hello;
  last_beat_ = base::SteadyClock::now();
  collector_health_.clear();  // what is known is of another one
  event_rate_ = {};
  cpu_rate_ = {};
  const auto committed = writer_.committed_sequence(hello.source, hello.epoch);
  receiver_.emplace(hello, committed);
  ipc::Welcome welcome;
  welcome.store_id = writer_.store_id();
  welcome.committed_sequence = committed;
  welcome.credit_records = options_.credit_records;
  welcome.covered_until = writer_.covered_until(hello.source);
  if (welcome.covered_until) alive_ = *welcome.covered_until;
  observe::log(
      Level::info, "ipc", "collector connected",
      {{"version", hello.program_version}, {"epoch", event::to_string(hello.epoch)}, {"committed", committed}});
  send(welcome);
  send_waiting_audit();
}

void CollectorPeer::on_batch(ipc::BatchMessage message) {
  if (!deferred_.empty() || !writer_.has_room()) {
    deferred_.push_back(std::move(message));
    if (deferred_.size() == 1) commit_deferred();
    return;
  }
  commit(std::move(message));
}

void CollectorPeer::commit_deferred() {
  while (!deferred_.empty() && writer_.has_room()) {
    auto message = std::move(deferred_.front());
    deferred_.pop_front();
    commit(std::move(message));
  }
  if (deferred_.empty() || deferred_pause_) return;
  auto timer = loop_.add_timer(room_pause, std::chrono::nanoseconds(0), [this] {
    deferred_pause_.reset();
    commit_deferred();
  });
  if (timer)
    deferred_pause_ = *timer;
  else
    end("no timer to wait for the store with: " + timer.error().message);
}

void CollectorPeer::commit(ipc::BatchMessage message) {
  const auto sequence = message.sequence;
  auto outcome = receiver_->on_batch(std::move(message));
  if (!outcome) {
    observe::counter("daemoneye_ipc_refused_batches_total", "Batches that failed their checks").add();
    end(outcome.error().message);
    return;
  }
  if (outcome->again) send(*outcome->again);
  if (!outcome->batch) return;
  auto& batch = *outcome->batch;
  std::optional<event::Gap> missing;
  if (const auto& gone = batch.missing) {
    // An empty range: only earlier epochs are missing. The collector's own gap event says the same in the same words.
    missing = gone->last_sequence < gone->first_sequence
                  ? event::Gap{"collector_unavailable", gone->from, gone->to, std::nullopt}
                  : event::Gap{"store_rolled_back", gone->from, gone->to, gone->events};
  }
  received_ = sequence;
  const bool at_once = acknowledges_now(batch.events);
  writer_.commit_batch(
      std::move(batch.id), std::move(batch.canonical), batch.digest, std::move(batch.scan),
      [this, here = here_, line = line_, committed = committed_, sequence, at_once, first_event = batch.first_event,
       ingest = ingest_](const Result<store::Commit>& commit) {
        if (!commit) {
          loop_.post([this, here, line, why = commit.error()] {
            if (*here) not_committed(line, why);
          });
          return;
        }
        if (!commit->duplicate && options_.on_commit) options_.on_commit(*commit);
        if (!commit->duplicate && first_event) ingest->took(*first_event, commit->time);
        committed->store(sequence);
        if (!at_once) return;
        loop_.post([this, here] {
          if (*here) acknowledge();
        });
      },
      std::move(missing));
}

void CollectorPeer::not_committed(std::uint64_t line, const Error& why) {
  observe::log(Level::error, "store", "batch was not committed", {{"error", why.message}});
  if (line == line_) end("the store did not take a batch: " + why.message);
}

bool CollectorPeer::acknowledges_now(std::size_t events) {
  ++unacknowledged_.batches;
  unacknowledged_.events += events;
  if (unacknowledged_.batches >= ipc::acknowledged_together ||
      unacknowledged_.events >= options_.credit_records / window_share) {
    unacknowledged_ = {};
    return true;
  }
  return !acknowledge_later();
}

// False: there is no timer to be had.
bool CollectorPeer::acknowledge_later() {
  if (acknowledge_timer_) return true;
  auto timer = loop_.add_timer(acknowledge_after, std::chrono::nanoseconds(0), [this] {
    acknowledge_timer_.reset();
    acknowledge();
    // What is not committed yet asks for another look.
    if (acknowledged_ < received_) acknowledge_later();
  });
  if (!timer) return false;
  acknowledge_timer_ = *timer;
  return true;
}

void CollectorPeer::acknowledge() {
  // On another line the next greeting tells what is committed.
  if (!receiver_) return;
  const auto committed = committed_->load();
  if (committed <= acknowledged_) return;
  acknowledged_ = committed;
  send(receiver_->on_committed(committed));
}

Result<void> CollectorPeer::rotate_key(uid_t by) {
  if (!connection_ || !receiver_) return fail(Errc::unavailable, "the collector (procmond) is not connected");
  ipc::Request request;
  request.id = next_request_++;
  request.kind = ipc::RequestKind::rotate_key;
  request.payload = "{\"actor\":\"uid:" + std::to_string(by) + " (asserted by agent)\"}";
  send(request);
  return {};
}

void CollectorPeer::reload_configuration() {
  if (!connection_ || !receiver_) return;  // a signal reaches it, too; else it starts with the files as they are then
  ipc::Request request;
  request.id = next_request_++;
  request.kind = ipc::RequestKind::reload_configuration;
  request.payload = "{}";
  send(request);
}

bool CollectorPeer::audit(const std::string& action, const std::string& payload_json, std::optional<uid_t> by) {
  const std::string actor = by ? "uid:" + std::to_string(*by) + " (asserted by agent)" : "agent";
  if (!audit_queue_.push(R"({"actor":)" + base::json_quote(actor) + R"(,"action":)" + base::json_quote(action) +
                         R"(,"payload":)" + payload_json + "}")) {
    ++audit_lost_;
    audit_lost_total().add();
    return false;
  }
  send_waiting_audit();
  return true;
}

void CollectorPeer::send_waiting_audit() {
  while (connection_ && receiver_ && !audit_pause_ && audit_queue_.waiting() > 0 &&
         audit_queue_.unanswered() < max_unanswered_audit) {
    ipc::Request request;
    request.id = next_request_++;
    request.kind = ipc::RequestKind::append_audit;
    request.payload = *audit_queue_.next(request.id);
    send(request);
  }
}

void CollectorPeer::complete_report(observe::ComponentHealth& collector) const {
  const auto degrade = [&](HealthState state, const std::string& reason) {
    collector.state = std::max(collector.state, state);
    collector.reason += (collector.reason.empty() ? "" : "; ") + reason;
  };
  collector.details["version"] = hello_->program_version;
  collector.details["connected_since"] = base::to_iso(hello_->epoch_started);
  if (hello_->program_version != DAEMONEYE_VERSION) {
    degrade(HealthState::degraded, "procmond is of version " + hello_->program_version +
                                       ", the agent of version " DAEMONEYE_VERSION ": one of them must be restarted");
  }
  if (const auto rate = event_rate_.per_second()) collector.details["events_per_second"] = one_decimal(*rate);
  if (const std::scoped_lock held(ingest_->mutex); !ingest_->latencies.empty()) {
    collector.details["ingest_p50_ms"] = one_decimal(ingest_->latencies.quantile_ms(0.5));
    collector.details["ingest_p99_ms"] = one_decimal(ingest_->latencies.quantile_ms(0.99));
  }
  const auto silent = std::chrono::duration_cast<std::chrono::seconds>(base::SteadyClock::now() - last_beat_);
  if (silent >= late_beat) {
    degrade(silent >= missing_beat ? HealthState::failed : HealthState::degraded,
            "the collector (procmond) is connected, but has not spoken for " + std::to_string(silent.count()) + " s");
  }
}

std::vector<observe::ComponentHealth> CollectorPeer::health() const {
  std::vector<observe::ComponentHealth> report;
  if (connection_ && receiver_) {
    report = collector_health_;
    if (component_of(report, "collector") == nullptr) {
      report.push_back({.component = "collector",
                        .state = HealthState::degraded,
                        .reason = "connected, but it has not reported yet",
                        .details = {}});
    }
    for (auto& component : report) {
      if (component.component == "collector") complete_report(component);
    }
  } else {
    std::string reason = "the collector (procmond) is not connected: nothing new is seen";
    if (!last_end_.empty()) reason += " (" + last_end_ + ")";
    report.push_back({.component = "collector",
                      .state = HealthState::failed,
                      .reason = reason,
                      .details = {{"covered_until", base::to_iso(alive_)}}});
  }
  for (const auto* name : collector_components) {
    if (component_of(report, name) != nullptr) continue;
    report.push_back({.component = name,
                      .state = connection_ && receiver_ ? HealthState::degraded : HealthState::failed,
                      .reason = "not known: only the collector (procmond) can tell",
                      .details = {}});
  }
  observe::ComponentHealth audit{.component = "audit_requests", .state = HealthState::ok, .reason = {}, .details = {}};
  audit.details["waiting"] = std::to_string(audit_queue_.waiting());
  audit.details["unanswered"] = std::to_string(audit_queue_.unanswered());
  audit.details["lost"] = std::to_string(audit_lost_);
  if (audit_lost_ + audit_refused_ > 0) {
    audit.state = HealthState::degraded;
    audit.reason = std::to_string(audit_lost_ + audit_refused_) + " audit entries of the agent are not in the ledger";
  }
  if (!audit_queue_.problem().empty()) {
    audit.state = HealthState::degraded;
    audit.reason += (audit.reason.empty() ? "" : "; ") + ("they are kept in memory alone: " + audit_queue_.problem());
  }
  report.push_back(std::move(audit));
  return report;
}

std::optional<CollectorPeer::Use> CollectorPeer::use() const {
  const auto* collector = connection_ && receiver_ ? component_of(collector_health_, "collector") : nullptr;
  if (collector == nullptr) return std::nullopt;
  const auto own = number_of(*collector, "memory_own_bytes"), files = number_of(*collector, "memory_file_bytes");
  if (!own || !files) return std::nullopt;
  Use use{.own_bytes = static_cast<std::uint64_t>(*own),
          .file_bytes = static_cast<std::uint64_t>(*files),
          .cpu_percent = std::nullopt};
  if (const auto cores = cpu_rate_.per_second()) use.cpu_percent = *cores * 100;
  return use;
}

void CollectorPeer::publish_metrics() const {
  observe::gauge("daemoneye_collector_connected", "1 while the collector is connected to the agent")
      .set(connection_ && receiver_ ? 1 : 0);
  const auto silent = std::chrono::duration<double>(base::SteadyClock::now() - last_beat_).count();
  observe::gauge("daemoneye_collector_silent_seconds", "Since the collector spoke last, or the agent started")
      .set(silent);
  observe::gauge("daemoneye_audit_requests_waiting", "Audit entries of the agent that are not in the ledger yet")
      .set(static_cast<double>(audit_queue_.waiting() + audit_queue_.unanswered()));
}

}  // namespace daemoneye::apps
