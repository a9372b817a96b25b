// What an event costs procmond: processor time of the thread that tracks, encodes, digests, journals and sends, for the
// fork, exec and exit of one process each round. The ledger is a real one; an agent on another thread drains the socket
// and acknowledges. Not here: the kernel's side of the ring, and decoding its records.
#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stop_token>
#include <thread>

#include "collector/tracker.h"
#include "collector/uplink.h"
#include "ipc/batch_stream.h"
#include "ipc/connection.h"
#include "ledger/ledger.h"
#include "sensor/masking.h"

namespace daemoneye::collector {
namespace {

using namespace std::string_literals;
using event::EventSource;

constexpr Timestamp boot_time{1'700'000'000'000'000'000};

double thread_cpu_us() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto us = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

// Acknowledges what comes, on a thread of its own; decodes nothing.
class Agent {
 public:
  explicit Agent(UniqueFd socket) {
    thread_ = std::jthread([socket = std::move(socket)](const std::stop_token& stop) mutable {
      auto loop = std::move(*EventLoop::create());
      std::unique_ptr<ipc::Connection> connection;
      auto adopted =
          ipc::Connection::adopt(*loop, std::move(socket),
                                 {.on_message =
                                      [&](const ipc::Message& message) {
                                        if (std::holds_alternative<ipc::Hello>(message)) {
                                          ipc::Welcome welcome;
                                          welcome.store_id = "bench";
                                          welcome.credit_records = 100'000;
                                          (void)connection->send(welcome);
                                        } else if (const auto* batch = std::get_if<ipc::BatchMessage>(&message)) {
                                          (void)connection->send(ipc::Acknowledge{batch->sequence});
                                        }
                                      },
                                  .on_close = [&](const std::string&) { loop->stop(); },
                                  .on_drained = {}});
      if (!adopted) return;
      connection = std::move(*adopted);
      const std::stop_callback on_stop(stop, [&] { loop->stop(); });
      loop->run();
    });
  }

 private:
  std::jthread thread_;
};

// What a shell's child that runs a command looks like in the ring.
class Storm {
 public:
  Storm() {
    shell_ = process(4000, 100, 1, 1);
    shell_.executable_path = "/usr/bin/bash";
    shell_.filename = "/bin/bash";
    shell_.arguments = "-bash\0"s;
    shell_.arguments_bytes = shell_.arguments->size();
    shell_.comm = "bash";
  }
  [[nodiscard]] const sensor::RawProcess& shell() const { return shell_; }

