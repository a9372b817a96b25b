// Private to the deliverer's files: what its threads share, and who does what.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "alert/delivery.h"
#include "alert/lane.h"
#include "alert/stored_counts.h"

namespace daemoneye::alert {

// What of a sink's outbox is in memory: so many entries and bytes are read at once, when no more than `refill_below`
// are left.
inline constexpr std::chrono::seconds reader_patience{5};  // while all connections of the pool are in use
inline constexpr std::size_t window_entries = 256, refill_below = 64;
inline constexpr std::size_t window_bytes = std::size_t{512} * 1024;

// Outcomes in one operation of the writer, which a batch of events may have to wait for; and operations at a time.
inline constexpr std::size_t records_at_once = 256, max_recording = 4;

// Everything that threads share. Held by shared_ptr because the writer's thread calls back when it has committed,
// which may be after the Deliverer is gone.
struct Core {
  struct Finished {
    std::size_t lane = 0;
    store::DeliveryRecord record;
  };
  std::mutex mutex;
  std::condition_variable changed;  // for the dispatcher and for stop()
  std::condition_variable work;     // for the workers
  std::deque<Lane> lanes;
  std::deque<std::size_t> ready;  // lanes for the workers, in the order in which they got their place
  std::size_t busy = 0;           // lanes that a worker has or will take
  std::size_t places = 0;         // of those: that are not slow
  std::size_t idle = 0;           // workers that wait
  bool crowded = false;           // a lane waits for a place
  std::deque<Finished> finished;  // outcomes that are not handed to the writer yet
  std::size_t recording = 0;      // record_deliveries() under way
  bool woken = false;
  bool stopping = false;  // nothing new is begun
  bool exit = false;

  // `mutex` is held, here and below. A commit costs much more than a row in it: while one is under way, outcomes are
  // collected until they fill another.
  [[nodiscard]] bool may_record() const {
    if (finished.empty()) return false;
    return recording == 0 || (recording < max_recording && finished.size() >= records_at_once);
  }
  void poke() {
    woken = true;
    changed.notify_all();
  }
};

struct Deliverer::Impl {
  Impl(const config::Settings::Alerting& settings, store::ReaderPool& readers_, store::Writer& writer_,
       Outside outside);
  ~Impl() { join(); }
  static Result<std::shared_ptr<Impl>> begin(const config::Settings::Alerting& settings, store::ReaderPool& readers,
                                             store::Writer& writer, Outside outside);
  void stop(Deadline deadline);
  void join();    // after stop()
  void retire();  // what waits for sinks that are not these

  // delivery.cc: the workers
  void run_worker();
  void work_on(std::size_t index, std::unique_lock<std::mutex>& lock);
  bool next_task(std::size_t index, store::Delivery& task, bool& probe);
  AttemptOutcome attempt(AlertSink& sink, const store::Alert& alert, const std::stop_token& stop) const;

  // dispatch.cc: the dispatcher
  void run_dispatcher();
  void record(std::unique_lock<std::mutex>& lock);
  void fetch(std::unique_lock<std::mutex>& lock);
  void fetch_lane(std::size_t index, std::unique_lock<std::mutex>& lock);
  void refuse_unreadable(std::size_t index, std::vector<store::Delivery>& read, Timestamp at);
  void summarize(std::unique_lock<std::mutex>& lock);
  void summarize_lane(std::size_t index, std::unique_lock<std::mutex>& lock);
  void expire_waiting(std::size_t index, Timestamp at);
  std::chrono::nanoseconds find_slow();
  std::optional<Timestamp> assign();  // when to look again
  void retire_sinks(const std::vector<std::string>& owed_summaries);
  [[nodiscard]] store::Alert own_alert(Timestamp time) const;

  std::shared_ptr<Core> core = std::make_shared<Core>();
  store::ReaderPool& readers;
  store::Writer& writer;
  const std::function<Timestamp()> now;
  const Identity identity;
  const std::chrono::milliseconds slow_after;
  const std::size_t max_parallel;
  RetryPolicy policy;
  std::vector<config::SinkSettings> settings;  // as the lanes
  std::mt19937_64 random;                      // under the core's mutex
  std::size_t first_lane = 0;                  // whose turn it is
  std::stop_source sends;
  store::ReaderLease reader;  // the dispatcher's
  std::unique_ptr<StoredCounts> counts;
  std::mutex test_mutex;  // one test of sinks at a time
  std::thread dispatcher;
  std::vector<std::thread> workers;  // made by the dispatcher as they are needed, at most one a lane
};

// Puts one Impl in the place of another (reconfigure.cc).
struct Deliverer::Changer {
  struct Change {
    config::Settings::Alerting settings;
    Outside outside;
  };
  Changer(store::ReaderPool& readers_, store::Writer& writer_, Identity identity_)
      : readers(readers_), writer(writer_), identity(std::move(identity_)) {}
  void run();
  void apply(Change change);
  // Waits; true: it is the end, or there is another change.
  bool interrupted_within(std::chrono::nanoseconds time);

  store::ReaderPool& readers;
  store::Writer& writer;
  const Identity identity;
  std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<Impl> current;  // shared: calls under way keep the one they began with
  std::optional<Change> next;
  bool running = false;   // `thread` has not ended
  bool applying = false;  // a change is under way
  bool stopping = false;  // none is begun any more
  std::thread thread;
};

}  // namespace daemoneye::alert
