// The two ends of the batch stream: exactly once over connections that break anywhere. Both passive and
// transport-free: they are fed messages and hand out messages; tests join them by any kind of wire.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ipc/messages.h"

namespace daemoneye::ipc {

// Collector side. Holds every batch from numbering to acknowledgement.
class BatchSender {
 public:
  struct Limits {
    std::size_t max_held_bytes = 16 * 1024 * 1024;
  };
  // A hole the agent's store has compared with what was acknowledged: it is older than it was, or another one.
  struct Rollback {
    std::uint64_t first_sequence = 0, last_sequence = 0;
    Timestamp from, to;              // event times of the batches that are gone
    std::uint64_t events = 0;
  };
  using Send = std::function<Result<void>(const Message&)>;

  BatchSender(std::string source, event::Epoch epoch, Limits limits);

  // Numbers a batch and encodes it, but does not queue it: its digest is recorded first.
  struct Prepared {
    BatchMessage message;
    base::Sha256Digest digest{};
    std::size_t events = 0;
    Timestamp first_time, last_time;
  };
  Result<Prepared> prepare(std::size_t event_count, std::string_view encoded_events, std::string scan,
                           Timestamp first_time, Timestamp last_time);
  // Takes it for delivery; in the order of prepare().
  void queue(Prepared prepared);

  // True while another batch of `bytes` may be held; the collector sheds (and counts) when false.
  [[nodiscard]] bool has_room(std::size_t bytes) const;

  // A new connection: forget the window; batches go out again after on_welcome().
  [[nodiscard]] Hello hello(Timestamp epoch_started, const std::string& program_version, const std::string& host) const;
  Result<std::optional<Rollback>> on_welcome(const Welcome& welcome, const Send& send);
  Result<void> on_acknowledge(const Acknowledge& acknowledge, const Send& send);
  void on_disconnect();
  // Sends what the window allows. Called after queue().
  Result<void> pump(const Send& send);

  [[nodiscard]] bool connected() const;
  [[nodiscard]] std::size_t held_batches() const;
  [[nodiscard]] std::size_t held_bytes() const;
  [[nodiscard]] std::uint64_t next_sequence() const;
  [[nodiscard]] std::uint64_t acknowledged_sequence() const;
  [[nodiscard]] bool all_acknowledged() const;

 private:
  struct Held {
    BatchMessage message;
    std::size_t events = 0;
    Timestamp first_time, last_time;
  };
  // Acknowledged spans, merged, so that a rollback can be described (bounded: the oldest are merged together).
  struct Span {
    std::uint64_t first = 0, last = 0, events = 0;
    Timestamp from, to;
  };
  std::string source_;
  event::Epoch epoch_;
  Limits limits_;
  std::uint64_t next_sequence_ = 1;
  std::uint64_t acknowledged_ = 0;
  std::deque<Held> held_;
  std::size_t held_bytes_ = 0;
  std::deque<Span> history_;
  bool connected_ = false;
  std::uint32_t window_records_ = 0;
  std::size_t in_flight_batches_ = 0, in_flight_records_ = 0;
  std::string store_id_;
};

// Agent side. Checks order, identity and digest; hands each new batch on once.
class BatchReceiver {
 public:
  struct Incoming {
    event::BatchId id;
    std::string canonical;
    base::Sha256Digest digest{};
    std::string scan;
  };
  // `committed`: the store's highest sequence of this source and epoch at the time of the welcome.
  BatchReceiver(Hello hello, std::uint64_t committed);

  // A batch to commit; nothing for a repetition of a committed one (then `again` is to be acknowledged);
  // corrupt for a hole, a wrong digest or a foreign id: the connection must end.
  struct Outcome {
    std::optional<Incoming> batch;
    std::optional<Acknowledge> again;
  };
  Result<Outcome> on_batch(BatchMessage message);
  // After the commit. Commits come in order.
  Acknowledge on_committed(std::uint64_t sequence);

 private:
  Hello hello_;
  std::uint64_t received_, committed_;
};

}  // namespace daemoneye::ipc
