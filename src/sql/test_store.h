// For tests: a store with a known history, and the same rows in plain SQLite tables.
#pragma once

#include <sqlite3.h>

#include <filesystem>
#include <future>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "event/columns.h"
#include "sql/catalog.h"
#include "sql/connection.h"
#include "sql/runtime.h"
#include "store/writer.h"

namespace daemoneye::sql::test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char pattern[] = "/tmp/daemoneye-sql-XXXXXX";
    path_ = ::mkdtemp(pattern);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline constexpr std::int64_t second = 1'000'000'000;
inline constexpr std::int64_t start_of_history = 1'795'294'103 * second;  // 2026-11-21 20:48:23

// Deterministic everywhere, unlike the distributions of the standard library.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }
  bool one_in(std::size_t chance) { return below(chance) == 0; }

 private:
  std::uint64_t state_;
};

inline event::ProcessKey key_of(std::uint32_t pid, std::uint64_t ticks) {
  event::ProcessKey key;
  key.boot.fill(0xab);
  key.pid = pid;
  key.start_ticks = ticks;
  return key;
}

// Processes that start, fork children, and mostly end; with NULLs, odd texts and repeated values. With gaps, some rows
// concern no process at all, and some processes end twice.
inline std::vector<event::ProcessEvent> make_history(std::size_t count, std::uint64_t seed, bool gaps = false) {
  Dice dice(seed);
  const std::vector<std::string> names = {"bash", "sh",  "nginx", "sleep", "Python3",
                                          "BASH", "a'b", "né",    "cron",  "%x_"};
  const std::vector<std::string> users = {"root", "www-data", "alice"};
  std::vector<event::ProcessEvent> events;
  std::vector<event::ProcessEvent> alive, ended;
  std::uint32_t next_pid = 100;
  for (std::size_t i = 0; i < count; ++i) {
    event::ProcessEvent event;
    event.time = Timestamp{start_of_history + static_cast<std::int64_t>(i) * second / 4};
    if (gaps && dice.one_in(40)) {
      events.push_back(
          event::make_gap_event({"events_lost", event.time, event.time, 3}, event::EventSource::ebpf, event.time));
      continue;
    }
    if (gaps && !ended.empty() && dice.one_in(20)) {
      event = ended[dice.below(ended.size())];
      event.time = event.process.collection_time =
          Timestamp{start_of_history + static_cast<std::int64_t>(i) * second / 4};
      event.process.exit_code = static_cast<int>(dice.below(3)) + 3;
      event.process.exit_time = event.time;
      events.push_back(event);
      continue;
    }
    event.source = dice.one_in(3) ? event::EventSource::scan : event::EventSource::ebpf;
    if (!alive.empty() && dice.one_in(3)) {
      const std::size_t which = dice.below(alive.size());
      event.process = alive[which].process;
      event.parent_name = alive[which].parent_name;
      event.kind = event::EventKind::exit;
      event.process.status = event::ProcessStatus::exited;
      event.process.exit_time = event.time;
      event.process.exit_code = static_cast<int>(dice.below(3));
      alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(which));
    } else {
      auto& process = event.process;
      event.kind = dice.one_in(4) ? event::EventKind::seen : event::EventKind::exec;
      process.key = key_of(next_pid++, 1000 + i);
      if (!alive.empty() && !dice.one_in(5)) {
        const auto& parent = alive[dice.below(alive.size())];
        process.parent_key = parent.process.key;
        process.ppid = parent.process.key.pid;
        event.parent_name = parent.process.name;
      }
      process.name = names[dice.below(names.size())];
      if (!dice.one_in(4)) process.comm = process.name;
      if (!dice.one_in(4)) process.executable_path = "/usr/bin/" + process.name;
      if (!dice.one_in(5))
        process.arguments = event::Arguments::from_list({process.name, "-c", std::to_string(dice.below(20))});
      process.uid = static_cast<std::uint32_t>(dice.below(3));
      if (dice.one_in(2)) process.euid = static_cast<std::uint32_t>(dice.below(3));
      process.user = users[dice.below(users.size())];
      process.start_time = event.time;
      if (!dice.one_in(3)) process.cpu_usage = static_cast<double>(dice.below(40)) / 4;
      if (!dice.one_in(3)) process.memory_usage = dice.below(5) * 4096;
      process.status = dice.one_in(2) ? event::ProcessStatus::running : event::ProcessStatus::sleeping;
      process.executable_state = event::ExecutableState::ok;
      alive.push_back(event);
    }
    event.process.collection_time = event.time;
    if (event.kind != event::EventKind::exit) alive.back().process.collection_time = event.time;
    if (event.kind == event::EventKind::exit) ended.push_back(event);
    events.push_back(std::move(event));
  }
  return events;
}

