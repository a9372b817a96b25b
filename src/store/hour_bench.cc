// An hour of a busy machine (100,000 events a minute), stored, searched and removed; and the same in a plain SQLite
// table with indexes over time, name and pid. Each measurement runs in a child process, so that its CPU, its peak of
// memory and what it wrote are its own.
//
// STORE_BENCH_EVENTS sets the size: 6000000 is the whole hour, the default a tenth of it. The peer takes a sixth.
#include <benchmark/benchmark.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <thread>

#include "db/statement_cache.h"
#include "store/retention.h"
#include "store/store_file.h"
#include "store/testing/event_generator.h"
#include "store/testing/temp_store.h"

namespace {

using namespace daemoneye;
using namespace daemoneye::store::testing;
using event::Column;

constexpr std::int64_t start_ns = 1'790'000'000'000'000'000;

std::size_t hour_events() {
  const char* asked = std::getenv("STORE_BENCH_EVENTS");
  return asked == nullptr ? 600'000 : std::max<std::size_t>(10'000, std::strtoull(asked, nullptr, 10));
}

double cpu_seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double milliseconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since).count();
}

// A number from a file of /proc: the one behind `key`.
double proc_number(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::strtod(line.c_str() + key.size(), nullptr);
  }
  return 0;
}

// What the process spends and writes, without what the making of the events costs this thread.
class Meter {
 public:
  Meter() {
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak of memory begins again
    written_ = proc_number("/proc/self/io", "write_bytes:");
    cpu_ = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
  }
  template <class Make>
  auto not_counted(Make make) {
    const double begin = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    auto made = make();
    outside_ += cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    return made;
  }
  [[nodiscard]] double cpu() const { return cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_ - outside_; }
  [[nodiscard]] double written() const { return proc_number("/proc/self/io", "write_bytes:") - written_; }
  [[nodiscard]] static double peak_mb() { return proc_number("/proc/self/status", "VmHWM:") / 1024; }

 private:
  double cpu_ = 0, written_ = 0, outside_ = 0;
};

using Figures = std::map<std::string, double>;

// Runs `body` in a child and gives its figures to the benchmark as counters.
template <class Body>
void in_child(benchmark::State& state, Body body) {
  for (auto _ : state) {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    const pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
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
    if (waitpid(child, &status, 0) != child || status != 0) return state.SkipWithError("the measurement failed");
    std::istringstream lines(text);
    std::string name;
    for (double value = 0; lines >> name >> value;) state.counters[name] = value;
  }
}

struct Encoded {
  event::BatchId id;
  std::string canonical;
  base::Sha256Digest digest{};
};

class Batches {
 public:
  explicit Batches(std::size_t size) : generator_(1, start_ns), size_(size) {}
  Encoded next() {
    std::vector<event::ProcessEvent> events;
    events.reserve(size_);
    for (std::size_t i = 0; i < size_; ++i) events.push_back(generator_.next());
    const auto batch = make_batch(++sequence_, std::move(events));
    Encoded encoded{batch.id, *event::encode_batch(batch), {}};
    encoded.digest = event::batch_digest(encoded.canonical);
    return encoded;
  }

 private:
  EventGenerator generator_;
  std::size_t size_;
  std::uint64_t sequence_ = 0;
};

// One at a time: every batch is durable by itself.
void commit_durably(store::Writer& writer, Encoded batch) {
  std::promise<void> done;
  writer.commit_batch(std::move(batch.id), std::move(batch.canonical), batch.digest, {}, [&](const auto& result) {
    if (!result) std::abort();
    done.set_value();
  });
  done.get_future().get();
}

std::uint64_t size_at_rest(const std::string& file) { return store::file_size(file) + store::file_size(file + "-wal"); }

void ingest(const TempFolder& folder, std::size_t events, std::size_t batch_events, Figures& figures) {
  auto writer = *store::Writer::open(folder.options());
  Batches batches(batch_events);
  Meter meter;
  std::vector<double> waits;
  for (std::size_t done = 0; done < events; done += batch_events) {
    auto batch = meter.not_counted([&] { return batches.next(); });
    const auto begin = std::chrono::steady_clock::now();
    commit_durably(*writer, std::move(batch));
    waits.push_back(milliseconds(begin));
  }
  writer.reset();
  const auto count = static_cast<double>(events);
  figures["cpu_us_per_event"] = meter.cpu() * 1e6 / count;
  figures["written_per_event"] = meter.written() / count;
  figures["bytes_per_event"] = static_cast<double>(size_at_rest(folder.file())) / count;
  figures["peak_rss_mb"] = Meter::peak_mb();
  std::sort(waits.begin(), waits.end());
  figures["commit_p50_ms"] = waits[waits.size() / 2];
  figures["commit_max_ms"] = waits.back();
}

