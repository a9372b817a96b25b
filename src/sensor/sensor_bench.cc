// How long one look at all processes takes: of this machine, and with 10,000 sleeping ones besides. Peers (ps, psutil)
// are run in the same process list; they are skipped where they are not installed. Names: scan/SET/WHO.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "sensor/masking.h"
#include "sensor/source.h"

namespace daemoneye::sensor {
namespace {

constexpr int kSleepers = 10'000;

// A child that has forked the sleepers; all of them die with it, and it dies with us.
class Sleepers {
 public:
  Sleepers() {
    std::array<int, 2> ready{};
    if (::pipe2(ready.data(), O_CLOEXEC) != 0) return;
    nursery_ = ::fork();
    if (nursery_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::setpgid(0, 0);
      for (int i = 0; i < kSleepers; ++i) {
        const pid_t child = ::fork();
        if (child < 0) ::_exit(1);
        if (child == 0) {
          ::prctl(PR_SET_PDEATHSIG, SIGKILL);
          for (;;) ::pause();
        }
      }
      [[maybe_unused]] const auto told = ::write(ready[1], "x", 1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte = 0;
    complete_ = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
  }
  ~Sleepers() {
    if (nursery_ <= 0) return;
    ::kill(-nursery_, SIGKILL);
    ::waitpid(nursery_, nullptr, 0);
  }
  Sleepers(const Sleepers&) = delete;
  Sleepers& operator=(const Sleepers&) = delete;

  static bool start() {
    static const Sleepers sleepers;
    return sleepers.complete_;
  }

 private:
  pid_t nursery_ = -1;
  bool complete_ = false;
};

enum class Set { this_machine, ten_thousand };

bool prepare(benchmark::State& state, Set set) {
  if (set == Set::this_machine || Sleepers::start()) return true;
  state.SkipWithError("10,000 processes could not be started");
  return false;
}

void run_snapshot(benchmark::State& state, Set set, Result<std::unique_ptr<Snapshot>> snapshot) {
  if (!prepare(state, set)) return;
  if (!snapshot) return state.SkipWithError(snapshot.error().message.c_str());
  std::uint64_t processes = 0, bytes = 0;
  for (auto _ : state) {
    const auto result = (*snapshot)->scan(Depth::full, [&](const RawProcess& seen) { bytes += seen.comm.size(); });
    if (!result) return state.SkipWithError(result.error().message.c_str());
    processes = result->processes;
  }
  benchmark::DoNotOptimize(bytes);
  state.counters["processes"] = static_cast<double>(processes);
}

void scan_bpf_iter(benchmark::State& state, Set set) { run_snapshot(state, set, open_bpf_snapshot()); }
void scan_procfs(benchmark::State& state, Set set) { run_snapshot(state, set, open_procfs_snapshot()); }

// The first line a command prints; nothing when it fails.
std::string output_of(const char* command) {
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command, "re"), ::pclose);
  if (!pipe) return {};
  std::array<char, 128> line{};
  return std::fgets(line.data(), line.size(), pipe.get()) == nullptr ? std::string() : std::string(line.data());
}

void scan_ps(benchmark::State& state, Set set) {
  if (!prepare(state, set)) return;
  if (output_of("command -v ps").empty()) return state.SkipWithError("ps is not installed");
  for (auto _ : state) {
    if (std::system("ps -eo pid,ppid,uid,args >/dev/null") != 0) return state.SkipWithError("ps failed");
  }
}

// Timed by itself, without the interpreter's start.
void scan_psutil(benchmark::State& state, Set set) {
  if (!prepare(state, set)) return;
  for (auto _ : state) {
    const auto seconds = output_of(
        "/usr/bin/python3 -c 'import psutil, time; t = time.perf_counter(); "
        "[p.info for p in psutil.process_iter([\"pid\", \"ppid\", \"name\", \"exe\", \"cmdline\", \"uids\", "
        "\"create_time\", \"cpu_times\", \"memory_info\", \"status\"])]; print(time.perf_counter() - t)' 2>/dev/null");
    if (seconds.empty()) return state.SkipWithError("python3-psutil is not installed");
    state.SetIterationTime(std::strtod(seconds.c_str(), nullptr));
  }
}

void mask(benchmark::State& state, const char* name, const std::string& arguments) {
  std::string bytes;
  for (auto _ : state) {
    bytes = arguments;
    benchmark::DoNotOptimize(mask_arguments(name, bytes));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * arguments.size()));
}

[[maybe_unused]] const bool registered = [] {
  using benchmark::RegisterBenchmark;
  for (const auto& [set, name] :
       {std::pair{Set::this_machine, "this_machine"}, {Set::ten_thousand, "10000_sleeping"}}) {
    const auto title = [&](const char* who) { return std::string("scan/") + name + "/" + who; };
    RegisterBenchmark(title("bpf_iter").c_str(), scan_bpf_iter, set)->Unit(benchmark::kMillisecond)->UseRealTime();
    RegisterBenchmark(title("procfs").c_str(), scan_procfs, set)->Unit(benchmark::kMillisecond)->UseRealTime();
    RegisterBenchmark(title("peer_ps").c_str(), scan_ps, set)->Unit(benchmark::kMillisecond)->UseRealTime();
    RegisterBenchmark(title("peer_psutil").c_str(), scan_psutil, set)
        ->Unit(benchmark::kMillisecond)
        ->UseManualTime()
        ->MinTime(0.2);
  }
  using std::string_literals::operator""s;
  RegisterBenchmark("mask/plain", mask, "ls", "ls\0-la\0--color=auto\0/usr/share/doc\0"s);
  RegisterBenchmark("mask/secret", mask, "curl", "curl\0-sSu\0me:secret\0https://h/?token=abc&x=1\0"s);
  RegisterBenchmark("mask/16k", mask, "java", "java\0-cp\0"s + std::string(16'000, 'x') + '\0');
  return true;
}();

}  // namespace
}  // namespace daemoneye::sensor
