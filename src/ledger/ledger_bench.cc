// What the ledger costs: appending, the way of a batch, verifying and proving. Counters are CPU of this process, the
// kernel's part included, for durable writes. LEDGER_BENCH_ENTRIES (10,000,000) is the size of the log that is verified
// and proven from; it is made first, in about a minute.
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>

#include "ledger/ledger.h"

namespace daemoneye::ledger {
namespace {

double cpu_us() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto us = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

class Folder {
 public:
  Folder() {
    const char* where = std::getenv("LEDGER_BENCH_FOLDER");
    std::string name = std::string(where == nullptr ? "/var/tmp" : where) + "/daemoneye-ledger-bench-XXXXXX";
    if (::mkdtemp(name.data()) != nullptr) root_ = name;
  }
  ~Folder() { std::filesystem::remove_all(root_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] Ledger::Options options() const {
    Ledger::Options options;
    options.path = root_ + "/audit/audit.redb";
    options.key_path = root_ + "/audit/checkpoint.key";
    options.name = "bench";
    return options;
  }
  [[nodiscard]] std::uint64_t bytes() const {
    std::uint64_t total = 0;
    for (const auto& file : std::filesystem::directory_iterator(root_ + "/audit")) {
      if (file.path().extension() == ".redb") total += file.file_size();
    }
    return total;
  }

 private:
  std::string root_;
};

// Entries as those that operators' requests and gaps make.
std::vector<NewEntry> some_entries(std::size_t count) {
  std::vector<NewEntry> entries;
  for (std::size_t i = 0; i < count; ++i) {
    entries.push_back(
        {"agent", "agent.alert_changed",
         R"({"alert":"0123456789abcdef","by_uid":1000,"n":)" + std::to_string(i) + R"(,"status":"closed"})"});
  }
  return entries;
}

void append(benchmark::State& state) {
  const Folder folder;
  auto ledger = Ledger::open(folder.options());
  if (!ledger) return state.SkipWithError(ledger.error().message.c_str());
  const auto entries = some_entries(static_cast<std::size_t>(state.range(0)));
  double count = 0;
  const double before = cpu_us();
  for (auto _ : state) {
    if (!(*ledger)->append(entries)) return state.SkipWithError("append failed");
    count += static_cast<double>(entries.size());
  }
  state.counters["cpu_us_per_entry"] = (cpu_us() - before) / count;
}
BENCHMARK(append)->Arg(1)->Arg(100)->Unit(benchmark::kMicrosecond);

// `range(0)` batches between two roots: 50 a second at a low rate of events, 1 when there is little.
void record_batches(benchmark::State& state) {
  const Folder folder;
  auto ledger = Ledger::open(folder.options());
  if (!ledger) return state.SkipWithError(ledger.error().message.c_str());
  std::uint64_t sequence = 0;
  double journaling = 0;
  const double before = cpu_us();
  for (auto _ : state) {
    const double begin = cpu_us();
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      if (!(*ledger)->journal_batches({{{1}, ++sequence, base::Sha256Digest{7}}}))
        return state.SkipWithError("journal");
    }
    journaling += cpu_us() - begin;
    if (!(*ledger)->seal_batches()) return state.SkipWithError("seal");
  }
  const auto batches = static_cast<double>(sequence);
  state.counters["cpu_us_per_batch_before_send"] = journaling / batches;
  state.counters["cpu_us_per_root"] =
      (cpu_us() - before - journaling) / (batches / static_cast<double>(state.range(0)));
  state.counters["cpu_us_per_batch"] = (cpu_us() - before) / batches;
}
BENCHMARK(record_batches)->Arg(1)->Arg(50)->Unit(benchmark::kMicrosecond);

// A root a second and a checkpoint each five minutes, for a quarter of a day.
void steady_load(benchmark::State& state) {
  constexpr std::uint64_t seconds = 21'600;
  double bytes = 0, entries = 0;
  for (auto _ : state) {
    const Folder folder;
    auto ledger = Ledger::open(folder.options());
    if (!ledger) return state.SkipWithError(ledger.error().message.c_str());
    for (std::uint64_t second = 1; second <= seconds; ++second) {
      if (!(*ledger)->journal_batches({{{1}, second, base::Sha256Digest{7}}}) || !(*ledger)->seal_batches()) {
        return state.SkipWithError("seal");
      }
      if (second % 300 == 0 && !(*ledger)->checkpoint()) return state.SkipWithError("checkpoint");
    }
    if (!(*ledger)->close()) return state.SkipWithError("close");
    entries = static_cast<double>((*ledger)->size());
    ledger->reset();
    bytes = static_cast<double>(folder.bytes());
  }
  state.counters["bytes_per_entry"] = bytes / entries;
  state.counters["mb_a_day"] = bytes * 4 / 1e6;
}
BENCHMARK(steady_load)->Iterations(1)->Unit(benchmark::kSecond);

// Made once, for all that follows.
struct LargeLog {
  Folder folder;
  std::uint64_t size = 0;
  std::string error;

