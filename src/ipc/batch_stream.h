// The two ends of the batch stream: exactly once over connections that break anywhere. Both passive and
// transport-free: they are fed messages and hand out messages; tests join them by any kind of wire.
// Each belongs to one thread (the event loop's).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "event/event_view.h"
#include "ipc/messages.h"

namespace daemoneye::ipc {

// The other side speaks this protocol: invalid_input names both versions and what to do about it.
Result<void> check_hello(const Hello& hello);
Result<void> check_welcome(const Welcome& welcome);

// An acknowledgement wakes both sides, so the agent lets it speak for so many batches at most: who has more of them
// unacknowledged has an agent that is behind.
inline constexpr std::size_t acknowledged_together = 8;

// Collector side. Holds every batch from numbering to acknowledgement.
class BatchSender {
 public:
  struct Limits {
    std::size_t max_held_bytes = 16 * 1024 * 1024;
    // Beyond this much, what joins the batches that wait is compressed: the agent is behind, and what can be held
    // should last.
    std::size_t max_plain_bytes = 1024 * 1024;
  };
  // A hole the agent's store has compared with what was acknowledged: it is older than it was, or another one.
  // The agent is told the same in Resume. The collector owes a gap event for [from, to].
  using Rollback = Missing;
  using Send = std::function<Result<void>(const Message&)>;

  BatchSender(std::string source, event::Epoch epoch, Limits limits);

  // Numbers a batch and encodes it, but does not queue it: its digest is recorded first. Its bytes count as held
  // from here on. What was prepared must be queued: a number that is never sent would be a hole.
  struct Prepared {
    BatchMessage message;
    base::Sha256Digest digest{};
    std::size_t events = 0;
    Timestamp first_time, last_time;
  };
  // invalid_input: too many events or bytes for a batch or a scan; no number is used up then.
  Result<Prepared> prepare(std::size_t event_count, std::string_view encoded_events, std::string scan,
                           Timestamp first_time, Timestamp last_time);
  // Takes it for delivery; in the order of prepare(), else internal.
  Result<void> queue(Prepared prepared);

  // True while another batch of `bytes` (events and scan) may be held; the collector sheds (and counts) when false.
  // With nothing held there is always room, whatever the limit.
  [[nodiscard]] bool has_room(std::size_t bytes) const;

  // A new connection begins with this; batches go out again after on_welcome().
  [[nodiscard]] Hello hello(Timestamp epoch_started, const std::string& program_version, const std::string& host);
  // Answers with Resume, then resends what the store does not have. The Rollback when the store lacks what was
  // acknowledged (its events are gone for good); once, however often the connection is made anew. invalid_input:
  // another protocol version. corrupt: the store claims what was never sent. After an error the connection must end.
  Result<std::optional<Rollback>> on_welcome(const Welcome& welcome, const Send& send);
  // corrupt: acknowledges what was never sent. What an earlier connection sent may be acknowledged on this one.
  Result<void> on_acknowledge(const Acknowledge& acknowledge, const Send& send);
  void on_disconnect();
  // Sends what the window allows. Called after queue(). The error is `send`'s; what it did not take stays held.
  Result<void> pump(const Send& send);

  [[nodiscard]] bool connected() const { return connected_; }
  [[nodiscard]] std::size_t held_batches() const { return held_.size(); }
  // Prepared and held batches: payloads, compressed where they are, and an allowance for each.
  [[nodiscard]] std::size_t held_bytes() const { return held_bytes_; }
  // The earliest event time of what is not acknowledged; the collector's heartbeat needs it. Not always the first
  // batch's: the clock may have been set back.
  [[nodiscard]] std::optional<Timestamp> oldest_held_time() const;
  [[nodiscard]] std::uint64_t next_sequence() const { return next_sequence_; }
  [[nodiscard]] std::uint64_t acknowledged_sequence() const { return acknowledged_; }
  [[nodiscard]] bool all_acknowledged() const { return acknowledged_ + 1 == next_sequence_; }
  [[nodiscard]] std::size_t in_flight_records() const { return in_flight_records_; }

