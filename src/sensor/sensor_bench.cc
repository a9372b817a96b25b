// How long one look at all processes takes: of this machine, and with 10,000 sleeping ones besides. Peers (ps, psutil)
// look at the same processes; they are skipped where they are not installed. Names: scan/SET/WHO. `cpu_ms` is the
// processor time of one look, of the peers' own processes too.
//
// All are asked for the same: of each process its pid, parent, user and group ids, session, terminal, state, start,
// processor time, memory, names, executable, arguments, control group and login uid. What they give beyond or short of
// that:
//   bpf_iter  also the folder, the effective group, the executable's identity and links, namespaces
//   procfs    as bpf_iter, without namespaces
//   ps        one of user and group ids where that is enough for it; no folder, no identity
//   psutil    the folder, and all three user and group ids; no control group, session or login uid
//   counters  ids, state, processor time, memory and the executable's identity only: what most scans look at
//
// And what the process events connector misses (events/netlink): of processes that end at once, on two busy cores, the
// percentage with arguments; and of those that live 50 ms beside them.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <vector>

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

// Of this process and of the children that were waited for.
double cpu_seconds() {
  const auto of = [](int who) {
    rusage usage{};
    ::getrusage(who, &usage);
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  };
  return of(RUSAGE_SELF) + of(RUSAGE_CHILDREN);
}

void set_cpu(benchmark::State& state, double seconds) {
  state.counters["cpu_ms"] = 1e3 * seconds / static_cast<double>(state.iterations());
}

void run_snapshot(benchmark::State& state, Set set, Depth depth, Result<std::unique_ptr<Snapshot>> snapshot) {
  if (!prepare(state, set)) return;
  if (!snapshot) return state.SkipWithError(snapshot.error().message.c_str());
  std::uint64_t processes = 0, bytes = 0;
  // The first look at a process makes the kernel set up its files in /proc; whoever comes next finds them there.
  if (const auto first = (*snapshot)->scan(depth, [](const RawProcess&) {}); !first) {
    return state.SkipWithError(first.error().message.c_str());
  }
  const auto before = cpu_seconds();
  for (auto _ : state) {
    const auto result = (*snapshot)->scan(depth, [&](const RawProcess& seen) { bytes += seen.comm.size(); });
    if (!result) return state.SkipWithError(result.error().message.c_str());
    processes = result->processes;
  }
  set_cpu(state, cpu_seconds() - before);
  benchmark::DoNotOptimize(bytes);
  state.counters["processes"] = static_cast<double>(processes);
}

void scan_bpf_iter(benchmark::State& state, Set set, Depth depth) {
  run_snapshot(state, set, depth, open_bpf_snapshot());
}
void scan_procfs(benchmark::State& state, Set set, Depth depth) {
  run_snapshot(state, set, depth, open_procfs_snapshot());
}

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
  constexpr const char* command =
      "ps -eo pid,ppid,ruid,euid,rgid,sess,tty,stat,lstart,time,rss,comm,exe,cgroup,luid,args >/dev/null";
  if (std::system(command) != 0) return state.SkipWithError("ps failed");  // as above: the first is not measured
  const auto before = cpu_seconds();
  for (auto _ : state) {
    if (std::system(command) != 0) return state.SkipWithError("ps failed");
  }
  set_cpu(state, cpu_seconds() - before);
}

// Timed by itself, without the interpreter's start.
void scan_psutil(benchmark::State& state, Set set) {
  if (!prepare(state, set)) return;
  double cpu = 0;
  for (auto _ : state) {
    const auto seconds = output_of(
        "/usr/bin/python3 -c 'import psutil, time; t = time.perf_counter(); c = time.process_time(); "
        "[p.info for p in psutil.process_iter([\"pid\", \"ppid\", \"name\", \"exe\", \"cmdline\", \"cwd\", \"uids\", "
        "\"gids\", \"terminal\", \"create_time\", \"cpu_times\", \"memory_info\", \"status\"])]; "
        "print(time.perf_counter() - t, time.process_time() - c)' 2>/dev/null");
    if (seconds.empty()) return state.SkipWithError("python3-psutil is not installed");
    char* rest = nullptr;
    state.SetIterationTime(std::strtod(seconds.c_str(), &rest));
    cpu += std::strtod(rest, nullptr);
  }
  set_cpu(state, cpu);
}

