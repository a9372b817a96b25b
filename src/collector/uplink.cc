#include "collector/uplink.h"

#include <algorithm>
#include <cstring>

#include "observe/log.h"
#include "observe/metrics.h"

namespace daemoneye::collector {
namespace {

using observe::Level;

// Leaves room in a batch for its header and for the largest single event.
constexpr std::size_t batch_target_bytes = 768 * 1024;
constexpr std::size_t max_event_bytes = event::max_batch_bytes - batch_target_bytes - 1024;
constexpr std::chrono::milliseconds ledger_retry{1000};
constexpr int flush_slack = 8;  // what is so small a part of the interval early leaves at once

// An agent that is a little behind, as in every storm, is not worth the work of compressing what waits for it.
ipc::BatchSender::Limits limits(std::size_t max_held_bytes) {
  constexpr std::size_t plain_share = 4;
  ipc::BatchSender::Limits limits{.max_held_bytes = max_held_bytes};
  limits.max_plain_bytes = std::max(limits.max_plain_bytes, max_held_bytes / plain_share);
  return limits;
}

event::Epoch random_epoch() {
  event::Epoch epoch{};
  const auto bytes = base::random_bytes(epoch.size());
  std::memcpy(epoch.data(), bytes.data(), epoch.size());
  return epoch;
}

}  // namespace

Uplink::Uplink(EventLoop& loop, ledger::Ledger& ledger, Options options, Handlers handlers)
    : loop_(loop),
      ledger_(ledger),
      options_(std::move(options)),
      handlers_(std::move(handlers)),
      epoch_(random_epoch()),
      epoch_started_(base::wall_now()),
      sender_(options_.source, epoch_, limits(options_.max_held_bytes)),
      alive_(std::make_shared<bool>(true)) {}

Uplink::~Uplink() {
  *alive_ = false;
  if (flush_timer_) loop_.remove_timer(*flush_timer_);
  if (retry_timer_) loop_.remove_timer(*retry_timer_);
}

bool Uplink::make_room() {
  const auto full = [&] { return encoded_events_ >= options_.batch_events || encoded_.size() >= batch_target_bytes; };
  if (full()) make_batch();
  return !full() && sender_.has_room(encoded_.size() + batch_target_bytes);
}

bool Uplink::add(const event::ProcessEvent& event) {
  if (offer(event)) return true;
  shed(1, event.time, event.time);
  return false;
}

bool Uplink::offer(const event::ProcessEvent& event) {
  if (!owed_.empty() || shed_.events != 0) tell_owed_gaps();
  if (!make_room()) return false;
  append(event);
  return true;
}

// Events are not in the order of their times: some are told late, and the clock may be set back.
void Uplink::shed(std::uint64_t events, Timestamp from, Timestamp to) {
  const auto last = std::max(to, base::wall_now());
  shed_.from = shed_.events == 0 ? from : std::min(shed_.from, from);
  shed_.to = shed_.events == 0 ? last : std::max(shed_.to, last);
  shed_.events += events;
  counters_.shed += events;
}

void Uplink::add_gap(const event::Gap& gap) {
  if (handlers_.on_gap) handlers_.on_gap(gap);
  const auto same = std::ranges::find(owed_, gap.reason, &event::Gap::reason);
  if (owed_.size() >= max_owed_gaps && same != owed_.end()) {
    same->from = std::min(same->from, gap.from);
    same->to = std::max(same->to, gap.to);
    if (same->count && gap.count)
      *same->count += *gap.count;
    else
      same->count.reset();
  } else {
    owed_.push_back(gap);
  }
  tell_owed_gaps();
}

void Uplink::tell_owed_gaps() {
  while (make_room()) {
    if (shed_.events != 0) {
      const event::Gap gap{"events_shed", shed_.from, shed_.to, shed_.events};
      shed_ = {};
      if (handlers_.on_gap) handlers_.on_gap(gap);
      owed_.push_back(gap);
    }
    if (owed_.empty()) return;
    append(event::make_gap_event(owed_.front(), options_.gap_source, base::wall_now()));
    hole_ = {hole_ ? std::min(hole_->from, owed_.front().from) : owed_.front().from, sender_.next_sequence()};
    owed_.pop_front();
  }
}

void Uplink::append(const event::ProcessEvent& event) {
  const std::size_t before = encoded_.size();
  event::encode_event(event, encoded_);
  if (encoded_.size() - before > max_event_bytes) {
    // Text fields are bounded one by one; all at their bound together still do not fit a batch.
    encoded_.resize(before);
    shed(1, event.time, event.time);  // trying again would not make it smaller
    observe::log(Level::warn, "collector", "event larger than a batch was dropped",
                 {{"pid", std::uint64_t{event.process.key.pid}}, {"name", event.process.name}});
    return;
  }
  if (encoded_events_ == 0) first_time_ = event.time;
  last_time_ = std::max(event.time, encoded_events_ == 0 ? event.time : last_time_);
  first_time_ = std::min(event.time, first_time_);
  ++encoded_events_;
  ++counters_.events;
  schedule_flush();
}

void Uplink::add_scan(const event::ScanSummary& scan) {
  auto encoded = event::encode_scan(scan);
  if (!sender_.has_room(encoded_.size() + encoded.size() + batch_target_bytes)) {
    ++counters_.scans_shed;
    return;
  }
  scan_ = std::move(encoded);
  schedule_flush();
}

// At a low rate an event leaves at once; under load it waits for others, at most flush_interval.
void Uplink::schedule_flush() {
  if (flush_posted_ || flush_timer_) return;
  const auto since = base::SteadyClock::now() - last_flush_;
  // A source that is looked at as often as batches leave must not miss its batch by the length of a look.
  if (since >= options_.flush_interval - options_.flush_interval / flush_slack) {
    flush_posted_ = true;
    // Posted, not done here: the events of the same wake-up share the batch.
    loop_.post([this, alive = alive_] {
      if (*alive) flush();
    });
    return;
  }
  auto timer =
      loop_.add_timer(options_.flush_interval - since, std::chrono::nanoseconds(0), [this] { on_flush_timer(); });
  if (timer)
    flush_timer_ = *timer;
  else
    flush();
}

void Uplink::on_flush_timer() {
  flush_timer_.reset();
  if (agent_is_behind() && deferred_ + 1 < max_deferrals) {
    auto timer = loop_.add_timer(options_.flush_interval, std::chrono::nanoseconds(0), [this] { on_flush_timer(); });
    if (timer) {
      flush_timer_ = *timer;
      ++deferred_;
      ++counters_.deferrals;
      return;
    }
  }
  flush_posted_ = true;  // what comes now needs nothing else to leave
  if (handlers_.on_leave) handlers_.on_leave();
  flush();
}

void Uplink::flush() {
  flush_posted_ = false;
  deferred_ = 0;
  if (flush_timer_) {
    loop_.remove_timer(*flush_timer_);
    flush_timer_.reset();
  }
  tell_owed_gaps();
  make_batch();
  last_flush_ = base::SteadyClock::now();
}

void Uplink::make_batch() {
  if (encoded_events_ == 0 && scan_.empty()) return;
  if (!unrecorded_.empty()) return;  // one at a time waits for the ledger; the rest waits as events
  if (encoded_events_ == 0) first_time_ = last_time_ = base::wall_now();
  auto prepared = sender_.prepare(encoded_events_, encoded_, std::move(scan_), first_time_, last_time_);
  scan_.clear();
  if (!prepared) {
    // The bounds above make this impossible; if it happens the events are counted as lost, and it is said.
    observe::log(Level::error, "collector", "batch could not be encoded", {{"error", prepared.error().message}});
    shed(encoded_events_, first_time_, last_time_);
  } else {
    unrecorded_.push_back(std::move(*prepared));
    ++counters_.batches;
  }
  encoded_.clear();
  encoded_events_ = 0;
  record_and_queue();
}

void Uplink::record_and_queue() {
  if (unrecorded_.empty()) return;
  std::vector<ledger::Ledger::BatchDigest> digests;
  digests.reserve(unrecorded_.size());
  for (const auto& prepared : unrecorded_) digests.push_back({epoch_, prepared.message.sequence, prepared.digest});
  if (auto recorded = ledger_.journal_batches(digests); !recorded) {
    ++counters_.ledger_failures;
    if (ledger_problem_.empty()) {
      observe::log(Level::error, "ledger", "cannot record batches; nothing is sent until it can",
                   {{"error", recorded.error().message}});
    }
    ledger_problem_ = recorded.error().message;
    if (!retry_timer_) {
      auto timer = loop_.add_timer(ledger_retry, std::chrono::nanoseconds(0), [this] {
        retry_timer_.reset();
        record_and_queue();
      });
      if (timer) retry_timer_ = *timer;
    }
    return;
  }
  if (!ledger_problem_.empty()) observe::log(Level::info, "ledger", "records batches again");
  ledger_problem_.clear();
  for (auto& prepared : unrecorded_) {
    if (auto queued = sender_.queue(std::move(prepared)); !queued) {
      observe::log(Level::error, "collector", "batch could not be queued", {{"error", queued.error().message}});
    }
  }
  unrecorded_.clear();
  pump();
  // What came while the ledger was unwilling has waited long enough.
  if (encoded_events_ != 0 || !scan_.empty()) schedule_flush();
}

Result<void> Uplink::send(const ipc::Message& message) {
  if (!connection_) return fail(Errc::unavailable, "not connected");
  return connection_->send(message);
}

void Uplink::pump() {
  if (!connected()) return;
  if (auto pumped = sender_.pump([this](const ipc::Message& message) { return send(message); }); !pumped) {
    disconnect(pumped.error().message);
  }
}

void Uplink::attach(UniqueFd socket) {
  if (connection_) disconnect("replaced by a new connection");
  auto connection = ipc::Connection::adopt(
      loop_, std::move(socket),
      {.on_message = [this](ipc::Message message) { on_message(std::move(message)); },
       .on_close = [this](const std::string& why) { disconnect(why.empty() ? "the agent closed it" : why); },
       .on_drained = {}});
  if (!connection) {
    observe::log(Level::error, "ipc", "cannot use the connection to the agent",
                 {{"error", connection.error().message}});
    return;
  }
  connection_ = std::move(*connection);
  ++counters_.connections;
  sent_health_.clear();
  sent_metrics_.clear();
  if (auto sent = send(sender_.hello(epoch_started_, options_.version, options_.host)); !sent) {
    disconnect(sent.error().message);
  }
}

void Uplink::disconnect(const std::string& why) {
  if (!connection_) return;
  observe::log(Level::info, "ipc", "connection to the agent ended", {{"why", why}});
  sender_.on_disconnect();
  connection_.reset();
  if (handlers_.on_disconnected) handlers_.on_disconnected();
}

void Uplink::on_message(ipc::Message message) {
  if (auto* welcome = std::get_if<ipc::Welcome>(&message)) {
    on_welcome(*welcome);
  } else if (auto* acknowledge = std::get_if<ipc::Acknowledge>(&message)) {
    auto taken = sender_.on_acknowledge(*acknowledge, [this](const ipc::Message& answer) { return send(answer); });
    if (!taken) {
      disconnect(taken.error().message);
    } else {
      if (hole_ && (all_acknowledged() || sender_.acknowledged_sequence() >= hole_->sequence)) {
        hole_.reset();
        if (handlers_.on_connected) handlers_.on_connected();  // the record is whole from here on, and may say so
      }
      if (deferred_ > 0 && !agent_is_behind()) flush();  // it has waited for this
      if (handlers_.on_acknowledged) handlers_.on_acknowledged();
    }
  } else if (auto* request = std::get_if<ipc::Request>(&message)) {
    if (handlers_.on_request) handlers_.on_request(std::move(*request));
  } else if (auto* cancel = std::get_if<ipc::Cancel>(&message)) {
    if (handlers_.on_cancel) handlers_.on_cancel(cancel->id);
  } else {
    disconnect("the agent sent a message that is not for a collector");
  }
}

void Uplink::on_welcome(const ipc::Welcome& welcome) {
  auto rollback = sender_.on_welcome(welcome, [this](const ipc::Message& message) { return send(message); });
  if (!rollback) {
    disconnect(rollback.error().message);
    return;
  }
  observe::log(Level::info, "ipc", "connected to the agent",
               {{"store", welcome.store_id}, {"committed", welcome.committed_sequence}});
  if (*rollback) {
    // The store is older than it was: what it had acknowledged since is gone from it.
    const auto& gone = **rollback;
    add_gap({"store_rolled_back", gone.from, gone.to, gone.events});
  } else if (!welcomed_ && welcome.covered_until && *welcome.covered_until != epoch_started_) {
    // In the same words as BatchSender's Missing. The other way round where the clock was set back since: when the
    // record ended nobody knows then.
    const auto [from, to] = std::minmax(*welcome.covered_until, epoch_started_);
    add_gap({"collector_unavailable", from, to, std::nullopt});
  }
  welcomed_ = true;
  pump();
  if (connected() && handlers_.on_connected) handlers_.on_connected();
}

void Uplink::reply(const ipc::Reply& reply) {
  if (auto sent = send(reply); !sent) {
    observe::log(Level::warn, "ipc", "a reply could not be sent", {{"error", sent.error().message}});
  }
}

void Uplink::heartbeat(Timestamp until, const std::string& health_json, const std::string& metrics_text) {
  tell_owed_gaps();
  if (!connected()) return;
  ipc::Heartbeat beat;
  beat.time = until;
  // What is collected, or held, is not stored yet.
  if (const auto oldest = sender_.oldest_held_time()) beat.time = std::min(beat.time, *oldest);
  for (const auto& prepared : unrecorded_) beat.time = std::min(beat.time, prepared.first_time);
  if (encoded_events_ != 0) beat.time = std::min(beat.time, first_time_);
  if (shed_.events != 0) beat.time = std::min(beat.time, shed_.from);
  for (const auto& gap : owed_) beat.time = std::min(beat.time, gap.from);
  if (hole_) beat.time = std::min(beat.time, hole_->from);
  if (health_json != sent_health_) beat.health_json = sent_health_ = health_json;
  if (metrics_text != sent_metrics_) beat.metrics_text = sent_metrics_ = metrics_text;
  if (auto sent = send(beat); !sent) disconnect(sent.error().message);
}

bool Uplink::all_acknowledged() const {
  return encoded_events_ == 0 && scan_.empty() && unrecorded_.empty() && owed_.empty() && shed_.events == 0 &&
         sender_.all_acknowledged();
}

}  // namespace daemoneye::collector