// CPU, as neighbours on the machine make waits longer; the best of three, as the first pass reads from the disk.
template <class Run>
double best_ms(Run run) {
  double best = 1e300;
  for (int i = 0; i < 3; ++i) {
    const double begin = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    run();
    best = std::min(best, (cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - begin) * 1e3);
  }
  return best;
}

double scan_ms(store::Reader& reader, Column column, std::vector<predicate::Condition> conditions, double& rows) {
  store::ScanRequest request;
  request.conditions = std::move(conditions);
  request.columns.set(static_cast<std::size_t>(column));
  return best_ms([&] {
    rows = 0;
    auto scan = *reader.scan(request);
    while (*scan->next()) {
      benchmark::DoNotOptimize(scan->value(column));
      ++rows;
    }
  });
}

double sum_ms(store::Reader& reader, Column column) {
  store::ScanRequest request;
  request.columns.set(static_cast<std::size_t>(column));
  return best_ms([&] {
    auto scan = *reader.scan(request);
    std::int64_t sum = 0;
    while (*scan->next_block()) {
      const auto integers = *scan->integers(column);
      for (const std::uint32_t row : scan->rows()) sum += integers.values[row];  // 0 where NULL
    }
    benchmark::DoNotOptimize(sum);
  });
}

void search(const TempFolder& folder, Figures& figures) {
  using predicate::Operator;
  auto reader = *store::Reader::open(folder.file());
  double rows = 0;
  figures["scan_integer_ms"] = sum_ms(*reader, Column::memory_usage);
  figures["scan_integer_by_row_ms"] = scan_ms(*reader, Column::memory_usage, {}, rows);
  figures["scan_substring_ms"] =
      scan_ms(*reader, Column::name, {{Column::command_line, Operator::like, {std::string("%--id=77777%")}}}, rows);
  figures["scan_substring_rows"] = rows;
  figures["scan_regexp_ms"] =
      scan_ms(*reader, Column::name, {{Column::command_line, Operator::regexp, {std::string("--id=7777[67]")}}}, rows);
  figures["one_pid_ms"] = scan_ms(*reader, Column::name, {{Column::pid, Operator::equal, {std::int64_t{2000}}}}, rows);
  figures["one_pid_rows"] = rows;
}

void remove_ten_minutes(const TempFolder& folder, Figures& figures) {
  constexpr std::int64_t ns_per_minute = 60'000'000'000, ns_per_day = 86'400'000'000'000;
  auto database = *store::open_store_for_writing(folder.file(), {});
  db::StatementCache statements(*database);
  store::Retention retention(statements, {1, 0});
  const auto begin = std::chrono::steady_clock::now();
  while (*retention.step(Timestamp{start_ns + ns_per_day + 10 * ns_per_minute})) {
  }
  figures["remove_10_minutes_ms"] = milliseconds(begin);
  figures["removed_events"] = static_cast<double>(retention.removed().events);
}

void HourColumnBlocks(benchmark::State& state) {
  in_child(state, [](Figures& figures) {
    const TempFolder folder;
    ingest(folder, hour_events(), 1000, figures);
    search(folder, figures);
    remove_ten_minutes(folder, figures);
  });
}

// The peer: a row an event, the columns of SQL, three indexes, the same durability. It gets its values ready to bind.
std::string create_rows() {
  std::string sql = "CREATE TABLE events(event_id INTEGER PRIMARY KEY";
  for (const auto& column : event::columns().subspan(1)) sql += ", " + std::string(column.name);
  return sql +
         "); CREATE INDEX by_time ON events(time); CREATE INDEX by_name ON events(name); "
         "CREATE INDEX by_pid ON events(pid)";
}