// Starts `path` over and over, at most `at_once` living, and ends with the last of them. Killed with us.
pid_t start_spawner(const std::vector<std::string>& command, int count, int at_once) {
  const pid_t spawner = ::fork();
  if (spawner != 0) return spawner;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  int living = 0;
  for (int i = 0; i < count; ++i) {
    pid_t child = -1;
    if (::posix_spawn(&child, arguments[0], nullptr, nullptr, arguments.data(), environ) != 0) ::_exit(1);
    if (++living >= at_once && ::wait(nullptr) > 0) --living;
  }
  while (::wait(nullptr) > 0) {
  }
  ::_exit(0);
}

void events_netlink(benchmark::State& state) {
  constexpr int kShort = 4000, kLong = 200, kLongAtOnce = 10;
  auto source = open_netlink_source(16 * 1024 * 1024);
  if (!source) return state.SkipWithError(source.error().message.c_str());
  auto loop = EventLoop::create();
  if (!loop) return state.SkipWithError("no event loop");
  std::set<event::Pid> spawners;
  event::Pid long_spawner = 0;
  double short_seen = 0, short_told = 0, long_seen = 0, long_told = 0;
  const auto started = (*source)->start(
      **loop,
      [&](const RawEvent& seen) {
        if (seen.kind == RawKind::exit && spawners.erase(seen.process.pid) != 0 && spawners.empty()) (*loop)->stop();
        if (seen.kind != RawKind::exec) return;
        if (seen.process.ppid == long_spawner) {
          ++long_seen;
          long_told += seen.process.arguments ? 1 : 0;
        } else if (spawners.contains(seen.process.ppid)) {
          ++short_seen;
          short_told += seen.process.arguments ? 1 : 0;
        }
      },
      [&](const Error&) { (*loop)->stop(); });
  if (!started) return state.SkipWithError(started.error().message.c_str());
  for (auto _ : state) {
    long_spawner = static_cast<event::Pid>(start_spawner({"/bin/sleep", "0.05"}, kLong, kLongAtOnce));
    spawners = {long_spawner};
    for (int core = 0; core < 2; ++core) {
      spawners.insert(static_cast<event::Pid>(start_spawner({"/bin/true", "--help-not"}, kShort, 1)));
    }
    (*loop)->run();
    for (int i = 0; i < 3; ++i) ::wait(nullptr);
  }
  (*source)->stop();
  state.counters["true_percent"] = 100 * short_told / short_seen;
  state.counters["50ms_percent"] = 100 * long_told / long_seen;
  state.counters["execs_seen"] = short_seen + long_seen;
  state.counters["lost"] = static_cast<double>((*source)->counters().lost);
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
    for (const auto& [depth, suffix] : {std::pair{Depth::full, ""}, {Depth::counters, "_counters"}}) {
      const auto full_title = [&](const char* who) { return title((std::string(who) + suffix).c_str()); };
      RegisterBenchmark(full_title("bpf_iter").c_str(), scan_bpf_iter, set, depth)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
      RegisterBenchmark(full_title("procfs").c_str(), scan_procfs, set, depth)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
    RegisterBenchmark(title("peer_ps").c_str(), scan_ps, set)->Unit(benchmark::kMillisecond)->UseRealTime();
    RegisterBenchmark(title("peer_psutil").c_str(), scan_psutil, set)
        ->Unit(benchmark::kMillisecond)
        ->UseManualTime()
        ->MinTime(0.2);
  }
  RegisterBenchmark("events/netlink", events_netlink)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);
  using std::string_literals::operator""s;
  RegisterBenchmark("mask/plain", mask, "ls", "ls\0-la\0--color=auto\0/usr/share/doc\0"s);
  RegisterBenchmark("mask/secret", mask, "curl", "curl\0-sSu\0me:secret\0https://h/?token=abc&x=1\0"s);
  RegisterBenchmark("mask/16k", mask, "java", "java\0-cp\0"s + std::string(16'000, 'x') + '\0');
  return true;
}();

}  // namespace
}  // namespace daemoneye::sensor
