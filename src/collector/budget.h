// How app.memory_budget_mb is shared out in procmond. The one place where its numbers come from.
#pragma once

#include <cstddef>
#include <cstdint>

namespace daemoneye::collector {

// The budget is of both daemons; about half is this program's. At the default of 100 MB:
//
//   what            share    bound                      resident
//   ring            1/12     8 MiB, a power of two      8 MiB, from the start
//   process table   1/4      25 MiB, 34,133 processes   8 MB for 10,000; what ended and is owed or hashed included
//   held batches    1/8      12.5 MiB, compressed       as much as the agent is behind
//   hash cache      3/100    9,830 files, as many paths 3 MB each
//   hashes to come  1/50     2 MiB, 4,096 processes     what waits for the hashing helper
//
// The program itself takes about 12 MB. Over a bound: the ring loses events (counted by the kernel's side, a gap
// event), the table first keeps long arguments short (told whole once; counted), then reports processes without
// remembering their parents (counted as untracked), the held batches shed (counted, a gap event), the cache forgets
// (and hashes again), and what may not wait for its hash is told without (counted).
struct Budget {
  std::size_t ring_bytes = 0;
  std::size_t processes = 0, table_bytes = 0;
  std::size_t held_bytes = 0;
  std::size_t hashed_files = 0;
  std::size_t hashes_waiting = 0, hashes_waiting_bytes = 0;

  static Budget of(std::uint32_t memory_budget_mb);
};

}  // namespace daemoneye::collector
