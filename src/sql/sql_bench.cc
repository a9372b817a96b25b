// What the front end costs; and queries over an hour of a busy machine (100,000 events a minute), beside the same rows
// in a plain SQLite table with indexes over time, name and pid, in the same run.
//
// SQL_BENCH_EVENTS sets the size (6000000: the whole hour). The two files are made once, in SQL_BENCH_FOLDER (default
// build/bench), and used again as long as generator and size are the same. Times are CPU of one thread, the best of
// three warm runs (of one, where the peer takes more than two seconds): neighbours make waits longer.
#include <benchmark/benchmark.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>

#include "base/freed_memory.h"
#include "sql/connection.h"
#include "store/schema.h"
#include "store/store_file.h"
#include "store/testing/event_generator.h"
#include "store/testing/temp_store.h"

namespace {

using namespace daemoneye;

constexpr std::string_view rule =
    "SELECT e.pid, e.name, e.executable_path, e.command_line, e.process_key FROM process_events e "
    "WHERE e.kind = 'exec' AND e.name IN ('sh','bash','dash') AND (e.command_line LIKE '%/dev/tcp/%' OR e.command_line "
    "REGEXP 'nc\\s+-e') AND has_ancestor(e.process_key, 'nginx') AND e.time > ago('10m')";

void compile_a_rule(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(sql::compile(rule));
}
BENCHMARK(compile_a_rule)->Unit(benchmark::kMicrosecond);

// To be raised when the generator or the store's format changes what is written.
constexpr int files_version = 1;
constexpr std::int64_t start_ns = 1'790'000'000'000'000'000;
constexpr std::size_t batch_events = 1000;

std::size_t hour_events() {
  const char* asked = std::getenv("SQL_BENCH_EVENTS");
  return asked == nullptr ? 6'000'000 : std::max<std::size_t>(10'000, std::strtoull(asked, nullptr, 10));
}

std::string folder() {
  const char* asked = std::getenv("SQL_BENCH_FOLDER");
  std::string path = asked == nullptr ? "build/bench" : asked;
  std::filesystem::create_directories(path);
  return path;
}

std::string file(std::string_view kind) {
  return folder() + "/sql-" + std::to_string(files_version) + "." + std::to_string(store::schema_steps().size()) + "-" +
         std::to_string(hour_events()) + std::string(kind);
}
std::string store_file() { return file(".redb"); }
std::string rows_file() { return file(".rows.db"); }

[[noreturn]] void give_up(const std::string& what) {
  std::cerr << what << '\n';
  std::abort();
}

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

// The last event's time, and what the statements ask for: taken from the file itself.
struct Facts {
  std::int64_t last_time = 0;
  std::int64_t pid = 0;
  std::string process_key, rare_name, rare_text, server;
};

void make_store(const std::string& path) {
  store::StoreOptions options;
  options.path = path;
  options.retention_days = 0;  // the events lie at a time of their own
  options.max_size_mb = 0;
  auto writer = store::Writer::open(options);
  if (!writer) give_up(writer.error().message);
  store::testing::EventGenerator generator(1, start_ns);
  std::uint64_t sequence = 0;
  for (std::size_t done = 0; done < hour_events(); done += batch_events) {
    std::vector<event::ProcessEvent> events;
    for (std::size_t i = 0; i < batch_events; ++i) events.push_back(generator.next());
    const auto batch = store::testing::make_batch(++sequence, std::move(events));
    auto canonical = *event::encode_batch(batch);
    const auto digest = event::batch_digest(canonical);
    std::promise<void> committed;
    (*writer)->commit_batch(batch.id, std::move(canonical), digest, {}, [&](const auto& result) {
      if (!result) give_up(result.error().message);
      committed.set_value();
    });
    committed.get_future().get();
  }
}

class Rows {
 public:
  explicit Rows(const std::string& path) {
    if (sqlite3_open(path.c_str(), &handle_) != SQLITE_OK) give_up("cannot open " + path);
  }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  ~Rows() { sqlite3_close(handle_); }
  void execute(const std::string& sql) {
    if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) give_up(sqlite3_errmsg(handle_));
  }
  // Rows of the result, all their values looked at. Nothing when it took more CPU than `most_ms`.
  std::optional<std::uint64_t> ask(const std::string& sql, std::string* first = nullptr, double most_ms = 1e300) {
    constexpr int operations = 100'000;  // between two looks at the clock
    latest_ = cpu_ms() + most_ms;
    sqlite3_progress_handler(
        handle_, operations, [](void* rows) { return cpu_ms() > static_cast<Rows*>(rows)->latest_ ? 1 : 0; }, this);
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(handle_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
      give_up(sql + ": " + sqlite3_errmsg(handle_));
    std::uint64_t rows = 0;
    int code = SQLITE_ROW;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
      for (int i = 0; i < sqlite3_column_count(statement); ++i) {
        const auto* const text = reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
        if (first != nullptr && rows == 0 && i == 0 && text != nullptr) *first = text;
        benchmark::DoNotOptimize(text);
      }
      ++rows;
    }
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? std::optional(rows) : std::nullopt;
  }
  [[nodiscard]] sqlite3* handle() const { return handle_; }

 private:
  sqlite3* handle_ = nullptr;
  double latest_ = 0;
};

void make_rows(const std::string& path) {
  Rows rows(path);
  std::string sql = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; CREATE TABLE process_events(";
  for (const auto& column : event::columns()) {
    const auto type = column.type == event::ColumnType::text   ? " TEXT"
                      : column.type == event::ColumnType::real ? " REAL"
                                                               : " INTEGER";
    sql += std::string(column.column == event::Column::event_id ? "" : ", ") + std::string(column.name) + type;
    if (column.column == event::Column::event_id) sql += " PRIMARY KEY";
  }
  rows.execute(sql + ")");
  sql = "INSERT INTO process_events VALUES(?";
  for (std::size_t i = 1; i < event::column_count; ++i) sql += ",?";
  sqlite3_stmt* insert = nullptr;
  sqlite3_prepare_v2(rows.handle(), (sql + ")").c_str(), -1, &insert, nullptr);
  rows.execute("BEGIN");
  store::testing::EventGenerator generator(1, start_ns);
  const std::size_t count = (hour_events() + batch_events - 1) / batch_events * batch_events;
  for (std::size_t i = 0; i < count; ++i) {
    const auto event = generator.next();
    for (std::size_t column = 0; column < event::column_count; ++column) {
      const auto value =
          event::column_value(event, static_cast<event::EventId>(i) + 1, static_cast<event::Column>(column));
      const int at = static_cast<int>(column) + 1;
      if (const auto* const number = std::get_if<std::int64_t>(&value))
        sqlite3_bind_int64(insert, at, *number);
      else if (const auto* const real = std::get_if<double>(&value))
        sqlite3_bind_double(insert, at, *real);
      else if (const auto* const text = std::get_if<std::string>(&value))
        sqlite3_bind_text(insert, at, text->data(), static_cast<int>(text->size()), SQLITE_TRANSIENT);
      else
        sqlite3_bind_null(insert, at);
    }
    if (sqlite3_step(insert) != SQLITE_DONE) give_up(sqlite3_errmsg(rows.handle()));
    sqlite3_reset(insert);
  }
  sqlite3_finalize(insert);
  rows.execute("COMMIT");
  rows.execute(
      "CREATE INDEX by_time ON process_events(time); CREATE INDEX by_name ON process_events(name); "
      "CREATE INDEX by_pid ON process_events(pid); ANALYZE");
}

// Made aside and renamed: one that was not finished is not used.
void make_once(const std::string& path, void (*make)(const std::string&)) {
  if (std::filesystem::exists(path)) return;
  const auto aside = path + ".part";
  for (const auto* const suffix : {"", "-wal", "-shm"}) std::filesystem::remove(aside + suffix);
  make(aside);
  store::WriterLock::remove_files(aside);
  for (const auto* const suffix : {"-wal", "-shm", ""}) {
    if (std::filesystem::exists(aside + suffix)) std::filesystem::rename(aside + suffix, path + suffix);
  }
}

const Facts& facts() {
  static const auto found = [] {
    make_once(store_file(), make_store);
    make_once(rows_file(), make_rows);
    Rows rows(rows_file());
    Facts facts;
    std::string text;
    const auto ask = [&](const std::string& sql) {
      text.clear();
      rows.ask(sql, &text);
      return text;
    };
    facts.last_time = std::stoll(ask("SELECT max(time) FROM process_events"));
    const auto middle = std::to_string(hour_events() / 2);
    facts.process_key = ask("SELECT process_key FROM process_events WHERE event_id=" + middle);
    facts.pid = std::stoll(ask("SELECT pid FROM process_events WHERE event_id=" + middle));
    // A few dozen rows of millions.
    facts.rare_name =
        ask("SELECT name FROM process_events GROUP BY name HAVING count(*) >= 10 ORDER BY count(*), name LIMIT 1");
    facts.server = ask("SELECT name FROM process_events GROUP BY name ORDER BY count(*) DESC, name LIMIT 1 OFFSET 20");
    const auto line = ask("SELECT command_line FROM process_events WHERE event_id=" + middle);
    const auto id = line.find("--id=") + 5;
    facts.rare_text = line.substr(id, line.find(' ', id) - id);
    return facts;
  }();
  return found;
}

struct Question {
  const char* name;
  std::function<std::string(const Facts&)> ours;
  // The same for the plain table, in its forms; the fastest counts. Empty: the same text.
  std::vector<std::function<std::string(const Facts&)>> plain = {};
};

// The last sixth of the file: 10 minutes of the hour.
std::string ten_minutes(const Facts& facts, const std::string& alias = "") {
  const auto from = start_ns + (facts.last_time - start_ns) / 6 * 5;
  return (alias.empty() ? "" : alias + ".") + "time >= " + std::to_string(from);
}

constexpr const char* shells = "IN ('program7', 'program11', 'program13')";

std::string as_join(const Facts& facts) {
  return "SELECT e.event_id, e.pid, e.name, e.command_line FROM process_events e JOIN process_events p ON "
         "p.process_key "
         "= e.parent_key WHERE e.kind = 'exec' AND p.kind = 'exec' AND e.name " +
         std::string(shells) + " AND p.name = '" + facts.server + "' AND " + ten_minutes(facts, "e") + " AND " +
         ten_minutes(facts, "p");
}
std::string as_in(const Facts& facts) {
  return "SELECT e.event_id, e.pid, e.name, e.command_line FROM process_events e WHERE e.kind = 'exec' AND e.name " +
         std::string(shells) + " AND " + ten_minutes(facts, "e") +
         " AND e.parent_key IN (SELECT p.process_key FROM process_events p WHERE p.kind = 'exec' AND p.name = '" +
         facts.server + "' AND " + ten_minutes(facts, "p") + ")";
}
std::string as_exists(const Facts& facts) {
  return "SELECT e.event_id, e.pid, e.name, e.command_line FROM process_events e WHERE e.kind = 'exec' AND e.name " +
         std::string(shells) + " AND " + ten_minutes(facts, "e") +
         " AND EXISTS (SELECT 1 FROM process_events p WHERE p.process_key = e.parent_key AND p.kind = 'exec' AND "
         "p.name = '" +
         facts.server + "' AND " + ten_minutes(facts, "p") + ")";
}

const std::vector<Question>& questions() {
  static const std::vector<Question> list = {
      {"count_by_name_10_minutes",
       [](const Facts& f) {
         return "SELECT name, count(*) AS n FROM process_events WHERE " + ten_minutes(f) +
                " GROUP BY name ORDER BY n DESC";
       }},
      {"top_20_parent_child_pairs_hour",
       [](const Facts&) {
         return "SELECT parent_name, name, count(*) AS n FROM process_events GROUP BY parent_name, name ORDER BY n "
                "DESC "
                "LIMIT 20";
       }},
      {"rare_substring_hour",
       [](const Facts& f) {
         return "SELECT event_id, pid, name, command_line FROM process_events WHERE command_line LIKE '%" +
                f.rare_text + "%'";
       }},
      {"children_of_a_server_as_join", as_join, {as_join, as_in, as_exists}},
      {"children_of_a_server_as_in", as_in, {as_join, as_in, as_exists}},
      {"children_of_a_server_as_exists", as_exists, {as_join, as_in, as_exists}},
      {"count_distinct_hashes_hour",
       [](const Facts&) { return "SELECT count(DISTINCT executable_hash) FROM process_events"; }},
      {"one_process_key_hour",
       [](const Facts& f) {
         return "SELECT event_id, time, kind, name, command_line FROM process_events WHERE process_key = '" +
                f.process_key + "'";
       }},
      {"one_pid_hour",
       [](const Facts& f) {
         return "SELECT event_id, time, kind, name, command_line FROM process_events WHERE pid = " +
                std::to_string(f.pid);
       }},
      {"rare_name_hour",
       [](const Facts& f) {
         return "SELECT event_id, time, kind, name, command_line FROM process_events WHERE name = '" + f.rare_name +
                "'";
       }},
      {"last_100_events", [](const Facts&) { return "SELECT * FROM process_events ORDER BY event_id DESC LIMIT 100"; }},
  };
  return list;
}

template <class Run>
double best_ms(Run run) {
  double best = 1e300;
  for (int i = 0; i < 3; ++i) {
    const double begin = cpu_ms();
    run();
    best = std::min(best, cpu_ms() - begin);
    constexpr double long_enough_ms = 2000;
    if (best > long_enough_ms) break;
  }
  return best;
}

double proc_number(const char* path, const std::string& key) {
  std::ifstream status(path);
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::strtod(line.c_str() + key.size(), nullptr);
  }
  return 0;
}

using Figures = std::map<std::string, double>;

// In a child, so that the peak of memory is its own. Nothing when it failed.
std::optional<Figures> in_child(const std::function<void(Figures&)>& body) {
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    std::ofstream("/proc/self/clear_refs") << "5";
    Figures figures;
    body(figures);
    std::string text;
    for (const auto& [name, value] : figures) text += name + " " + std::to_string(value) + "\n";
    const bool whole = write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    _exit(whole ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  close(ends[0]);
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) return std::nullopt;
  Figures figures;
  std::istringstream lines(text);
  std::string name;
  for (double value = 0; lines >> name >> value;) figures[name] = value;
  return figures;
}

void ask_ours(const Question& question, Figures& figures) {
  base::keep_freed_memory();  // as daemoneye-cli
  auto connection = sql::Connection::open(store_file(), "");
  if (!connection) give_up(connection.error().message);
  sql::RunOptions options;
  options.deadline = Deadline::never();
  std::uint64_t rows = 0;
  figures["ours_ms"] = best_ms([&] {
    const auto compiled = sql::compile(question.ours(facts()));
    if (!compiled) give_up(compiled.error().message);
    const auto stats = (*connection)->run(*compiled, options, [](const sql::Row& row) {
      benchmark::DoNotOptimize(row.data());
      return true;
    });
    if (!stats) give_up(stats.error().message);
    rows = stats->rows;
  });
  figures["rows"] = static_cast<double>(rows);
  figures["peak_rss_mb"] = proc_number("/proc/self/status", "VmHWM:") / 1024;
}

void ask_plain(const Question& question, Figures& figures) {
  Rows rows(rows_file());
  auto forms = question.plain;
  if (forms.empty()) forms.push_back(question.ours);
  // A form that is slower than another is of no interest: it is ended.
  double best = 60'000;
  for (const auto& form : forms) {
    best = std::min(best, best_ms([&] {
                      const auto found = rows.ask(form(facts()), nullptr, best);
                      if (found) figures["plain_rows"] = static_cast<double>(*found);
                    }));
  }
  figures["plain_ms"] = best;
}

void measure(benchmark::State& state, const Question& question) {
  (void)facts();
  for (auto _ : state) {
    const auto ours = in_child([&](Figures& figures) { ask_ours(question, figures); });
    const auto plain = in_child([&](Figures& figures) { ask_plain(question, figures); });
    if (!ours || !plain) return state.SkipWithError("the measurement failed");
    for (const auto& figures : {*ours, *plain}) {
      for (const auto& [name, value] : figures) state.counters[name] = value;
    }
    state.counters["ratio"] = plain->at("plain_ms") / ours->at("ours_ms");
  }
}

[[maybe_unused]] const bool registered = [] {
  for (const auto& question : questions()) {
    benchmark::RegisterBenchmark((std::string("sql/") + question.name).c_str(), [&question](benchmark::State& state) {
      measure(state, question);
    })->Iterations(1);
  }
  return true;
}();

}  // namespace
