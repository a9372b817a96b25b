// A machine's day in small: the same events for the same seed. About 500 executables, mostly distinct command lines,
// each process seen to start and to end. For benchmarks and load tests.
#pragma once

#include <cstdint>
#include <deque>
#include <random>
#include <string>

#include "event/process_event.h"

namespace daemoneye::store::testing {

class EventGenerator {
 public:
  explicit EventGenerator(std::uint64_t seed, std::int64_t start_ns = 1'790'000'000'000'000'000)
      : random_(seed), clock_(start_ns) {
    boot_.fill(0x5a);
  }

  event::ProcessEvent next() {
    clock_ += static_cast<std::int64_t>(random_() % 1'200'000);
    // About as many are alive as a busy server has.
    if (alive_.size() > 400 || (!alive_.empty() && random_() % 2 == 0)) return exit();
    return exec();
  }

 private:
  event::ProcessEvent exec() {
    event::ProcessEvent event;
    event.kind = event::EventKind::exec;
    event.source = event::EventSource::ebpf;
    event.time.ns = clock_;
    auto& process = event.process;
    const auto program = static_cast<unsigned>(random_() % 500 * (random_() % 500) / 500);  // few are many
    process.key = {boot_, ++pid_, static_cast<std::uint64_t>(clock_ / 10'000'000 % 1'000'000'000)};
    process.name = "program" + std::to_string(program);
    process.comm = process.name.substr(0, 15);
    process.executable_path = "/usr/lib/package" + std::to_string(program % 40) + "/bin/" + process.name;
    process.arguments = event::Arguments::from_list(
        {process.name, "--config", "/etc/" + process.name + ".conf", "--id=" + std::to_string(random_()), "--verbose"});
    process.cwd = program % 3 == 0 ? "/" : "/var/lib/" + process.name;
    process.uid = process.euid = program % 4 == 0 ? 0 : 1000 + program % 8;
    process.gid = *process.uid;
    process.user = *process.uid == 0 ? "root" : "user" + std::to_string(*process.uid);
    process.start_time = event.time;
    process.collection_time = event.time;
    process.session_id = 1 + program % 50;
    process.executable_hash = hash_of(program);
    process.executable_state = event::ExecutableState::ok;
    process.cgroup = "/system.slice/service" + std::to_string(program % 60) + ".service";
    if (!alive_.empty()) {
      const auto& parent = alive_[static_cast<std::size_t>(random_()) % alive_.size()];
      process.ppid = parent.process.key.pid;
      process.parent_key = parent.process.key;
      event.parent_name = parent.process.name;
      event.parent_executable_path = parent.process.executable_path;
      event.parent_command_line = parent.process.arguments->command_line();
    }
    alive_.push_back(event);
    return event;
  }

  event::ProcessEvent exit() {
    // Most are short-lived: the youngest end first, more often than not.
    const std::size_t at = random_() % 4 != 0 ? alive_.size() - 1 : static_cast<std::size_t>(random_()) % alive_.size();
    auto event = std::move(alive_[at]);
    alive_.erase(alive_.begin() + static_cast<std::ptrdiff_t>(at));
    event.kind = event::EventKind::exit;
    event.time.ns = clock_;
    auto& process = event.process;
    process.exit_time = process.collection_time = event.time;
    process.exit_code = random_() % 20 == 0 ? 1 : 0;
    process.status = event::ProcessStatus::exited;
    process.cpu_usage = static_cast<double>(random_() % 1000) / 10;
    process.memory_usage = random_() % 100'000'000;
    return event;
  }

  // As hard to compress as a real one.
  static std::string hash_of(unsigned program) {
    std::mt19937_64 bits(program);
    std::string hex;
    while (hex.size() < 64) hex += "0123456789abcdef"[bits() >> 60];
    return hex;
  }

  std::mt19937_64 random_;
  std::int64_t clock_;
  event::BootId boot_;
  event::Pid pid_ = 1000;
  std::deque<event::ProcessEvent> alive_;
};

}  // namespace daemoneye::store::testing
