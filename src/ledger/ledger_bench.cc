// CPU of what the ledger adds to the way of a batch: one durable journal call before each send, one seal a second.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "ledger/ledger.h"

namespace daemoneye::ledger {
namespace {

class Fixture {
 public:
  Fixture() {
    char name[] = "/tmp/daemoneye-ledger-bench-XXXXXX";
    root_ = ::mkdtemp(name);
    if (auto opened = Ledger::open({root_ + "/audit/audit.redb", ""})) ledger = *std::move(opened);
  }
  ~Fixture() {
    ledger.reset();
    std::filesystem::remove_all(root_);
  }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;
  std::unique_ptr<Ledger> ledger;

 private:
  std::string root_;
};

void journal_batches(benchmark::State& state) {
  const Fixture fixture;
  if (!fixture.ledger) return state.SkipWithError("cannot open a ledger");
  const auto batches = static_cast<std::uint64_t>(state.range(0));
  std::uint64_t sequence = 0;
  for (auto _ : state) {
    std::vector<Ledger::BatchDigest> digests;
    for (std::uint64_t i = 0; i < batches; ++i) digests.push_back({{}, ++sequence, base::sha256("batch")});
    if (!fixture.ledger->journal_batches(digests)) return state.SkipWithError("journal failed");
    constexpr std::uint64_t batches_a_second = 100;
    if (sequence % batches_a_second < batches && !fixture.ledger->seal_batches()) {
      return state.SkipWithError("seal failed");
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(sequence));
}
BENCHMARK(journal_batches)->Arg(1)->Arg(10)->Unit(benchmark::kMicrosecond);

void append(benchmark::State& state) {
  const Fixture fixture;
  if (!fixture.ledger) return state.SkipWithError("cannot open a ledger");
  for (auto _ : state) {
    if (!fixture.ledger->append("procmond", "bench", R"({"count":1,"reason":"bench"})")) {
      return state.SkipWithError("append failed");
    }
  }
}
BENCHMARK(append)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace daemoneye::ledger