  LargeLog() {
    const char* wanted = std::getenv("LEDGER_BENCH_ENTRIES");
    const std::uint64_t count = wanted == nullptr ? 10'000'000 : std::strtoull(wanted, nullptr, 10);
    auto ledger = Ledger::open(folder.options());
    if (!ledger) {
      error = ledger.error().message;
      return;
    }
    const auto entries = some_entries(20'000);
    while ((*ledger)->size() < count) {
      if (!(*ledger)->append(entries) || !(*ledger)->checkpoint_when_due()) {
        error = "append failed";
        return;
      }
    }
    if (!(*ledger)->close()) error = "close failed";
    size = (*ledger)->size();
  }
};
LargeLog& large_log() {
  static LargeLog log;
  return log;
}

void verify(benchmark::State& state) {
  if (!large_log().error.empty()) return state.SkipWithError(large_log().error.c_str());
  double entries = 0, cpu = 0;
  for (auto _ : state) {
    const auto reader = LedgerReader::open(large_log().folder.options().path);
    if (!reader) return state.SkipWithError(reader.error().message.c_str());
    const double before = cpu_us();
    const auto report = (*reader)->verify();
    if (!report || report->first_bad || report->entries != large_log().size) return state.SkipWithError("not intact");
    cpu += cpu_us() - before;
    entries += static_cast<double>(report->entries);
  }
  state.counters["entries_per_cpu_second"] = entries / cpu * 1e6;
  state.counters["entries"] = static_cast<double>(large_log().size);
}
BENCHMARK(verify)->Iterations(1)->Unit(benchmark::kSecond);

void prove_inclusion(benchmark::State& state) {
  if (!large_log().error.empty()) return state.SkipWithError(large_log().error.c_str());
  const auto reader = LedgerReader::open(large_log().folder.options().path);
  if (!reader) return state.SkipWithError(reader.error().message.c_str());
  std::mt19937_64 random(1);
  for (auto _ : state) {
    const auto proof = (*reader)->prove_entry(random() % (large_log().size - 1));
    if (!proof) return state.SkipWithError(proof.error().message.c_str());
    benchmark::DoNotOptimize(proof->hashes.size());
  }
}
BENCHMARK(prove_inclusion)->Unit(benchmark::kMicrosecond);

// With opening the files, as the command does.
void open_and_prove(benchmark::State& state) {
  if (!large_log().error.empty()) return state.SkipWithError(large_log().error.c_str());
  std::mt19937_64 random(1);
  for (auto _ : state) {
    const auto reader = LedgerReader::open(large_log().folder.options().path);
    if (!reader || !(*reader)->prove_entry(random() % (large_log().size - 1))) return state.SkipWithError("no proof");
  }
}
BENCHMARK(open_and_prove)->Unit(benchmark::kMicrosecond);

void prove_consistency(benchmark::State& state) {
  if (!large_log().error.empty()) return state.SkipWithError(large_log().error.c_str());
  const auto reader = LedgerReader::open(large_log().folder.options().path);
  if (!reader) return state.SkipWithError(reader.error().message.c_str());
  std::mt19937_64 random(1);
  for (auto _ : state) {
    if (!(*reader)->prove_consistency(random() % (large_log().size - 1))) return state.SkipWithError("no proof");
  }
}
BENCHMARK(prove_consistency)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace daemoneye::ledger
