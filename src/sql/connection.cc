#include "sql/connection.h"

#include <sqlite3.h>

#include <algorithm>

#include "base/text.h"
#include "db/account.h"
#include "sql/catalog.h"
#include "sql/runtime.h"
#include "sql/time.h"
#include "sql/virtual_table.h"
#include "store/time_ordered_scan.h"

namespace daemoneye::sql {
namespace {

constexpr int progress_operations = 500;             // of SQLite's machine between two looks at the clock
constexpr std::size_t max_kept_statements = 20'000;  // as many as there may be rules

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using StatementHandle = std::unique_ptr<sqlite3_stmt, Finalize>;

// The result's value; blobs, which no table holds, as x'…'.
event::Value value_of(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: return sqlite3_column_int64(statement, column);
    case SQLITE_FLOAT: return sqlite3_column_double(statement, column);
    case SQLITE_TEXT: {
      const auto* const text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      return std::string(text == nullptr ? "" : text,
                         static_cast<std::size_t>(sqlite3_column_bytes(statement, column)));
    }
    case SQLITE_BLOB: {
      const auto* const bytes = static_cast<const char*>(sqlite3_column_blob(statement, column));
      const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement, column));
      return "x'" + base::to_hex(std::string_view(bytes == nullptr ? "" : bytes, size)) + "'";
    }
    default: return {};
  }
}

int bind_value(sqlite3_stmt* statement, int index, const event::Value& value) {
  if (const auto* const integer = std::get_if<std::int64_t>(&value))
    return sqlite3_bind_int64(statement, index, *integer);
  if (const auto* const real = std::get_if<double>(&value)) return sqlite3_bind_double(statement, index, *real);
  if (const auto* const text = std::get_if<std::string>(&value)) {
    return sqlite3_bind_text64(statement, index, text->data(), text->size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  }
  return sqlite3_bind_null(statement, index);
}

}  // namespace

struct Connection::Impl {
  store::ReaderLease reader;
  std::unique_ptr<Runtime> runtime;
  std::vector<std::unique_ptr<VirtualTable>> tables;  // closed after the statements that use them
  bool strict = false;
  bool streaming = false;
  Timestamp stream_now;
  struct Kept {
    std::string sql;
    StatementHandle statement;
  };
  std::map<const Compiled*, Kept> kept;
  std::optional<std::pair<event::TimeRange, event::Completeness>> known_completeness;  // of the stream's snapshot

  [[nodiscard]] sqlite3* handle() const { return reader->database().raw(); }

  Result<void> set_up();
  Result<StatementHandle> prepare(const std::string& sql);
  Result<void> bind(sqlite3_stmt* statement, const Compiled& compiled, const RunOptions& options);
  Error step_error(int code, const db::Account& account);
  Result<RunStats> execute(sqlite3_stmt* statement, const Compiled& compiled, const RunOptions& options, Timestamp now,
                           const std::function<bool(Row&&)>& each);
  Result<void> fill_completeness(RunStats& stats, Timestamp wall);
  Result<void> look_at_times(const std::string& sql);
  Result<void> name_steps(const std::string& sql);
  void fill_steps(RunStats& stats) const;
};

Result<void> Connection::Impl::set_up() {
  sqlite3* const db = handle();
  DE_CHECK(register_functions(db, *runtime));
  DE_CHECK(replace_slow_functions(db, *runtime));
  tables.push_back(make_events_table(*runtime));
  tables.push_back(make_processes_table(*runtime));
  tables.push_back(make_ledger_table(*runtime));
  tables.push_back(make_lineage_table(*runtime, true));
  tables.push_back(make_lineage_table(*runtime, false));
  tables.push_back(make_groups_table(*runtime));
  tables.push_back(make_driving_table(*runtime, true));
  tables.push_back(make_driving_table(*runtime, false));
  for (const auto& table : tables) {
    DE_CHECK(register_table(db, *table));
    // Connects it now, outside of the wall: declaring a table is not reading one.
    const bool takes_argument = find_table_function(table->name()) != nullptr || table->name() == event_groups_table;
    DE_CHECK(reader->database().prepare("SELECT 1 FROM \"" + table->name() + "\"" + (takes_argument ? "('')" : "")));
  }
  // SQLite's own, too: the first use declares them, which the wall would take for a change.
  for (const auto* const name : {"json_each", "json_tree"}) {
    DE_CHECK(reader->database().prepare(std::string("SELECT 1 FROM ") + name + "('1')"));
  }
  set_limits(db);
  set_authorizer(db, strict);
  return {};
}

