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
#include "store/reader_pool.h"

namespace daemoneye::sql {

inline constexpr std::uint64_t default_memory_limit = 64 * 1024 * 1024;
inline constexpr std::uint64_t default_temporary_limit = 1024 * 1024 * 1024;

struct Progress {
  std::uint64_t blocks_done = 0, blocks_total = 0;
};

struct RunOptions {
  std::map<std::string, event::Value> parameters;
  Deadline deadline = Deadline::after(std::chrono::seconds(30));
  std::stop_token stop;
  std::uint64_t row_limit = 0;   // 0: none; one more row than this sets `more`
  std::optional<Timestamp> now;  // what 'now' and ago() mean; default: wall clock
  event::TimeRange history;      // clamps every scan of process_events and of ended processes; default: all
  // Memory SQLite and our tables may take for this run, and what they may write to temporary files: beyond it the run
  // ends with limit_exceeded, "memory limit of 64 MiB reached".
  std::uint64_t memory_limit = default_memory_limit;
  std::uint64_t temporary_limit = default_temporary_limit;
  // Of a stream: only these of begin_stream()'s rows, by their places, ascending; null: all. Outlives the run.
  const std::vector<std::uint32_t>* only_rows = nullptr;
  // The inner side of a join is read whole and kept when to begin it for each outer row has cost so many times what
  // that costs. 0: as soon as it is seen which column changes.
  double patience_with_joins = 1;
  bool explain = false;  // also time each step and name its alias, which costs a second preparation
  // Told, at most each 100 ms, how many blocks of those that the scans begun so far may have to read are behind it.
  std::function<void(const Progress&)> progress;
};

// One place of the plan at which a table is read: `--explain`.
struct Step {
  std::string table, alias;          // alias: as printed in the derived SQL; only when explain was asked for
  std::vector<std::string> pushed;   // conditions the scan itself meets, "name = 'bash'"
  std::vector<std::string> left;     // of what SQLite offered, what it checks alone, "cpu_usage > ?"
  std::vector<std::string> columns;  // read
  std::string rewrite;               // how it is done other than row by row: "grouped by name", "kept by process_key"
  std::string order;                 // "newest first" when the scan gives the order asked for, or empty
  std::uint64_t begun = 0;           // how often: the inner side of a join is begun for each outer row
  std::uint64_t blocks_total = 0;    // in the time range, each time it was begun
  std::uint64_t blocks_skipped = 0, blocks_read = 0, tail_batches_read = 0;
  std::uint64_t rows_scanned = 0;       // that met what was pushed
  std::uint64_t rows = 0;               // handed to SQLite
  std::chrono::nanoseconds elapsed{0};  // within the scan; only when explain was asked for
};

struct RunStats {
  std::uint64_t rows = 0;
  bool more = false;
  event::Completeness completeness;
  store::ScanStats scan;    // summed over all scans
  std::vector<Step> steps;  // in the order of the plan's making
  std::uint64_t peak_memory = 0, temporary_written = 0;
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
  // On a connection of a pool, which must outlive this.
  static Result<std::unique_ptr<Connection>> open(store::ReaderLease reader, const std::string& audit_path);
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
