// What a process of ours takes of the machine, as /proc tells.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace daemoneye::observe {

struct ProcessUse {
  std::uint64_t own_bytes = 0;   // resident, of nobody else: anonymous and shared memory
  std::uint64_t file_bytes = 0;  // resident pages of files: programs and libraries, which processes share
  double cpu_seconds = 0;        // user and system, since its start
  [[nodiscard]] std::uint64_t resident_bytes() const { return own_bytes + file_bytes; }
};

Result<ProcessUse> read_process_use(pid_t pid);
// Children of this process and theirs; empty where the kernel does not list them. At most `max_descendants`.
inline constexpr std::size_t max_descendants = 64;
std::vector<pid_t> descendants_of(pid_t pid);

}  // namespace daemoneye::observe