void sqlite_rows(benchmark::State& state, std::size_t events, std::size_t batch_events) {
  in_child(state, [&](Figures& figures) {
    const TempFolder folder;
    const std::string path = folder.path() + "/rows.db";
    db::Database::Options options;
    options.mode = db::Database::Mode::create_or_write;
    auto database = *db::Database::open(path, options);
    if (!database->execute(create_rows())) std::abort();
    std::string sql = "INSERT INTO events VALUES(?";
    for (std::size_t i = 1; i < event::column_count; ++i) sql += ",?";
    std::optional<db::Statement> insert = *database->prepare(sql + ")");
    EventGenerator generator(1, start_ns);
    event::EventId id = 0;
    Meter meter;
    for (std::size_t done = 0; done < events; done += batch_events) {
      const auto rows = meter.not_counted([&] {
        std::vector<std::array<event::Value, event::column_count>> made(batch_events);
        for (auto& row : made) {
          const auto event = generator.next();
          ++id;
          for (std::size_t i = 0; i < row.size(); ++i) row[i] = event::column_value(event, id, static_cast<Column>(i));
        }
        return made;
      });
      auto transaction = *db::Transaction::begin(*database);
      for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
          const int index = static_cast<int>(i) + 1;
          if (const auto* number = std::get_if<std::int64_t>(&row[i]))
            insert->bind(index, *number);
          else if (const auto* real = std::get_if<double>(&row[i]))
            insert->bind(index, *real);
          else if (const auto* text = std::get_if<std::string>(&row[i]))
            insert->bind_text(index, *text);
        }
        if (!insert->run()) std::abort();
      }
      if (!transaction.commit()) std::abort();
    }
    const auto count = static_cast<double>(events);
    if (!database->execute("PRAGMA wal_checkpoint(TRUNCATE)")) std::abort();
    figures["cpu_us_per_event"] = meter.cpu() * 1e6 / count;
    figures["written_per_event"] = meter.written() / count;
    figures["bytes_per_event"] = static_cast<double>(size_at_rest(path)) / count;
    figures["peak_rss_mb"] = Meter::peak_mb();
  });
}

void HourSqliteRows(benchmark::State& state) { sqlite_rows(state, hour_events() / 6, 1000); }

std::size_t part_of_hour(std::size_t part) { return std::max<std::size_t>(10'000, hour_events() / part); }

void column_blocks(benchmark::State& state, std::size_t events, std::size_t batch_events) {
  in_child(state, [&](Figures& figures) {
    const TempFolder folder;
    ingest(folder, events, batch_events, figures);
  });
}
void BatchesOfOne(benchmark::State& state) { column_blocks(state, part_of_hour(300), 1); }
void BatchesOfOneRows(benchmark::State& state) { sqlite_rows(state, part_of_hour(300), 1); }
void BatchesOfHundred(benchmark::State& state) { column_blocks(state, part_of_hour(10), 100); }
void BatchesOfHundredRows(benchmark::State& state) { sqlite_rows(state, part_of_hour(60), 100); }

// The newest 100 events, whole, while 20,000 a second are written.
void LastHundred(benchmark::State& state) {
  in_child(state, [](Figures& figures) {
    using namespace std::chrono_literals;
    constexpr std::size_t batch_events = 200;
    constexpr auto every = 10ms;
    const std::size_t rounds = std::max<std::size_t>(500, hour_events() / 2000);
    const TempFolder folder;
    auto writer = *store::Writer::open(folder.options());
    std::atomic<bool> ended = false;
    std::thread feeder([&] {
      Batches batches(batch_events);
      auto next = std::chrono::steady_clock::now();
      for (std::size_t i = 0; i < rounds; ++i) {
        auto batch = batches.next();
        std::this_thread::sleep_until(next);  // the rate is what is asked for, not a synchronisation
        next += every;
        commit_durably(*writer, std::move(batch));
      }
      ended = true;
    });
    auto reader = *store::Reader::open(folder.file());
    store::ScanRequest request;
    request.columns.set();
    request.newest_first = true;
    std::vector<double> took;
    while (!ended) {
      const auto begin = std::chrono::steady_clock::now();
      std::size_t rows = 0;
      auto scan = *reader->scan(request);
      while (rows < 100 && *scan->next()) {
        for (std::size_t i = 0; i < event::column_count; ++i)
          benchmark::DoNotOptimize(scan->value(static_cast<Column>(i)));
        ++rows;
      }
      scan.reset();
      if (rows == 100) took.push_back(milliseconds(begin));
      std::this_thread::sleep_for(1ms);
    }
    feeder.join();
    std::sort(took.begin(), took.end());
    figures["reads"] = static_cast<double>(took.size());
    figures["p50_ms"] = took[took.size() / 2];
    figures["p99_ms"] = took[took.size() * 99 / 100];
  });
}

void once(const char* name, void (*run)(benchmark::State&)) {
  benchmark::RegisterBenchmark(name, run)->Iterations(1)->Unit(benchmark::kSecond)->UseRealTime();
}

[[maybe_unused]] const bool registered = [] {
  once("hour/column_blocks", HourColumnBlocks);
  once("hour/peer_sqlite_rows", HourSqliteRows);
  once("hour_batches_of_1/column_blocks", BatchesOfOne);
  once("hour_batches_of_1/peer_sqlite_rows", BatchesOfOneRows);
  once("hour_batches_of_100/column_blocks", BatchesOfHundred);
  once("hour_batches_of_100/peer_sqlite_rows", BatchesOfHundredRows);
  once("hour_last_100_while_writing/column_blocks", LastHundred);
  return true;
}();

}  // namespace
