#include "collector/budget.h"

#include <algorithm>
#include <bit>

namespace daemoneye::collector {
namespace {

constexpr std::size_t mib = 1024 * 1024;
// An entry of the process table with an image of its own (TrackerTest.FitsItsShareOfTheBudget holds it to this).
constexpr std::size_t process_bytes = 768;
constexpr std::size_t hashed_file_bytes = 320;
constexpr std::size_t waiting_bytes = 512;  // a process that waits for a hash, its request and its path
constexpr std::size_t least_ring = mib, largest_ring = 64 * mib;
constexpr std::size_t least_processes = 4096;
constexpr std::size_t least_held = 2 * mib;  // a batch must fit

}  // namespace

Budget Budget::of(std::uint32_t memory_budget_mb) {
  const std::size_t all = memory_budget_mb * mib;
  Budget budget;
  budget.ring_bytes = std::clamp(std::bit_floor(all / 12), least_ring, largest_ring);
  budget.table_bytes = std::max(least_processes * process_bytes, all / 4);
  budget.processes = budget.table_bytes / process_bytes;
  budget.held_bytes = std::max(least_held, all / 8);
  budget.hashed_files = all * 3 / 100 / hashed_file_bytes;
  budget.hashes_waiting_bytes = all / 50;
  budget.hashes_waiting = budget.hashes_waiting_bytes / waiting_bytes;
  return budget;
}

}  // namespace daemoneye::collector