// Commits the events in batches; small blocks, so that both blocks and tail are read. Event ids count from 1.
inline void fill_store(const std::string& path, const std::vector<event::ProcessEvent>& events,
                       std::size_t batch_size = 16, std::uint32_t block_events = 64) {
  store::StoreOptions options;
  options.path = path;
  options.block_events = block_events;
  options.retention_days = 0;  // the times of tests are what they are
  auto writer = store::Writer::open(options);
  if (!writer) throw std::runtime_error(writer.error().message);
  event::BatchId id;
  id.source = "procmond";
  id.epoch.fill(7);
  for (std::size_t i = 0; i < events.size(); i += batch_size) {
    event::Batch batch;
    batch.id = id;
    batch.id.sequence = ++id.sequence;
    for (std::size_t j = i; j < std::min(events.size(), i + batch_size); ++j) batch.events.push_back(events[j]);
    auto bytes = event::encode_batch(batch);
    if (!bytes) throw std::runtime_error(bytes.error().message);
    const auto digest = event::batch_digest(*bytes);
    std::promise<Result<store::Commit>> done;
    (*writer)->commit_batch(batch.id, *bytes, digest, "",
                            [&](Result<store::Commit> result) { done.set_value(std::move(result)); });
    const auto result = done.get_future().get();
    if (!result) throw std::runtime_error(result.error().message);
  }
  (*writer)->close(Deadline::after(std::chrono::seconds(20)));
}

// A plain database with tables of the same names, columns and rows; and the functions SQLite lacks.
class PlainTables {
 public:
  PlainTables() {
    sqlite3_open(":memory:", &handle_);
    for (const auto& table : catalog()) create(table.name, table.columns);
    (void)register_functions(handle_, runtime_);
  }
  ~PlainTables() { sqlite3_close(handle_); }
  PlainTables(const PlainTables&) = delete;
  PlainTables& operator=(const PlainTables&) = delete;
  [[nodiscard]] sqlite3* handle() const { return handle_; }

  void add_history(const std::vector<event::ProcessEvent>& events) {
    execute("BEGIN");
    std::map<event::ProcessKey, event::ProcessEvent> processes;  // the newest of each
    for (std::size_t i = 0; i < events.size(); ++i) {
      insert("process_events", event::columns(), events[i], static_cast<event::EventId>(i) + 1, false);
      if (events[i].kind != event::EventKind::gap) processes[events[i].process.key] = events[i];
    }
    for (const auto& [key, event] : processes) insert("processes", event::columns(), event, 0, true);
    execute("COMMIT");
  }
  void execute(const std::string& sql) {
    char* message = nullptr;
    if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, &message) != SQLITE_OK) {
      throw std::runtime_error(sql + ": " + (message == nullptr ? "" : message));
    }
  }

 private:
  void create(const std::string& name, const std::vector<CatalogColumn>& columns) {
    std::string sql = "CREATE TABLE \"" + name + "\"(";
    for (const auto& column : columns)
      sql += (&column == columns.data() ? "\"" : ", \"") + column.name + "\" " + column.type;
    execute(sql + ")");
  }

  void insert(const std::string& table, std::span<const event::ColumnInfo> columns, const event::ProcessEvent& event,
              event::EventId id, bool of_processes) {
    std::string sql = "INSERT INTO " + table + " VALUES(";
    std::vector<event::Value> values;
    for (const auto& info : columns) {
      if (of_processes && !info.in_processes) continue;
      sql += values.empty() ? "?" : ", ?";
      values.push_back(event::column_value(event, id, info.column));
    }
    sqlite3_stmt* statement = nullptr;
    sqlite3_prepare_v2(handle_, (sql + ")").c_str(), -1, &statement, nullptr);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const int at = static_cast<int>(i) + 1;
      if (const auto* const integer = std::get_if<std::int64_t>(&values[i]))
        sqlite3_bind_int64(statement, at, *integer);
      else if (const auto* const real = std::get_if<double>(&values[i]))
        sqlite3_bind_double(statement, at, *real);
      else if (const auto* const text = std::get_if<std::string>(&values[i]))
        sqlite3_bind_text(statement, at, text->data(), static_cast<int>(text->size()), SQLITE_TRANSIENT);
    }
    const int code = sqlite3_step(statement);
    sqlite3_finalize(statement);
    if (code != SQLITE_DONE) throw std::runtime_error(sqlite3_errmsg(handle_));
  }

  sqlite3* handle_ = nullptr;
  Runtime runtime_{nullptr, ""};
};

}  // namespace daemoneye::sql::test
