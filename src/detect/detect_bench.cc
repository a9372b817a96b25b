// Detection, on one thread where not said otherwise: the stream over generated rules (bench_rules.h), loading and
// memory, scheduled bundled rules, and the way from a committed event to a committed alert.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "detect/bench_rules.h"
#include "detect/evaluator.h"
#include "detect/schedule.h"
#include "event/batch.h"

namespace daemoneye::detect {
namespace {

using namespace std::chrono_literals;
using base::SteadyClock;

// Beside the sources: a benchmark runs where it was built.
const std::string bundled_folder = DAEMONEYE_SOURCE_DIR "/rules";

double seconds_since(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<std::size_t>(q * static_cast<double>(values.size())))];
}

// Bytes that the program has taken from the system for itself.
double private_megabytes() {
  ::malloc_trim(0);
  std::ifstream status("/proc/self/smaps_rollup");
  std::string key;
  double kilobytes = 0, sum = 0;
  while (status >> key) {
    if (key == "Private_Dirty:" && status >> kilobytes) sum += kilobytes;
  }
  return sum / 1024;
}

class Store {
 public:
  Store() {
    folder_ = "/tmp/daemoneye-bench-XXXXXX";
    if (::mkdtemp(folder_.data()) == nullptr) std::abort();
    store::StoreOptions options;
    options.path = path();
    options.retention_days = 0;
    auto opened = store::Writer::open(options);
    if (!opened) std::abort();
    writer = *std::move(opened);
  }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  ~Store() {
    writer->close(Deadline::after(10s));
    std::filesystem::remove_all(folder_);
  }
  [[nodiscard]] std::string path() const { return folder_ + "/events.redb"; }
  [[nodiscard]] std::string folder(const std::string& name) const { return folder_ + "/" + name; }

  store::Commit commit(std::vector<event::ProcessEvent> events, Engine* engine = nullptr) {
    event::Batch batch;
    batch.id.source = "bench";
    batch.id.sequence = ++sequence_;
    batch.events = std::move(events);
    auto bytes = event::encode_batch(batch);
    if (!bytes) std::abort();
    const auto digest = event::batch_digest(*bytes);
    std::promise<store::Commit> done;
    writer->commit_batch(batch.id, *std::move(bytes), digest, {}, [&](const Result<store::Commit>& commit) {
      if (!commit) std::abort();
      if (engine != nullptr) engine->on_commit(*commit);
      done.set_value(*commit);
    });
    return done.get_future().get();
  }

  std::unique_ptr<store::Writer> writer;

 private:
  std::string folder_;
  std::uint64_t sequence_ = 0;
};

// Events in the store, and evaluators over it.
struct Stream {
  Stream() { batch = store.commit(bench_events(batch_events, now_ns, 0)); }
  std::unique_ptr<Evaluator> evaluator(const std::shared_ptr<const RuleSet>& rules, bool prefilter) {
    auto connection = sql::Connection::open(store.path(), "");
    if (!connection) std::abort();
    options.store_path = store.path();
    board.replace(*rules, base::wall_now(), true);
    auto made = std::make_unique<Evaluator>(*std::move(connection), options, live, board, limits);
    made->use(rules, prefilter ? Prefilter::build(*rules) : nullptr);
    events = *read_events(made->reader(), batch.first_event, batch.last_event, batch_events);
    return made;
  }
  std::size_t run(Evaluator& evaluator) const {
    auto raises = evaluator.stream(events, batch.time, batch.time, {});
    if (!raises) std::abort();
    return raises->size();
  }

  static constexpr std::size_t batch_events = 1000;
  static constexpr std::int64_t now_ns = 1'800'000'000'000'000'000;
  Store store;
  store::Commit batch;
  StoredEvents events;
  EngineOptions options;
  LiveLimits live{options};
  RuleBoard board;
  RuleLimits limits{0, {}};
};

std::shared_ptr<const RuleSet> generated(std::size_t count) {
  RuleSet set;
  for (std::size_t i = 0; i < count; ++i) {
    auto rule = compile_rule(bench_rule(i), "bench.yaml");
    if (!rule) std::abort();
    set.rules.push_back(*std::move(rule));
  }
  std::sort(set.rules.begin(), set.rules.end(),
            [](const LoadedRule& a, const LoadedRule& b) { return a.rule.id < b.rule.id; });
  return std::make_shared<const RuleSet>(std::move(set));
}

// Evaluation only: matches are made alerts, nothing is written.
void stream_rules(benchmark::State& state) {
  Stream stream;
  const auto rules = generated(static_cast<std::size_t>(state.range(0)));
  const auto evaluator = stream.evaluator(rules, true);
  std::size_t alerts = stream.run(*evaluator);  // prepares what it needs
  for (auto _ : state) alerts = stream.run(*evaluator);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(Stream::batch_events));
  state.counters["alerts_a_batch"] = static_cast<double>(alerts);
}
BENCHMARK(stream_rules)->Arg(100)->Arg(1000)->Arg(5000)->Unit(benchmark::kMillisecond);

