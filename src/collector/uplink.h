// From events to the agent: collects them into batches, has each batch's digest recorded in the ledger, and only then
// sends it. Holds what is not acknowledged; sheds, and counts, when it may hold no more. One thread: the loop's.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "event/batch.h"
#include "ipc/batch_stream.h"
#include "ipc/connection.h"
#include "ledger/ledger.h"

namespace daemoneye::collector {

class Uplink {
 public:
  struct Options {
    std::string source = "procmond";
    std::string host, version;
    std::size_t batch_events = 1000;
    std::size_t max_held_bytes = 16 * 1024 * 1024;
    event::EventSource gap_source = event::EventSource::scan;
    // The longest an event waits for others to share its batch; max_deferrals times that while more batches wait to be
    // acknowledged than the agent does at once: one that is behind would not store it sooner.
    std::chrono::milliseconds flush_interval{40};
  };
  struct Handlers {
    std::function<void(ipc::Request)> on_request;
    std::function<void(std::uint64_t id)> on_cancel;
    std::function<void()> on_disconnected;  // whoever asked is gone
    // A gap was found, and will be told as an event as soon as there is room: to be logged, counted, recorded.
    std::function<void(const event::Gap&)> on_gap;
    std::function<void()> on_connected;  // welcomed by an agent, or a hole it had was told: time for a heartbeat
    std::function<void()> on_acknowledged;
    std::function<void()> on_leave;  // what waited for others leaves: whatever else has happened by now may come along
  };
  struct Counters {
    std::uint64_t batches = 0, events = 0, shed = 0, scans_shed = 0, connections = 0, ledger_failures = 0;
    std::uint64_t deferrals = 0;  // times that a batch waited longer for an earlier one
  };

  Uplink(EventLoop& loop, ledger::Ledger& ledger, Options options, Handlers handlers);
  ~Uplink();

  // False when there is no room: the event is shed and counted; a gap event follows as soon as there is room.
  bool add(const event::ProcessEvent& event);
  // The same with an event that is kept by the caller when it is refused: then nothing is lost, and nothing counted.
  bool offer(const event::ProcessEvent& event);
  // A gap event is never shed: it waits for room (max_owed_gaps; beyond, gaps of one reason become one).
  void add_gap(const event::Gap& gap);
  static constexpr std::size_t max_owed_gaps = 64;
  static constexpr int max_deferrals = 4;
  // Without room it is dropped and counted: the next scan tells all of it anew.
  void add_scan(const event::ScanSummary& scan);
  // Sends what is collected now.
  void flush();

  // Takes the place of the current connection, if any.
  void attach(UniqueFd socket);
  void reply(const ipc::Reply& reply);
  // Tells the agent until when nothing is missing: `until` (the sources were read after it), or earlier when something
  // of before is not acknowledged. Health and metrics are sent when they changed.
  void heartbeat(Timestamp until, const std::string& health_json, const std::string& metrics_text);

  [[nodiscard]] bool attached() const { return connection_ != nullptr; }
  [[nodiscard]] bool connected() const { return connection_ != nullptr && sender_.connected(); }
  [[nodiscard]] bool all_acknowledged() const;
  [[nodiscard]] const Counters& counters() const { return counters_; }
  // The last batch of this epoch that the agent says it has committed.
  [[nodiscard]] std::uint64_t acknowledged() const { return sender_.acknowledged_sequence(); }
  [[nodiscard]] std::size_t held_bytes() const { return sender_.held_bytes(); }
  [[nodiscard]] std::size_t held_batches() const { return sender_.held_batches(); }
  // It owes more than what it acknowledges together.
  [[nodiscard]] bool agent_is_behind() const { return sender_.held_batches() > ipc::acknowledged_together; }
  // Why the ledger does not take digests at the moment, so that nothing is sent; empty when it does.
  [[nodiscard]] const std::string& ledger_problem() const { return ledger_problem_; }
  [[nodiscard]] const event::Epoch& epoch() const { return epoch_; }

 private:
  void schedule_flush();
  void on_flush_timer();
  void make_batch();
  void record_and_queue();
  void pump();
  void on_message(ipc::Message message);
  void on_welcome(const ipc::Welcome& welcome);
  void disconnect(const std::string& why);
  Result<void> send(const ipc::Message& message);
  void append(const event::ProcessEvent& event);
  void shed(std::uint64_t events, Timestamp from, Timestamp to);
  // Makes the batch when it is full; true when there is room for another event.
  bool make_room();
  void tell_owed_gaps();

  EventLoop& loop_;
  ledger::Ledger& ledger_;
  Options options_;
  Handlers handlers_;
  event::Epoch epoch_;
  Timestamp epoch_started_;
  ipc::BatchSender sender_;
  std::unique_ptr<ipc::Connection> connection_;
  Counters counters_;

  std::string encoded_;  // events of the batch being collected
  std::size_t encoded_events_ = 0;
  Timestamp first_time_, last_time_;
  std::string scan_;
  std::deque<ipc::BatchSender::Prepared> unrecorded_;  // numbered, but not yet in the ledger
  std::string ledger_problem_;
  std::optional<EventLoop::TimerId> flush_timer_, retry_timer_;
  bool flush_posted_ = false;
  int deferred_ = 0;  // how often what waits has
  base::SteadyClock::time_point last_flush_{};
  std::deque<event::Gap> owed_;  // gaps that wait for room
  // What the store does not know of until the batch with the gap event is acknowledged.
  struct Hole {
    Timestamp from;
    std::uint64_t sequence = 0;  // of that batch, at the latest
  };
  std::optional<Hole> hole_;
  bool welcomed_ = false;  // the first welcome of this epoch has told until when earlier epochs reach

  struct Shed {
    std::uint64_t events = 0;
    Timestamp from, to;  // of their times: the earliest, and the latest or when the last one was dropped
  } shed_;
  std::string sent_health_, sent_metrics_;
  std::shared_ptr<bool> alive_;  // posted tasks outlive the object; they look here first
};

}  // namespace daemoneye::collector
