// The agent's end of the line to the collector: greets, commits batches, acknowledges after the commit, keeps the
// collector's health, and carries audit entries to it. Loop thread only, but for what is said otherwise.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "ipc/audit_queue.h"
#include "ipc/batch_stream.h"
#include "ipc/connection.h"
#include "observe/health.h"
#include "observe/latencies.h"
#include "observe/metrics.h"
#include "observe/rate.h"
#include "store/writer.h"

namespace daemoneye::apps {

class CollectorPeer {
 public:
  struct Options {
    std::uint32_t credit_records = 1000;
    std::string audit_queue_path;                         // what waits for the collector's answer is kept there
    std::function<void(const store::Commit&)> on_commit;  // in the writer's thread, in order
  };
  CollectorPeer(EventLoop& loop, store::Writer& writer, Options options);
  ~CollectorPeer();

  // A new line takes the place of the old one.
  void attach(UniqueFd socket);
  // One that came in by the listening socket and has greeted.
  void attach(std::unique_ptr<ipc::Connection> connection, ipc::Message hello);
  // Acknowledges what is committed until now and ends the line.
  void close();

  // Asks the collector to write an audit entry, in the name of an operator when `by` is given. Durable until it has
  // answered; what finds no room in the queue is counted as lost.
  // False: it was lost so.
  bool audit(const std::string& action, const std::string& payload_json, std::optional<uid_t> by = std::nullopt);
  // Entries outlast our own end.
  [[nodiscard]] bool audit_durable() const { return audit_queue_.problem().empty(); }
  // Asks it for a new key for the ledger's checkpoints, in this operator's name. unavailable while it is away.
  Result<void> rotate_key(uid_t by);
  void reload_configuration();  // the collector reads its files again, if it is there

  // Of the collector as it told last, of the line, and of what waits for the ledger. What only a collector can tell is
  // in it in any case, if only to say that it is not known.
  [[nodiscard]] std::vector<observe::ComponentHealth> health() const;
  // What the collector's processes take, as it told last; nothing while it is away.
  struct Use {
    std::uint64_t own_bytes = 0, file_bytes = 0;
    std::optional<double> cpu_percent;  // of one core, over the last minute
  };
  [[nodiscard]] std::optional<Use> use() const;
  void publish_metrics() const;

  // A collector beats every 2 s. Later than this it is slow, then counts as hanging.
  static constexpr std::chrono::seconds late_beat{10}, missing_beat{30};

 private:
  // From a batch's first event to its commit; told by the writer's thread.
  struct Ingest {
    std::mutex mutex;
    observe::Latencies latencies;
    observe::Histogram seconds =
        observe::histogram("daemoneye_ingest_seconds", "From a batch's first event to the commit that stored it.");
    void took(Timestamp first_event, Timestamp committed);
  };
  [[nodiscard]] ipc::Connection::Handlers handlers();
  void take(std::unique_ptr<ipc::Connection> connection);
  void on_message(ipc::Message message);
  void on_hello(const ipc::Hello& hello);
  void on_batch(ipc::BatchMessage message);
  void commit(ipc::BatchMessage message);
  void commit_deferred();
  void not_committed(std::uint64_t line, const Error& why);
  // Whether the commit of a batch of so many events is acknowledged at once, and all before it; else a timer does.
  bool acknowledges_now(std::size_t events);
  bool acknowledge_later();
  void acknowledge();
  void on_beat(const ipc::Heartbeat& beat);
  void complete_report(observe::ComponentHealth& collector) const;
  void set_gone();
  void end(const std::string& why);
  void send(const ipc::Message& message);
  void send_waiting_audit();
  void on_reply(const ipc::Reply& reply);

  EventLoop& loop_;
  store::Writer& writer_;
  Options options_;
  std::unique_ptr<ipc::Connection> connection_;
  std::optional<ipc::Hello> hello_;
  std::optional<ipc::BatchReceiver> receiver_;
  std::uint64_t line_ = 0;  // counts connections: late callbacks know theirs
  // Of this line, the last batch in the store. Written by the writer's thread, late perhaps: shared with it.
  std::shared_ptr<std::atomic<std::uint64_t>> committed_;
  std::uint64_t received_ = 0, acknowledged_ = 0;  // batches of this line, by their numbers
  struct Unacknowledged {
    std::size_t batches = 0, events = 0;
  } unacknowledged_;  // since it was last asked for
  std::optional<EventLoop::TimerId> acknowledge_timer_;
  std::string last_end_;
  Timestamp alive_;  // until when the collector's record is known to be whole
  std::vector<observe::ComponentHealth> collector_health_;
  base::SteadyClock::time_point last_beat_{};
  observe::Rate event_rate_, cpu_rate_;
  std::shared_ptr<Ingest> ingest_ =
      std::make_shared<Ingest>();  // shared: the writer may tell of a commit after our end
  ipc::AuditQueue audit_queue_;
  std::uint64_t next_request_ = 1, audit_lost_ = 0, audit_refused_ = 0;
  std::optional<EventLoop::TimerId> audit_pause_;  // until the collector is asked again
  // Batches of this line for which the writer has no room: no more than its credit. The loop must not wait for a disk.
  std::deque<ipc::BatchMessage> deferred_;
  std::optional<EventLoop::TimerId> deferred_pause_;
  std::shared_ptr<bool> here_;
};

}  // namespace daemoneye::apps
