// Ingest and scans, against a plain SQLite table with indexes over time, name and pid in the same run.
#include <benchmark/benchmark.h>
#include <time.h>

#include <thread>

#include "store/testing/event_generator.h"
#include "store/testing/temp_store.h"

namespace {

using namespace daemoneye;
using namespace daemoneye::store::testing;
using event::Column;

constexpr std::size_t batch_events = 1000, batches = 100;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Encoded {
  event::Batch batch;
  std::string canonical;
  base::Sha256Digest digest;
};
const std::vector<Encoded>& workload() {
  static const auto made = [] {
    std::vector<Encoded> encoded;
    EventGenerator generator(1);
    for (std::uint64_t sequence = 1; sequence <= batches; ++sequence) {
      std::vector<event::ProcessEvent> events;
      for (std::size_t i = 0; i < batch_events; ++i) events.push_back(generator.next());
      auto batch = make_batch(sequence, std::move(events));
      auto canonical = *event::encode_batch(batch);
      const auto digest = event::batch_digest(canonical);
      encoded.push_back({std::move(batch), std::move(canonical), digest});
    }
    return encoded;
  }();
  return made;
}

void fill(const TempFolder& folder, std::uint32_t block_events) {
  auto options = folder.options();
  options.block_events = block_events;
  auto writer = *store::Writer::open(options);
  for (const auto& encoded : workload()) {
    // One at a time: every batch of 1000 is durable by itself, as in the table beside.
    std::promise<void> done;
    writer->commit_batch(encoded.batch.id, encoded.canonical, encoded.digest, {}, [&](const auto& result) {
      if (!result) std::abort();
      done.set_value();
    });
    done.get_future().get();
  }
}

void report(benchmark::State& state, double cpu, std::uint64_t bytes) {
  const auto events = static_cast<double>(batch_events * batches) * static_cast<double>(state.iterations());
  state.counters["cpu_us_per_event"] = cpu * 1e6 / events;
  state.counters["bytes_per_event"] = static_cast<double>(bytes) / static_cast<double>(batch_events * batches);
}

void IngestColumnBlocks(benchmark::State& state) {
  (void)workload();
  double cpu = 0;
  std::uint64_t bytes = 0;
  for (auto _ : state) {
    const TempFolder folder;
    const double begin = cpu_seconds();
    fill(folder, 8192);
    cpu += cpu_seconds() - begin;
    bytes = std::filesystem::file_size(folder.file());
  }
  report(state, cpu, bytes);
}
BENCHMARK(IngestColumnBlocks)->Name("ingest/column_blocks")->Unit(benchmark::kMillisecond)->UseRealTime();

// The peer: a row an event, the columns of SQL, three indexes, the same durability.
std::string create_rows() {
  std::string sql = "CREATE TABLE events(event_id INTEGER PRIMARY KEY";
  for (const auto& column : event::columns().subspan(1)) sql += ", " + std::string(column.name);
  return sql +
         "); CREATE INDEX by_time ON events(time); CREATE INDEX by_name ON events(name); "
         "CREATE INDEX by_pid ON events(pid)";
}

void fill_rows(const std::string& path) {
  db::Database::Options options;
  options.mode = db::Database::Mode::create_or_write;
  auto database = *db::Database::open(path, options);
  if (!database->execute(create_rows())) std::abort();
  std::string sql = "INSERT INTO events VALUES(?";
  for (std::size_t i = 1; i < event::column_count; ++i) sql += ",?";
  auto insert = *database->prepare(sql + ")");
  event::EventId id = 0;
  for (const auto& encoded : workload()) {
    const auto batch = *event::decode_batch(encoded.canonical);
    auto transaction = *db::Transaction::begin(*database);
    for (const auto& event : batch.events) {
      ++id;
      for (std::size_t i = 0; i < event::column_count; ++i) {
        const auto value = event::column_value(event, id, static_cast<Column>(i));
        const int index = static_cast<int>(i) + 1;
        if (const auto* number = std::get_if<std::int64_t>(&value))
          insert.bind(index, *number);
        else if (const auto* real = std::get_if<double>(&value))
          insert.bind(index, *real);
        else if (const auto* text = std::get_if<std::string>(&value))
          insert.bind_text(index, *text);
      }
      if (!insert.run()) std::abort();
    }
    if (!transaction.commit()) std::abort();
  }
}

void IngestSqliteRows(benchmark::State& state) {
  (void)workload();
  double cpu = 0;
  std::uint64_t bytes = 0;
  for (auto _ : state) {
    const TempFolder folder;
    const std::string path = folder.path() + "/rows.db";
    const double begin = cpu_seconds();
    fill_rows(path);
    cpu += cpu_seconds() - begin;
    bytes = std::filesystem::file_size(path);
  }
  report(state, cpu, bytes);
}
BENCHMARK(IngestSqliteRows)->Name("ingest/peer_sqlite_rows")->Unit(benchmark::kMillisecond)->UseRealTime();

struct Stores {
  TempFolder folder;
  std::string rows = folder.path() + "/rows.db";
  Stores() {
    fill(folder, 8192);
    fill_rows(rows);
  }
};
const Stores& stores() {
  static const Stores filled;
  return filled;
}

void scan_blocks(benchmark::State& state, const store::ScanRequest& request) {
  auto reader = *store::Reader::open(stores().folder.file());
  std::size_t rows = 0;
  for (auto _ : state) {
    rows = 0;
    auto scan = *reader->scan(request);
    while (*scan->next()) {
      benchmark::DoNotOptimize(scan->value(Column::name));
      ++rows;
    }
  }
  state.counters["rows"] = static_cast<double>(rows);
  state.counters["ns_per_stored_event"] =
      benchmark::Counter(static_cast<double>(batch_events * batches) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
void scan_rows(benchmark::State& state, const std::string& sql) {
  db::Database::Options options;
  auto database = *db::Database::open(stores().rows, options);
  auto select = *database->prepare(sql);
  std::size_t rows = 0;
  for (auto _ : state) {
    rows = 0;
    while (*select.step()) {
      benchmark::DoNotOptimize(select.text(0));
      ++rows;
    }
    select.reset();
  }
  state.counters["rows"] = static_cast<double>(rows);
}

store::ScanRequest names() {
  store::ScanRequest request;
  request.columns.set(static_cast<std::size_t>(Column::name));
  return request;
}
void ScanAllNamesColumnBlocks(benchmark::State& state) { scan_blocks(state, names()); }
void ScanAllNamesSqliteRows(benchmark::State& state) { scan_rows(state, "SELECT name FROM events NOT INDEXED"); }
void ScanIntegerColumnBlocks(benchmark::State& state) {
  auto reader = *store::Reader::open(stores().folder.file());
  store::ScanRequest request;
  request.columns.set(static_cast<std::size_t>(Column::memory_usage));
  for (auto _ : state) {
    auto scan = *reader->scan(request);
    std::int64_t sum = 0;
    while (*scan->next_block()) {
      const auto integers = *scan->integers(Column::memory_usage);
      for (const std::uint32_t row : scan->rows()) sum += integers.values[row];
    }
    benchmark::DoNotOptimize(sum);
  }
  state.counters["ns_per_stored_event"] =
      benchmark::Counter(static_cast<double>(batch_events * batches) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
void ScanSubstringColumnBlocks(benchmark::State& state) {
  auto request = names();
  request.conditions.push_back({Column::command_line, predicate::Operator::like, {std::string("%--id=777%")}});
  scan_blocks(state, request);
}
void ScanSubstringSqliteRows(benchmark::State& state) {
  scan_rows(state, "SELECT name FROM events WHERE command_line LIKE '%--id=777%'");
}
void ScanOnePidColumnBlocks(benchmark::State& state) {
  auto request = names();
  request.conditions.push_back({Column::pid, predicate::Operator::equal, {std::int64_t{20'000}}});
  scan_blocks(state, request);
}
BENCHMARK(ScanAllNamesColumnBlocks)->Name("scan_names/column_blocks")->Unit(benchmark::kMillisecond);
BENCHMARK(ScanAllNamesSqliteRows)->Name("scan_names/peer_sqlite_rows")->Unit(benchmark::kMillisecond);
BENCHMARK(ScanIntegerColumnBlocks)->Name("scan_integer/column_blocks")->Unit(benchmark::kMillisecond);
BENCHMARK(ScanSubstringColumnBlocks)->Name("scan_substring/column_blocks")->Unit(benchmark::kMillisecond);
BENCHMARK(ScanSubstringSqliteRows)->Name("scan_substring/peer_sqlite_rows")->Unit(benchmark::kMillisecond);
BENCHMARK(ScanOnePidColumnBlocks)->Name("scan_one_pid/column_blocks")->Unit(benchmark::kMillisecond);

}  // namespace
