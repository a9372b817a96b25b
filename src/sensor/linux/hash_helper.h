// The helper's own processes: a keeper that only waits and forks, and below it the worker that opens and hashes.
// Runs in the forked child of open_hasher() and never returns from there.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/unique_fd.h"
#include "sensor/hasher.h"

namespace daemoneye::sensor {

// One page shared by procmond, keeper and worker. Readers take nothing here for more than a number.
struct HashProgress {
  std::atomic<std::uint64_t> steps;    // grows while the worker gets on
  std::atomic<std::uint64_t> current;  // id of the request that it is at; 0: none
  std::atomic<std::uint64_t> bytes, cpu_ns;
  std::atomic<unsigned> cpu_percent;  // procmond's word: the share of a core that the worker keeps to
};

struct HelperHandles {
  UniqueFd messages;  // SOCK_SEQPACKET to procmond
  UniqueFd control;   // a byte from procmond: the worker hangs, replace it; closed: end
  HashProgress* progress = nullptr;
};

[[noreturn]] void run_hash_keeper(const HasherOptions& options, const Confinement& confinement, HelperHandles handles);

}  // namespace daemoneye::sensor
