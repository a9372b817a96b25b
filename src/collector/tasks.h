// The closed table of what the agent may ask of the collector. SQL never gets here. One thread: the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/time.h"
#include "collector/tracker.h"
#include "ipc/messages.h"
#include "ledger/ledger.h"

namespace daemoneye::collector {

inline constexpr std::size_t max_task_results = 20000;
inline constexpr std::size_t max_reply_bytes = 4 * 1024 * 1024;

class Tasks {
 public:
  // What is known of this process' abilities, by name; asked anew for each request.
  using Capabilities = std::function<std::map<std::string, std::string>()>;
  // Hashes a file. Calls `done` once, in the loop's thread, with the reply's payload; not after this object is gone.
  // What comes after a cancellation or the deadline is dropped here.
  using HashPath =
      std::function<void(std::string path, Deadline deadline, std::function<void(Result<std::string>)> done)>;
  using Answer = std::function<void(ipc::Reply)>;
  struct Options {
    std::size_t max_concurrent = 10;
    // A long enumeration gives the loop its turn after this, so that no event waits for it.
    std::chrono::microseconds slice{2000};
    // Reads the configuration again; absent: this program does not.
    std::function<Result<void>()> reload_configuration = {};
  };
  struct Counters {
    std::uint64_t done = 0, failed = 0, cancelled = 0, late = 0;
    std::uint64_t refused = 0;  // for lack of room
  };

  Tasks(EventLoop& loop, Tracker& tracker, ledger::Ledger& ledger, Options options, Capabilities capabilities,
        HashPath hash_path = {});
  ~Tasks();

  // `reply` is called once, at once or later; not after cancel_all(). append_audit and capabilities are answered at
  // once; of the others at most max_concurrent run, and one more is refused with limit_exceeded.
  void handle(const ipc::Request& request, Answer reply);
  // Answers with `cancelled` when the request is not answered yet; else it is nothing.
  void cancel(std::uint64_t id);
  // There is nobody left to answer.
  void cancel_all();

  [[nodiscard]] std::size_t running() const { return running_.size(); }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  // What was executed since the last call, for the ledger: {"tasks":[{"id","kind","outcome","ms",…}…],"more":N}.
  [[nodiscard]] std::optional<std::string> take_record();

 private:
  struct Enumeration;
  struct Running {
    ipc::RequestKind kind;
    Answer reply;
    Deadline deadline;
    base::SteadyClock::time_point begun;
    std::string what;  // the filter or path, for the record
    std::optional<EventLoop::TimerId> timer;
    std::unique_ptr<Enumeration> enumeration;
  };

  // Each is a durable write in the collector's only thread: an agent that was taken over could blind it with them.
  struct Allowance {
    double left, most, a_second;
    base::SteadyClock::time_point since = base::SteadyClock::now();
    bool take(double amount);
  };
  Result<void> allow(Allowance& kind, double amount, std::uint64_t& held_back);
  Result<std::string> append_audit(const std::string& payload);
  Result<std::string> rotate_key(const std::string& payload);
  Result<std::string> reload_configuration();
  Result<std::unique_ptr<Enumeration>> prepare(const std::string& payload) const;
  void start_enumeration(std::uint64_t id, const std::string& payload);
  void start_hash(std::uint64_t id, const std::string& payload);
  void step(std::uint64_t id);
  void finish(std::uint64_t id, Result<std::string> outcome);
  // Counts and records a task that was begun.
  void end(std::uint64_t id, const Running& task, const Result<std::string>& outcome);
  void count(const Result<std::string>& outcome);
  void note(std::uint64_t id, ipc::RequestKind kind, const Result<std::string>& outcome, std::int64_t ms,
            const std::string& what);

  EventLoop& loop_;
  Tracker& tracker_;
  ledger::Ledger& ledger_;
  Options options_;
  Capabilities capabilities_;
  HashPath hash_path_;
  std::map<std::uint64_t, Running> running_;
  Counters counters_;
  std::string record_;  // elements of a JSON list
  std::size_t recorded_ = 0, unrecorded_ = 0;
  Allowance audit_entries_{200, 200, 10}, audit_bytes_{2e6, 2e6, 2e4}, rotations_{3, 3, 1.0 / 60},
      reloads_{10, 10, 0.5};
  std::uint64_t audit_held_back_ = 0, rotations_held_back_ = 0, reloads_held_back_ = 0;
  base::SteadyClock::time_point held_back_told_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted slices and answers look here first
};

}  // namespace daemoneye::collector