  // Acknowledged spans remembered. Beyond, the older half is merged two by two, so that what is old is described
  // coarsely: a rollback into a merged span names all its time and events.
  static constexpr std::size_t max_history_spans = 4096;

 private:
  struct Held {
    Message message;  // a BatchMessage; kept as what `send` takes, so that sending copies nothing
    // Its texts, compressed; then they are empty in `message`.
    std::string packed;
    std::size_t canonical_bytes = 0, scan_bytes = 0;
    std::uint64_t sequence = 0;
    std::size_t bytes = 0;
    std::uint64_t events = 0;
    Timestamp first_time, last_time;
  };
  struct Span {
    std::uint64_t first = 0, last = 0, events = 0;
    Timestamp from, to;
  };
  // Which rollback the caller knows of: the same store may meet us again before the next batch is committed.
  struct Told {
    std::string store_id;
    std::uint64_t committed = 0, acknowledged = 0;
    bool operator==(const Told&) const = default;
  };
  static bool pack(Held& held);
  static Result<Message> unpack(const Held& held);
  void acknowledge_up_to(std::uint64_t sequence);
  void remember(const Held& held);
  [[nodiscard]] std::optional<Missing> missing_in(const Welcome& welcome) const;

  std::string source_;
  event::Epoch epoch_;
  Limits limits_;
  Timestamp epoch_started_;
  std::uint64_t next_sequence_ = 1;
  std::uint64_t sent_ = 0;          // highest ever sent, over all connections
  std::uint64_t acknowledged_ = 0;  // held_ begins with the next one
  std::deque<Held> held_;
  std::size_t held_bytes_ = 0, plain_bytes_ = 0;
  std::deque<Span> history_;                // in order, without holes, up to acknowledged_
  std::optional<Timestamp> covered_until_;  // the latest a store has claimed before it held any of this epoch
  Told told_;

  bool connected_ = false;  // welcomed
  std::uint32_t window_records_ = 0;
  std::size_t in_flight_batches_ = 0, in_flight_records_ = 0;
};

// Agent side, one a connection. Checks order, identity and digest; hands each new batch on once.
class BatchReceiver {
 public:
  struct Incoming {
    event::BatchId id;
    std::string canonical;
    base::Sha256Digest digest{};
    std::string scan;
    std::size_t events = 0;
    std::optional<Timestamp> first_event;  // of those that were told as they happened, not found by a scan
    std::optional<Missing> missing;        // with the first batch of a connection: what the store lacks before it
  };
  // `committed`: the store's highest sequence of this source and epoch, as said in the welcome. A batch that an
  // earlier connection left in the writer's queue comes again; the store tells it by its id.
  BatchReceiver(Hello hello, std::uint64_t committed);

  // corrupt: the stream does not go on where the store ends, and does not say why.
  Result<void> on_resume(const Resume& resume);

  // A batch to commit; nothing for a repetition (when that is committed already, `again` is to be acknowledged).
  // corrupt for a hole, a wrong digest, a foreign id, or a batch before Resume: the connection must end.
  struct Outcome {
    std::optional<Incoming> batch;
    std::optional<Acknowledge> again;
  };
  Result<Outcome> on_batch(BatchMessage message);
  // After the commit. Commits come in order. Also for a batch of this epoch that an earlier connection brought, at
  // any time after the welcome was sent.
  Acknowledge on_committed(std::uint64_t sequence);

 private:
  Hello hello_;
  std::uint64_t welcomed_;  // what the welcome said; the store may have gone on since
  std::uint64_t received_, committed_;
  bool resumed_ = false;
  std::optional<Missing> missing_;
  event::BatchView checked_;  // kept for its memory
};

}  // namespace daemoneye::ipc
