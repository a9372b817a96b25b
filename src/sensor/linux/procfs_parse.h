// The texts of /proc/PID, parsed. Pure functions: bytes in, fields out; nothing is trusted to be there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "event/process.h"

namespace daemoneye::sensor {

// Of /proc/PID/stat. Views point into the parsed text.
struct StatFields {
  event::Pid pid = 0, ppid = 0;
  std::string_view comm;  // may hold blanks, brackets, newlines
  char state = '?';
  std::uint32_t session = 0;
  std::uint32_t tty_number = 0;  // device number as the kernel encodes it; 0: none
  bool kernel_thread = false;
  std::uint64_t cpu_ticks = 0;    // utime + stime of the whole thread group
  std::uint64_t start_ticks = 0;  // field 22
  std::uint64_t threads = 0;      // those not yet released: a process that ended is a zombie with one
};
std::optional<StatFields> parse_stat(std::string_view text);

struct StatusFields {
  std::optional<std::uint32_t> uid, euid, gid, egid;
  // VmRSS; nothing for what has no memory of its own. Exact, where field 24 of stat may be off by hundreds of pages.
  std::optional<std::uint64_t> resident_bytes;
};
StatusFields parse_status(std::string_view text);

// The one path that stands for a process in /proc/PID/cgroup. The v2 hierarchy ("0::") is the answer unless it is
// absent or at its root, as on hosts that still use v1: then the first of named systemd, memory, pids that is not at
// its root. The eBPF side chooses in the same order.
std::optional<std::string_view> choose_cgroup(std::string_view text);

// "pts/3", "tty1", "ttyS0", "console" of a stat tty number; nullopt: no terminal, or a driver without a known name.
std::optional<std::string> tty_name(std::uint32_t tty_number);

// R, S, D, T, t, Z, X, I of stat.
std::optional<event::ProcessStatus> status_of(char state);

}  // namespace daemoneye::sensor