// The same in one run against showing each batch to each rule's statement.
void stream_rules_against_each_statement(benchmark::State& state) {
  Stream stream;
  const auto rules = generated(1000);
  const auto filtered = stream.evaluator(rules, true);
  const auto plain = stream.evaluator(rules, false);
  if (stream.run(*filtered) != stream.run(*plain)) std::abort();
  double with = 0, without = 0;
  for (auto _ : state) {
    auto begin = SteadyClock::now();
    for (int i = 0; i < 10; ++i) stream.run(*filtered);
    with += seconds_since(begin) / 10;
    begin = SteadyClock::now();
    stream.run(*plain);
    without += seconds_since(begin);
  }
  state.counters["times"] = without / with;
  state.counters["events_a_second_each_statement"] =
      static_cast<double>(state.iterations() * static_cast<std::int64_t>(Stream::batch_events)) / without;
}
BENCHMARK(stream_rules_against_each_statement)->Unit(benchmark::kMillisecond);

void bundled_rules_over_a_batch(benchmark::State& state) {
  Stream stream;
  const auto rules = std::make_shared<const RuleSet>(load_rules({bundled_folder}));
  const auto evaluator = stream.evaluator(rules, true);
  std::size_t alerts = 0;
  for (auto _ : state) alerts = stream.run(*evaluator);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(Stream::batch_events));
  state.counters["rules"] = static_cast<double>(rules->rules.size());
  state.counters["alerts_a_batch"] = static_cast<double>(alerts);
}
BENCHMARK(bundled_rules_over_a_batch)->Unit(benchmark::kMillisecond);

// From files to what is in force.
void load_thousand_rules(benchmark::State& state) {
  Store store;
  const auto folder = store.folder("rules");
  std::filesystem::create_directory(folder);
  for (std::size_t i = 0; i < 1000; ++i) std::ofstream(folder + "/" + std::to_string(i) + ".yaml") << bench_rule(i);
  for (auto _ : state) {
    const auto set = load_rules({folder});
    const auto prefilter = Prefilter::build(set);
    if (set.rules.size() != 1000 || !set.unhealthy.empty()) std::abort();
    benchmark::DoNotOptimize(prefilter);
  }
}
BENCHMARK(load_thousand_rules)->Unit(benchmark::kMillisecond);

// What they take once they have run: rules, prefilter, prepared statements of those that had candidates.
void memory_of_thousand_rules(benchmark::State& state) {
  for (auto _ : state) {
    Stream stream;
    const auto few = generated(1);
    auto warm = stream.evaluator(few, true);
    stream.run(*warm);
    const double before = private_megabytes();
    const auto rules = generated(1000);
    const auto evaluator = stream.evaluator(rules, true);
    stream.run(*evaluator);
    state.counters["MB"] = private_megabytes() - before;
  }
}
BENCHMARK(memory_of_thousand_rules)->Iterations(1)->Unit(benchmark::kMillisecond);

// Rules with `evaluate` over ten minutes of 100,000 events each: those of the pack, and three that read as many rows as
// a rule can (bench_rules.h).
void scheduled_rules(benchmark::State& state, const std::function<RuleSet(const Store&)>& load) {
  constexpr std::int64_t events = 1'000'000, span_ns = 600'000'000'000, a_batch = 1000;
  Stream stream;
  for (std::int64_t i = 0; i < events; i += a_batch) {
    stream.store.commit(bench_events(a_batch, Stream::now_ns + i * (span_ns / events), static_cast<std::size_t>(i)));
  }
  const auto rules = std::make_shared<const RuleSet>(load(stream.store));
  const auto evaluator = stream.evaluator(rules, true);
  std::vector<double> milliseconds;
  std::size_t count = 0;
  for (auto _ : state) {
    count = 0;
    for (const auto& rule : rules->rules) {
      if (!is_active_scheduled_rule(rule)) continue;
      ++count;
      const auto begin = SteadyClock::now();
      if (!evaluator->scheduled(rule.rule.id, {Timestamp{Stream::now_ns + span_ns}, false, {}}, {})) std::abort();
      milliseconds.push_back(seconds_since(begin) * 1000);
    }
  }
  state.counters["rules"] = static_cast<double>(count);
  state.counters["p50_ms"] = quantile(milliseconds, 0.5);
  state.counters["p99_ms"] = quantile(milliseconds, 0.99);
}
void scheduled_bundled_rule(benchmark::State& state) {
  scheduled_rules(state, [](const Store&) { return load_rules({bundled_folder}); });
}
BENCHMARK(scheduled_bundled_rule)->Iterations(100)->Unit(benchmark::kMillisecond);
void scheduled_rule(benchmark::State& state) {
  scheduled_rules(state, [](const Store& store) {
    const auto folder = store.folder("rules");
    std::filesystem::create_directory(folder);
    for (const auto& rule : bench_scheduled_rules()) {
      std::ofstream(folder + "/" + std::to_string(std::hash<std::string>{}(rule)) + ".yaml") << rule;
    }
    return load_rules({folder});
  });
}
BENCHMARK(scheduled_rule)->Iterations(100)->Unit(benchmark::kMillisecond);