Result<StatementHandle> Connection::Impl::prepare(const std::string& sql) {
  sqlite3_stmt* raw = nullptr;
  int code = SQLITE_OK;
  {
    const StrictPreparation walled(strict);
    code = sqlite3_prepare_v3(handle(), sql.c_str(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &raw,
                              nullptr);
  }
  StatementHandle statement(raw);
  if (code != SQLITE_OK) {
    auto error = db::last_error(handle(), "preparing");
    // What the front end accepts SQLite should take; what it does not is the text's fault all the same.
    if ((code & 0xff) == SQLITE_ERROR || (code & 0xff) == SQLITE_AUTH) error.code = Errc::invalid_input;
    return std::unexpected(std::move(error));
  }
  if (sqlite3_stmt_readonly(statement.get()) == 0) return fail(Errc::internal, "a derived statement would write");
  return statement;
}

Result<void> Connection::Impl::bind(sqlite3_stmt* statement, const Compiled& compiled, const RunOptions& options) {
  for (const auto& [name, value] : options.parameters) {
    if (!compiled.parameters().contains(name)) {
      return fail(Errc::invalid_input, "the statement has no parameter " + base::printable(name));
    }
  }
  const int count = sqlite3_bind_parameter_count(statement);
  for (int i = 1; i <= count; ++i) {
    const char* const given = sqlite3_bind_parameter_name(statement, i);
    if (given == nullptr) continue;
    std::string name(given + 1);
    int code = SQLITE_OK;
    if (name == now_ns_parameter) {
      code = sqlite3_bind_int64(statement, i, runtime->now().ns);
    } else if (name == now_text_parameter) {
      code = bind_value(statement, i, to_sqlite_time(runtime->now()));
    } else {
      if (name.starts_with("_p")) name = "?" + name.substr(2);
      const auto found = options.parameters.find(name);
      if (found == options.parameters.end()) {
        return fail(Errc::invalid_input, "no value for the parameter " + (name.front() == '?' ? name : ":" + name));
      }
      code = bind_value(statement, i, found->second);
    }
    if (code != SQLITE_OK) return std::unexpected(db::last_error(handle(), "binding " + name));
  }
  return {};
}

Error Connection::Impl::step_error(int code, const db::Account& account) {
  const auto reached = [](std::string_view what, std::uint64_t limit) {
    constexpr std::uint64_t mebibyte = 1024 * 1024;
    const auto size =
        limit % mebibyte == 0 ? std::to_string(limit / mebibyte) + " MiB" : std::to_string(limit) + " bytes";
    return Error{Errc::limit_exceeded, std::string(what) + " limit of " + size + " reached"};
  };
  switch (account.reached()) {
    case db::Account::Limit::none: break;
    // The allocator may have been refused something that SQLite could do without.
    case db::Account::Limit::memory:
      if ((code & 0xff) == SQLITE_NOMEM || (code & 0xff) == SQLITE_IOERR || runtime->error())
        return reached("memory", account.memory_limit());
      break;
    case db::Account::Limit::temporary:
      if ((code & 0xff) == SQLITE_FULL || (code & 0xff) == SQLITE_IOERR)
        return reached("temporary storage", account.temporary_limit());
      break;
  }
  if (auto stopped = runtime->stopped()) return *std::move(stopped);
  if (runtime->error()) return *runtime->error();
  auto error = db::last_error(handle(), "running the statement");
  switch (code & 0xff) {
    case SQLITE_ERROR:
    case SQLITE_MISMATCH: error.code = Errc::invalid_input; break;
    case SQLITE_TOOBIG:
    case SQLITE_NOMEM: error.code = Errc::limit_exceeded; break;
    default: break;
  }
  return error;
}

Result<RunStats> Connection::Impl::execute(sqlite3_stmt* statement, const Compiled& compiled, const RunOptions& options,
                                           Timestamp now, const std::function<bool(Row&&)>& each) {
  const auto start = base::SteadyClock::now();
  runtime->begin(options, now);
  if (runtime->should_stop()) return std::unexpected(*runtime->stopped());
  DE_CHECK(bind(statement, compiled, options));
  sqlite3_progress_handler(
      handle(), progress_operations, [](void* data) { return static_cast<Runtime*>(data)->should_stop() ? 1 : 0; },
      runtime.get());
  RunStats stats;
  db::Account account(options.memory_limit, options.temporary_limit);
  account.refuse_large_when([this] { return runtime->should_stop(); });
  int code = SQLITE_ROW;
  const int columns = sqlite3_column_count(statement);
  for (;;) {
    code = sqlite3_step(statement);
    if (code != SQLITE_ROW) break;
    // Few rows may be much text, and what takes them may take long: SQLite itself looks by its operations only.
    if (runtime->should_stop()) {
      code = SQLITE_INTERRUPT;
      break;
    }
    if (options.row_limit != 0 && stats.rows == options.row_limit) {
      stats.more = true;
      break;
    }
    ++stats.rows;
    Row row;
    row.reserve(static_cast<std::size_t>(columns));
    for (int i = 0; i < columns; ++i) row.push_back(value_of(statement, i));
    if (!each(std::move(row))) break;
  }
  std::optional<Error> error;
  if (code != SQLITE_ROW && code != SQLITE_DONE) error = step_error(code, account);
  sqlite3_reset(statement);  // closes the cursors, which then hand in their counts
  sqlite3_clear_bindings(statement);
  sqlite3_progress_handler(handle(), 0, nullptr, nullptr);
  stats.peak_memory = account.peak();
  stats.temporary_written = account.temporary_written();
  if (error) return std::unexpected(*std::move(error));
  // What has been heard of until now is so by the wall's clock, also for a statement that stands in the past.
  DE_CHECK(fill_completeness(stats, options.now ? base::wall_now() : now));
  if (stats.more) stats.completeness.reasons.push_back({"limit_reached", std::nullopt, std::nullopt, std::nullopt});
  stats.elapsed = base::SteadyClock::now() - start;
  return stats;
}

Result<void> Connection::Impl::fill_completeness(RunStats& stats, Timestamp wall) {
  stats.scan = runtime->scanned();
  const auto& touched = runtime->touched();
  if (touched) {
    const auto same = [](const event::TimeRange& a, const event::TimeRange& b) {
      return a.from == b.from && a.to == b.to;
    };
    if (streaming && known_completeness && same(known_completeness->first, *touched)) {
      stats.completeness = known_completeness->second;
    } else {
      DE_TRY(stats.completeness, reader->completeness(*touched, wall));
      if (streaming) known_completeness.emplace(*touched, stats.completeness);
    }
  }
  auto& reasons = stats.completeness.reasons;
  reasons.insert(reasons.end(), stats.scan.damage.begin(), stats.scan.damage.end());
  return {};
}

Result<std::unique_ptr<Connection>> Connection::open(const std::string& store_path, const std::string& audit_path) {
  DE_TRY(auto reader, store::Reader::open(store_path));
  return open(store::ReaderLease(std::move(reader)), audit_path);
}

Result<std::unique_ptr<Connection>> Connection::open(store::ReaderLease reader, const std::string& audit_path) {
  auto impl = std::make_unique<Impl>();
  impl->reader = std::move(reader);
  impl->reader.keep_from_others();  // with the tables and functions that are registered on it
  impl->runtime = std::make_unique<Runtime>(impl->reader.get(), audit_path);
  DE_CHECK(impl->set_up());
  return std::unique_ptr<Connection>(new Connection(std::move(impl)));
}

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Connection::~Connection() {
  end_stream();
  impl_->kept.clear();
  impl_->reader.give_back();  // the handle, and with it the modules, before the tables they point to
}

Result<RunStats> Connection::run(const Compiled& compiled, const RunOptions& options,
                                 const std::function<bool(const Row&)>& each) {
  Impl& self = *impl_;
  const Timestamp now = options.now.value_or(base::wall_now());
  DE_CHECK(self.reader->begin_snapshot());
  struct End {
    Impl& self;
    ~End() {
      if (!self.streaming) self.runtime->forget_lineage();
      self.reader->end_snapshot();
    }
  } const end{self};
  self.runtime->keep_plan(true);
  DE_CHECK(self.look_at_times(compiled.sql()));
  auto statement = self.prepare(compiled.sql());
  if (statement && options.explain) {
    // The same text again gives the same plans with the same numbers.
    self.runtime->keep_plan(true);
    DE_CHECK(self.name_steps(compiled.sql()));
  }
  if (!statement) return std::unexpected(statement.error());
  auto stats = self.execute(statement->get(), compiled, options, now, [&](Row&& row) { return each(row); });
  if (stats) self.fill_steps(*stats);
  self.runtime->keep_plan(false);
  self.runtime->set_times_in_order(false);
  return stats;
}

// Of the snapshot that is held now: whether ORDER BY time can be met by the scan. A statement that is kept for later
// snapshots must not count on it.
Result<void> Connection::Impl::look_at_times(const std::string& sql) {
  runtime->set_times_in_order(false);
  const auto order = sql.find("ORDER BY");
  if (order == std::string::npos || sql.find("time", order) == std::string::npos) return {};
  DE_TRY(const auto overlapping, reader->overlapping_places());
  runtime->set_times_in_order(overlapping <= store::max_overlapping_places);
  return {};
}

// EXPLAIN QUERY PLAN names the table's alias beside the plan's own text, which begins with the step's number:
// "SCAN e VIRTUAL TABLE INDEX 0:7:…".
Result<void> Connection::Impl::name_steps(const std::string& sql) {
  constexpr std::string_view marker = " VIRTUAL TABLE INDEX ";
  DE_TRY(const auto plan, prepare("EXPLAIN QUERY PLAN " + sql));
  while (sqlite3_step(plan.get()) == SQLITE_ROW) {
    constexpr int detail_column = 3;
    const auto* const raw = reinterpret_cast<const char*>(sqlite3_column_text(plan.get(), detail_column));
    const std::string_view line = raw == nullptr ? "" : raw;
    const auto end = line.find(marker);
    const auto space = line.find(' ');
    if (end == std::string_view::npos || space >= end) continue;
    const auto parts = base::split(line.substr(end + marker.size()), ':');
    if (parts.size() < 2) continue;
    const auto number = base::parse_integer<std::size_t>(parts[1]).value_or(0);
    if (number != 0) runtime->step(number).alias = std::string(line.substr(space + 1, end - space - 1));
  }
  return {};
}

// SQLite asked for more plans than it took: only those that were begun, or that it would show, count.
void Connection::Impl::fill_steps(RunStats& stats) const {
  for (const auto& step : runtime->steps()) {
    if (step.begun > 0 || !step.alias.empty()) stats.steps.push_back(step);
  }
}

Result<void> Connection::begin_stream(const std::vector<DrivingRow>& rows, Timestamp now) {
  Impl& self = *impl_;
  end_stream();
  DE_CHECK(self.reader->begin_snapshot());
  self.streaming = true;
  self.stream_now = now;
  self.runtime->set_driving(rows);
  return {};
}

Result<RunStats> Connection::run_stream(const Compiled& compiled, const RunOptions& options,
                                        const std::function<bool(const Row&, event::EventId)>& each) {
  Impl& self = *impl_;
  if (!self.streaming) return fail(Errc::internal, "run_stream() outside of begin_stream() and end_stream()");
  if (compiled.streaming_sql().empty()) return fail(Errc::invalid_input, compiled.not_streamable());
  auto& kept = self.kept[&compiled];
  if (kept.statement == nullptr || kept.sql != compiled.streaming_sql()) {
    auto statement = self.prepare(compiled.streaming_sql());
    if (!statement) {
      self.kept.erase(&compiled);
      return std::unexpected(statement.error());
    }
    kept.sql = compiled.streaming_sql();
    kept.statement = *std::move(statement);
    if (self.kept.size() > max_kept_statements) {
      self.kept.erase(self.kept.begin()->first == &compiled ? std::next(self.kept.begin()) : self.kept.begin());
    }
  }
  const Timestamp now = options.now.value_or(self.stream_now);
  return self.execute(kept.statement.get(), compiled, options, now, [&](Row&& row) {
    const auto* const id = std::get_if<std::int64_t>(&row.back());
    const event::EventId driving = id == nullptr ? 0 : *id;
    row.pop_back();
    return each(row, driving);
  });
}

void Connection::end_stream() {
  Impl& self = *impl_;
  if (!self.streaming) return;
  self.streaming = false;
  self.known_completeness.reset();
  self.runtime->set_driving({});
  self.runtime->forget_lineage();
  self.reader->end_snapshot();
}

void Connection::forget(const Compiled& compiled) { impl_->kept.erase(&compiled); }

store::Reader& Connection::reader() { return *impl_->reader; }

Result<std::vector<event::ProcessEvent>> Connection::lineage(const event::ProcessKey& key, std::size_t max_depth) {
  store::ScanStats unused;
  return walk_lineage(*impl_->reader, key, max_depth, unused);
}

}  // namespace daemoneye::sql
