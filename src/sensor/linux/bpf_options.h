// How the eBPF programs are loaded and read; what tests and measurements may choose otherwise.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "sensor/source.h"

namespace daemoneye::sensor {

struct BpfOptions {
  std::size_t ring_bytes = std::size_t{8} << 20;
  // Whether the programs may use bpf_rdonly_cast (since 6.2); where the kernel has none they are loaded without.
  bool casts = true;
  // Whether the task iterator may sleep to copy arguments; where it may not, they come from /proc.
  bool sleepable = true;
  // Whether a fork is handed over at once, or with what comes next, a second later at most.
  bool forks_wake = true;
  // Asked before the ring is read: 0, or an errno that is taken for the outcome.
  std::function<int()> read_error;
};

Result<std::unique_ptr<Source>> open_bpf_source(BpfOptions options);
Result<std::unique_ptr<Snapshot>> open_bpf_snapshot(BpfOptions options);

// `load(casts)`, and once more without casts where that is what the kernel may have refused.
template <class Load>
auto load_with_fallback(bool casts, Load load) -> decltype(load(casts)) {
  auto loaded = load(casts);
  if (loaded || !casts || loaded.error().code == Errc::permission_denied) return loaded;
  return load(false);
}

}  // namespace daemoneye::sensor