  // fork, exec and exit of one more process.
  template <class Each>
  void cycle(const Each& each) {
    const auto pid = static_cast<event::Pid>(5000 + number_ % 20'000);
    const std::uint64_t ticks = 1000 + ++number_;
    event_.time = Timestamp{boot_time.ns + static_cast<std::int64_t>(number_) * 100'000};
    event_.kind = sensor::RawKind::fork;
    event_.process = process(pid, ticks, shell_.pid, shell_.start_ticks);
    event_.process.comm = "bash";
    each(event_);
    event_.kind = sensor::RawKind::exec;
    event_.process.comm = "ls";
    event_.process.executable_path = "/usr/bin/ls";
    event_.process.filename = "/usr/bin/ls";
    event_.process.arguments = "ls\0--color=auto\0-la\0/usr/share/doc/package-"s + std::to_string(number_) + "\0"s;
    event_.process.arguments_bytes = event_.process.arguments->size();
    event_.process.cwd = "/home/user/projects/daemon";
    event_.process.cgroup = "/user.slice/user-1000.slice/session-3.scope";
    event_.process.file = {2049, 123456, 150'000, 1'600'000'000'000'000'000, 1'600'000'000'000'000'000};
    event_.process.links = 1;
    event_.process.executable_state = event::ExecutableState::ok;
    each(event_);
    event_.kind = sensor::RawKind::exit;
    event_.process = sensor::RawProcess{};
    event_.process.pid = pid;
    event_.process.start_ticks = ticks;
    event_.process.comm = "ls";
    event_.time.ns += 50'000;
    each(event_);
  }

 private:
  static sensor::RawProcess process(event::Pid pid, std::uint64_t ticks, event::Pid ppid, std::uint64_t parent_ticks) {
    sensor::RawProcess raw;
    raw.pid = pid;
    raw.start_ticks = ticks;
    raw.ppid = ppid;
    raw.parent_start_ticks = parent_ticks;
    raw.uid = raw.gid = raw.euid = raw.egid = 1000;
    raw.loginuid = 1000;
    raw.session_id = 4000;
    raw.tty = "pts/3";
    raw.status = event::ProcessStatus::running;
    return raw;
  }
  sensor::RawProcess shell_;
  sensor::RawEvent event_;
  std::uint64_t number_ = 0;
};

// Making the raw events is the kernel's and the sensor's work: its share, to be taken off the others.
void raw_events_alone(benchmark::State& state) {
  Storm storm;
  for (auto _ : state) storm.cycle([](const sensor::RawEvent& raw) { benchmark::DoNotOptimize(&raw); });
}
BENCHMARK(raw_events_alone);

void track(benchmark::State& state) {
  Storm storm;
  Tracker tracker({}, event::BootId{7}, boot_time, [](const event::ProcessEvent& event, Tracker::Refused) {
    benchmark::DoNotOptimize(&event);
    return true;
  });
  sensor::RawEvent parent;
  parent.process = storm.shell();
  tracker.on_event(parent, EventSource::ebpf);
  for (auto _ : state) storm.cycle([&](const sensor::RawEvent& raw) { tracker.on_event(raw, EventSource::ebpf); });
}
BENCHMARK(track);

void track_and_encode(benchmark::State& state) {
  Storm storm;
  std::string encoded;
  std::size_t bytes = 0, events = 0;
  Tracker tracker({}, event::BootId{7}, boot_time, [&](const event::ProcessEvent& event, Tracker::Refused) {
    event::encode_event(event, encoded);
    ++events;
    if (encoded.size() > 256 * 1024) {
      bytes += encoded.size();
      encoded.clear();
    }
    return true;
  });
  sensor::RawEvent parent;
  parent.process = storm.shell();
  tracker.on_event(parent, EventSource::ebpf);
  for (auto _ : state) storm.cycle([&](const sensor::RawEvent& raw) { tracker.on_event(raw, EventSource::ebpf); });
  state.counters["bytes_per_event"] = static_cast<double>(bytes + encoded.size()) / static_cast<double>(events);
}
BENCHMARK(track_and_encode);

// The whole way, at `range(0)` processes a batch. CPU is of this thread alone, the ledger's part of the kernel
// included.
void exec_cycle(benchmark::State& state) {
  char name[] = "/tmp/daemoneye-collector-bench-XXXXXX";
  const std::string folder = ::mkdtemp(name);
  {
    auto ledger = ledger::Ledger::open({.path = folder + "/audit/audit.redb", .reader_group = ""});
    if (!ledger) return state.SkipWithError(ledger.error().message.c_str());
    auto loop = std::move(*EventLoop::create());
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return state.SkipWithError("socketpair");
    const Agent agent{UniqueFd(ends[0])};
    Uplink::Options options;
    options.flush_interval = std::chrono::hours(1);  // flushed below
    Uplink uplink(*loop, **ledger, options, {});
    uplink.attach(UniqueFd(ends[1]));
    const auto turn = [&] {  // of the loop, for acknowledgements: a stop at once would come before them
      loop->post([&] { loop->post([&] { loop->stop(); }); });
      loop->run();
    };
    while (!uplink.connected()) turn();
    Storm storm;
    Tracker tracker({}, event::BootId{7}, boot_time,
                    [&](const event::ProcessEvent& event, Tracker::Refused) { return uplink.add(event); });
    sensor::RawEvent parent;
    parent.process = storm.shell();
    tracker.on_event(parent, EventSource::ebpf);
    const auto a_batch = state.range(0);
    double cycles = 0;
    const double before = thread_cpu_us();
    for (auto _ : state) {
      for (std::int64_t i = 0; i < a_batch; ++i) {
        storm.cycle([&](const sensor::RawEvent& raw) { tracker.on_event(raw, EventSource::ebpf); });
      }
      uplink.flush();
      turn();
      cycles += static_cast<double>(a_batch);
    }
    state.counters["cpu_us_per_cycle"] = (thread_cpu_us() - before) / cycles;
    state.counters["shed"] = static_cast<double>(uplink.counters().shed);
  }
  std::filesystem::remove_all(folder);
}
BENCHMARK(exec_cycle)->Arg(1)->Arg(10)->Arg(200)->Arg(500);

}  // namespace
}  // namespace daemoneye::collector
