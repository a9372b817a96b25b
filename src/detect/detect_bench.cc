// Evaluation of the bundled rules over batches of 1000 events, on one thread: no commit, no alert is written.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <future>

#include "detect/evaluator.h"
#include "event/batch.h"

namespace daemoneye::detect {
namespace {

constexpr int batch_events = 1000;
// Beside the sources: a benchmark runs where it was built.
const std::string rules_folder = (std::filesystem::path(__FILE__).parent_path() / "../../rules").lexically_normal();

std::vector<event::ProcessEvent> everyday_events() {
  const std::vector<std::vector<std::string>> commands = {
      {"sh", "-c", "test -f /etc/foo && cat /etc/foo"},
      {"grep", "-q", "pattern", "/var/lib/some/file"},
      {"cc1plus", "-quiet", "-I", "/usr/include/c++/12", "-o", "/tmp/ccAbCd.s", "source.cc"},
      {"sleep", "1"},
      {"python3", "/usr/bin/unattended-upgrade", "--download-only"},
      {"ls", "-la", "/srv"},
      {"git", "status"},
      {"bash", "-c", "for i in 1 2 3; do echo $i; done"},
      {"systemctl", "is-active", "ssh"},
      {"find", "/srv", "-name", "*.o"}};
  std::vector<event::ProcessEvent> events;
  for (int i = 0; i < batch_events; ++i) {
    event::ProcessEvent event;
    const auto& command = commands[static_cast<std::size_t>(i) % commands.size()];
    event.time = event.process.collection_time = Timestamp{1'800'000'000'000'000'000 + i};
    event.kind = event::EventKind::exec;
    event.source = event::EventSource::ebpf;
    event.process.key.pid = static_cast<event::Pid>(i + 2);
    event.process.key.start_ticks = static_cast<std::uint64_t>(i);
    event.process.name = command.front();
    event.process.executable_path = "/usr/bin/" + command.front();
    event.process.arguments = event::Arguments::from_list(command);
    event.process.uid = 1000;
    event.process.executable_state = event::ExecutableState::ok;
    event.parent_name = "bash";
    events.push_back(std::move(event));
  }
  return events;
}

void bundled_rules_over_a_batch(benchmark::State& state) {
  std::string folder = "/tmp/daemoneye-bench-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) std::abort();
  {
    store::StoreOptions store_options;
    store_options.path = folder + "/events.redb";
    auto writer = store::Writer::open(store_options);
    if (!writer) std::abort();
    event::Batch batch;
    batch.id.source = "bench";
    batch.id.sequence = 1;
    batch.events = everyday_events();
    const auto bytes = event::encode_batch(batch);
    std::promise<bool> committed;
    (*writer)->commit_batch(batch.id, *bytes, event::batch_digest(*bytes), {},
                            [&](const Result<store::Commit>& commit) { committed.set_value(commit.has_value()); });
    if (!committed.get_future().get()) std::abort();

    EngineOptions options;
    options.store_path = store_options.path;
    RuleBoard board;
    auto connection = sql::Connection::open(options.store_path, "");
    if (!connection) std::abort();
    Evaluator evaluator(*std::move(connection), options, board);
    auto rules = std::make_shared<const RuleSet>(load_rules({rules_folder}));
    board.replace(*rules, base::wall_now(), true);
    evaluator.use(rules, Prefilter::build(*rules));
    std::size_t alerts = 0;
    for (auto _ : state) {
      auto events = read_events(evaluator.reader(), 1, batch_events, batch_events);
      if (!events) std::abort();
      auto raises = evaluator.stream(*events, base::wall_now(), base::wall_now(), {});
      if (!raises) std::abort();
      alerts += raises->size();
    }
    state.SetItemsProcessed(state.iterations() * batch_events);
    state.counters["rules"] = static_cast<double>(rules->rules.size());
    state.counters["alerts"] = static_cast<double>(alerts);
    (*writer)->close(Deadline::after(std::chrono::seconds(10)));
  }
  std::filesystem::remove_all(folder);
}
BENCHMARK(bundled_rules_over_a_batch)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace daemoneye::detect
