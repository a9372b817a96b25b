// A process as it travels through the house: who it is, and what is known of it. Absent knowledge is nullopt.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace daemoneye::event {

using Pid = std::uint32_t;
using BootId = std::array<std::uint8_t, 16>;  // /proc/sys/kernel/random/boot_id

// One process instance: a pid is reused, (boot id, pid, start ticks) is not.
struct ProcessKey {
  BootId boot{};
  Pid pid = 0;
  std::uint64_t start_ticks = 0;  // field 22 of /proc/PID/stat: clock ticks (1/100 s) since boot
  auto operator<=>(const ProcessKey&) const = default;
};

// "BOOT-PID-TICKS": 32 hex digits, decimal, decimal. The text form used in SQL, JSON and logs.
std::string to_string(const ProcessKey& key);
Result<ProcessKey> parse_process_key(std::string_view text);

enum class ProcessStatus : std::uint8_t { running = 1, sleeping, stopped, zombie, exited };
enum class ExecutableState : std::uint8_t { ok = 1, deleted, replaced, memfd, unreadable, kernel };
std::string_view to_string(ProcessStatus status);
std::string_view to_string(ExecutableState state);
std::optional<ProcessStatus> parse_process_status(std::string_view text);
std::optional<ExecutableState> parse_executable_state(std::string_view text);

// argv. Kept as the kernel gives it: each argument followed by one NUL, so [] and [""] differ.
class Arguments {
 public:
  Arguments() = default;
  // Takes bytes in /proc/PID/cmdline form; a missing last NUL is added.
  static Arguments from_nul_separated(std::string_view bytes);
  static Arguments adopt(std::string bytes);                         // the same without a copy
  static Arguments from_list(const std::vector<std::string>& list);  // an embedded NUL ends that argument

  [[nodiscard]] std::vector<std::string_view> list() const;
  [[nodiscard]] std::string command_line() const;  // joined by one space, nothing quoted
  [[nodiscard]] std::string json() const;          // a JSON list of strings
  [[nodiscard]] const std::string& nul_terminated() const { return bytes_; }
  bool operator==(const Arguments&) const = default;

 private:
  std::string bytes_;
};

// Optional text: nullopt is unknown, "" is known to be empty.
struct ProcessInfo {
  ProcessKey key;  // key.pid is the pid
  std::optional<Pid> ppid;
  std::optional<ProcessKey> parent_key;
  std::string name;  // base name of the executed file (a script's own); for kernel threads the comm
  std::optional<std::string> comm;
  std::optional<std::string> executable_path;
  std::optional<Arguments> arguments;  // masked before it leaves procmond
  std::optional<std::string> cwd;
  std::optional<std::uint32_t> uid, gid, euid, loginuid;
  std::optional<std::string> user;
  std::optional<std::uint32_t> session_id;
  std::optional<std::string> tty;
  std::optional<Timestamp> start_time, exit_time;
  std::optional<std::int32_t> exit_code, exit_signal;
  std::optional<double> cpu_usage;            // percent of one core since the last look
  std::optional<std::uint64_t> memory_usage;  // resident bytes
  ProcessStatus status = ProcessStatus::running;
  std::optional<std::string> executable_hash;  // SHA-256, 64 lower-case hex digits
  std::optional<ExecutableState> executable_state;
  std::optional<std::string> cgroup, container_id;
  Timestamp collection_time;
  std::optional<std::uint64_t> scan_id;
  bool operator==(const ProcessInfo&) const = default;
};

}  // namespace daemoneye::event

template <>
struct std::hash<daemoneye::event::ProcessKey> {
  std::size_t operator()(const daemoneye::event::ProcessKey& key) const noexcept {
    // The boot id is the same for nearly all keys; mixing pid and ticks is what spreads them.
    const std::uint64_t mixed = (key.start_ticks << 22 ^ key.pid) * 0x9e3779b97f4a7c15ULL;
    return static_cast<std::size_t>(mixed ^ (mixed >> 32) ^ key.boot[0]);
  }
};
