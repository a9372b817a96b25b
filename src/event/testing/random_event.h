// Random events for property tests, here and in the rooms that keep or send events. Same seed, same events.
// With `hostile`, texts hold any bytes and numbers their extremes; otherwise what a real machine could show.
#pragma once

#include <limits>
#include <random>
#include <string>

#include "event/process_event.h"

namespace daemoneye::event::testing {

class RandomEvents {
 public:
  explicit RandomEvents(std::uint64_t seed, bool hostile = true) : random_(seed), hostile_(hostile) {}

  ProcessEvent next() {
    ProcessEvent event;
    event.time.ns = time();
    event.kind = static_cast<EventKind>(number(1, 6));
    event.source = static_cast<EventSource>(number(1, 4));
    if (maybe()) event.detail = R"({"n":)" + std::to_string(number(0, 1000)) + '}';
    event.process.collection_time.ns = time();
    if (event.kind == EventKind::gap) return event;
    process(event.process);
    fill(event.parent_name);
    fill(event.parent_executable_path);
    fill(event.parent_command_line);
    return event;
  }

  ProcessKey key() {
    ProcessKey key;
    key.boot.fill(static_cast<std::uint8_t>(number(1, 2)));
    key.pid = static_cast<Pid>(number(0, hostile_ ? std::numeric_limits<Pid>::max() : 4'194'304));
    key.start_ticks = number(0, hostile_ ? std::numeric_limits<std::uint64_t>::max() : 1'000'000'000);
    return key;
  }

  std::uint64_t number(std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random_);
  }
  bool maybe() { return number(0, 1) == 1; }

  std::string text() {
    std::string bytes(number(0, 20), '\0');
    for (char& byte : bytes) {
      byte = static_cast<char>(hostile_ ? number(0, 255) : number('a', 'z'));
    }
    return bytes;
  }

 private:
  void process(ProcessInfo& process) {
    process.key = key();
    fill(process.ppid);
    if (maybe()) process.parent_key = key();
    process.name = text();
    fill(process.comm);
    fill(process.executable_path);
    if (maybe()) process.arguments = Arguments::from_nul_separated(text());
    fill(process.cwd);
    fill(process.uid);
    fill(process.gid);
    fill(process.euid);
    fill(process.loginuid);
    fill(process.user);
    fill(process.session_id);
    fill(process.tty);
    fill(process.start_time);
    fill(process.exit_time);
    fill(process.exit_code);
    fill(process.exit_signal);
    if (maybe()) process.cpu_usage = static_cast<double>(number(0, 100'000)) / 1000;
    fill(process.memory_usage);
    process.status = static_cast<ProcessStatus>(number(1, 5));
    if (maybe()) process.executable_hash = std::string(64, static_cast<char>(number('a', 'f')));
    if (maybe()) process.executable_state = static_cast<ExecutableState>(number(1, 6));
    fill(process.cgroup);
    fill(process.container_id);
    fill(process.scan_id);
  }

  std::int64_t time() {
    if (hostile_ && number(0, 9) == 0) {
      return maybe() ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
    }
    return 1'790'000'000'000'000'000 + static_cast<std::int64_t>(number(0, 3'600'000'000'000));
  }
  void fill(std::optional<std::string>& field) {
    if (maybe()) field = text();
  }
  void fill(std::optional<std::uint32_t>& field) {
    if (maybe()) field = static_cast<std::uint32_t>(number(0, hostile_ ? UINT32_MAX : 70'000));
  }
  void fill(std::optional<std::uint64_t>& field) {
    if (maybe()) field = number(0, hostile_ ? INT64_MAX : 1'000'000'000);
  }
  void fill(std::optional<std::int32_t>& field) {
    if (!maybe()) return;
    const auto value = static_cast<std::int64_t>(number(0, hostile_ ? UINT32_MAX : 255));
    field = static_cast<std::int32_t>(hostile_ ? value + INT32_MIN : value);
  }
  void fill(std::optional<Timestamp>& field) {
    if (maybe()) field = Timestamp{time()};
  }

  std::mt19937_64 random_;
  bool hostile_;
};

}  // namespace daemoneye::event::testing