// A thousand files are written anew while 1,000 events a second are committed: from the last file on disk until the
// rules are in force, the watcher's patience (200 ms without a change) included.
void reload_thousand_rules_under_load(benchmark::State& state) {
  Store store;
  const auto folder = store.folder("rules");
  std::filesystem::create_directory(folder);
  const auto write_all = [&](int version) {
    for (std::size_t i = 0; i < 1000; ++i) {
      const auto file = folder + "/" + std::to_string(i) + ".yaml";
      std::ofstream(file + ".new") << bench_rule(i) << "author: version " << version << "\n";
      std::filesystem::rename(file + ".new", file);
    }
  };
  write_all(0);
  EngineOptions options;
  options.store_path = store.path();
  options.rule_paths = {folder};
  std::atomic<int> in_force{0};
  options.on_rules = [&](const RuleSet*, const RuleSet& now) {
    int least = INT_MAX;
    for (const auto& rule : now.rules) least = std::min(least, rule.rule.author.back() - '0');
    in_force = least;
  };
  auto engine = Engine::start(options, *store.writer);
  if (!engine) std::abort();
  std::vector<double> seconds;
  {
    const std::jthread load([&](const std::stop_token& stop) {
      auto next = SteadyClock::now();
      for (std::size_t batch = 0; !stop.stop_requested(); ++batch) {
        store.commit(bench_events(10, base::wall_now().ns, batch * 10, batch % 10 == 0), engine->get());
        next += 10ms;
        std::this_thread::sleep_until(next);
      }
    });
    int version = 0;
    for (auto _ : state) {
      write_all(++version);
      const auto begin = SteadyClock::now();
      while (in_force != version) std::this_thread::sleep_for(1ms);
      seconds.push_back(seconds_since(begin));
    }
  }
  (*engine)->stop(Deadline::after(10s));
  engine->reset();
  state.counters["p50_s"] = quantile(seconds, 0.5);
  state.counters["worst_s"] = quantile(seconds, 1);
}
BENCHMARK(reload_thousand_rules_under_load)->Iterations(9)->Unit(benchmark::kMillisecond);

// 1,000 events a second in batches of 10, a match in every tenth; from the commit's callback to the alert's.
void committed_event_to_committed_alert(benchmark::State& state) {
  Store store;
  const auto folder = store.folder("rules");
  std::filesystem::create_directory(folder);
  for (std::size_t i = 0; i < 1000; ++i) std::ofstream(folder + "/" + std::to_string(i) + ".yaml") << bench_rule(i);
  EngineOptions options;
  options.store_path = store.path();
  options.rule_paths = {folder};
  options.dedup_window = 0ms;
  options.rule_alerts_a_minute = 0;
  std::mutex mutex;
  std::vector<double> milliseconds;
  std::optional<SteadyClock::time_point> committed;
  options.on_raised = [&] {
    std::lock_guard lock(mutex);
    if (committed) milliseconds.push_back(seconds_since(*committed) * 1000);
    committed.reset();
  };
  auto engine = Engine::start(options, *store.writer);
  if (!engine) std::abort();
  for (auto _ : state) {
    auto next = SteadyClock::now();
    for (int batch = 0; batch < 600; ++batch) {
      const bool matches = batch % 10 == 0;
      auto events = bench_events(10, base::wall_now().ns, static_cast<std::size_t>(batch) * 10, matches);
      store.commit(std::move(events), engine->get());
      if (matches) {
        std::lock_guard lock(mutex);
        committed = SteadyClock::now();
      }
      next += 10ms;
      std::this_thread::sleep_until(next);
    }
  }
  (*engine)->stop(Deadline::after(10s));
  engine->reset();
  state.counters["alerts"] = static_cast<double>(milliseconds.size());
  state.counters["p50_ms"] = quantile(milliseconds, 0.5);
  state.counters["p99_ms"] = quantile(milliseconds, 0.99);
}
BENCHMARK(committed_event_to_committed_alert)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace daemoneye::detect
