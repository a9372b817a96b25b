// What the wire costs an event: a batch of ~300 B events is encoded, framed, unframed and decoded again.
#include <benchmark/benchmark.h>

#include <string>

#include "base/hash.h"
#include "ipc/codec.h"
#include "ipc/frame.h"

namespace daemoneye::ipc {
namespace {

constexpr std::size_t event_bytes = 300;

BatchMessage batch_of(std::size_t events) {
  BatchMessage batch;
  batch.sequence = 1;
  for (std::size_t i = 0; i < events * event_bytes; ++i) batch.canonical.push_back(static_cast<char>(i * 31 % 251));
  batch.digest = base::as_bytes(base::sha256(batch.canonical));
  return batch;
}

void report(benchmark::State& state, std::size_t events, std::size_t bytes) {
  const auto rounds = static_cast<double>(state.iterations());
  state.counters["ns_per_event"] = benchmark::Counter(rounds * static_cast<double>(events) / 1e9,
                                                      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.SetBytesProcessed(static_cast<std::int64_t>(rounds * static_cast<double>(bytes)));
}

void wire_round_trip(benchmark::State& state) {
  const auto events = static_cast<std::size_t>(state.range(0));
  const Message message = batch_of(events);
  FrameReader reader;
  std::string wire;
  std::uint64_t sequence = 0;
  for (auto step : state) {
    static_cast<void>(step);
    wire.clear();
    append_frame(wire, ++sequence, encode_message(message));
    reader.feed(wire);
    std::string_view payload;
    const auto next = reader.next(payload);
    if (!next || !*next) {
      state.SkipWithError("no frame");
      break;
    }
    auto decoded = decode_message(payload);
    if (!decoded) {
      state.SkipWithError("no message");
      break;
    }
    benchmark::DoNotOptimize(decoded);
  }
  report(state, events, wire.size());
}
BENCHMARK(wire_round_trip)->Arg(1)->Arg(100)->Arg(1000);

// The receiver's check of the same batch, for comparison: what the digest alone costs.
void digest(benchmark::State& state) {
  const auto events = static_cast<std::size_t>(state.range(0));
  const auto batch = batch_of(events);
  for (auto step : state) {
    static_cast<void>(step);
    benchmark::DoNotOptimize(base::sha256(batch.canonical));
  }
  report(state, events, batch.canonical.size());
}
BENCHMARK(digest)->Arg(1000);

}  // namespace
}  // namespace daemoneye::ipc
