// Running compiled SQL on a read-only connection: virtual tables over the store and the ledger, SQLite's authorizer
// as the second wall, a deadline inside scans and in the progress handler. One thread at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/time.h"
#include "event/columns.h"
#include "event/completeness.h"
#include "sql/sql.h"
#include "store/reader.h"

namespace daemoneye::sql {

struct RunOptions {
  std::map<std::string, event::Value> parameters;
  Deadline deadline = Deadline::after(std::chrono::seconds(30));
  std::stop_token stop;
  std::uint64_t row_limit = 0;   // 0: none; one more row than this sets `more`
  std::optional<Timestamp> now;  // what 'now' and ago() mean; default: wall clock
  event::TimeRange history;      // clamps every scan of process_events and of ended processes; default: all
};

struct RunStats {
  std::uint64_t rows = 0;
  bool more = false;
  event::Completeness completeness;
  store::ScanStats scan;  // summed over all scans
  std::chrono::nanoseconds elapsed{0};
};

using Row = std::vector<event::Value>;

// A row that a stream rule is shown.
struct DrivingRow {
  event::EventId event_id = 0;
  const event::ProcessEvent* event = nullptr;
};

class Connection {
 public:
  // `audit_path` may be empty or missing: then `audit_ledger` cannot be read and a query for it says so.
  static Result<std::unique_ptr<Connection>> open(const std::string& store_path, const std::string& audit_path);
  ~Connection();

  // Calls `each` a row until it returns false. Error codes: timeout (deadline), cancelled, limit_exceeded,
  // invalid_input (a run-time error of the statement), unavailable, corrupt.
  Result<RunStats> run(const Compiled& compiled, const RunOptions& options,
                       const std::function<bool(const Row&)>& each);

  // Streaming: `rows` (which must outlive the run) stand for the driving reference of compiled.streaming_sql().
  // One snapshot is held between begin_stream() and end_stream(), so that all rules of a batch see the same.
  // Prepared statements are kept for reuse, keyed by the Compiled object; forget() drops one.
  Result<void> begin_stream(const std::vector<DrivingRow>& rows, Timestamp now);
  // As run(); `each` also gets the event id of the driving row.
  Result<RunStats> run_stream(const Compiled& compiled, const RunOptions& options,
                              const std::function<bool(const Row&, event::EventId driving)>& each);
  void end_stream();
  void forget(const Compiled& compiled);

  [[nodiscard]] store::Reader& reader();
  // A process and its ancestors, nearest first, from live and ended instances; bounded and cycle-proof.
  Result<std::vector<event::ProcessEvent>> lineage(const event::ProcessKey& key, std::size_t max_depth = 64);

 private:
  struct Impl;
  explicit Connection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace daemoneye::sql
