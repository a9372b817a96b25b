// Delivery as the agent does it, from a store with alerts in its outbox: alerts a second by sink, what sinks that hang
// cost a healthy one, and an hour without a network.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>
#include <set>
#include <thread>

#include "alert/delivery.h"
#include "base/hash.h"
#include "base/unique_fd.h"
#include "store/reader_pool.h"

namespace daemoneye::alert {
namespace {

using namespace std::chrono_literals;
using base::SteadyClock;

store::Alert make_alert() {
  store::Alert alert;
  alert.alert_id = base::to_hex(base::random_bytes(16));
  alert.time = alert.last_seen = base::wall_now();
  alert.rule_id = "web-server-spawned-shell";
  alert.severity = store::Severity::high;
  alert.title = "Web server spawned a shell";
  alert.description = "An interactive shell whose ancestor is a web server.";
  alert.process_key = "3f2a-4242-123456";
  alert.pid = 4242;
  alert.name = "bash";
  alert.executable_path = "/usr/bin/bash";
  alert.command_line = "bash -i -c 'id; uname -a; cat /etc/passwd'";
  alert.row_json = R"({"pid":4242,"name":"bash","executable_path":"/usr/bin/bash","command_line":"bash -i"})";
  std::string ancestors;
  for (int i = 0; i < 6; ++i) {
    ancestors +=
        std::string(i == 0 ? "" : ",") + R"({"process_key":"3f2a-)" + std::to_string(i) +
        R"(","pid":7,"ppid":1,"name":"nginx","executable_path":"/usr/sbin/nginx","command_line":"nginx: worker )" +
        R"(process","uid":33,"user":"www-data","session_id":7,"start_time":"2026-01-01T00:00:00.000000000Z"})";
  }
  alert.process_json = R"({"process":{"pid":4242,"name":"bash","uid":33},"ancestors":[)" + ancestors + "]}";
  alert.evidence = {123456};
  alert.correlation_id = "0123456789abcdef0123456789abcdef";
  alert.host = "web1";
  alert.agent_version = "0.1.0";
  alert.tags = {"attack.t1059.004"};
  return alert;
}

// A store in a temporary folder and the settings of a deliverer.
class Bench {
 public:
  Bench() {
    if (::mkdtemp(folder_.data()) == nullptr) std::abort();
    store::StoreOptions options;
    options.path = path();
    auto opened = store::Writer::open(options);
    if (!opened) std::abort();
    writer = *std::move(opened);
    readers = std::make_unique<store::ReaderPool>(path());
    settings.max_parallel_deliveries = 8;
    settings.retry = {3, 60'000};
    settings.breaker = {5, 30'000};
    settings.max_age_ms = 86'400'000;
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    deliverer.reset();
    readers.reset();
    writer->close(Deadline::after(30s));
    std::filesystem::remove_all(folder_);
  }
  [[nodiscard]] std::string path() const { return folder_ + "/events.redb"; }
  [[nodiscard]] std::string file(const char* name) const { return folder_ + "/" + name; }

  void add(const std::string& type, std::map<std::string, std::string> options = {}) {
    config::SinkSettings sink;
    sink.type = type;
    sink.name = type + std::to_string(settings.sinks.size());
    sink.options = std::move(options);
    settings.sinks.push_back(std::move(sink));
  }
  // False, with the reason, when a sink cannot be made.
  bool start(benchmark::State& state) {
    auto started = Deliverer::start(settings, *readers, *writer, Deliverer::Identity{});
    if (!started) {
      state.SkipWithError(started.error().message.c_str());
      return false;
    }
    deliverer = *std::move(started);
    return true;
  }
  void start(Deliverer::Outside outside) {
    auto started = Deliverer::start(settings, *readers, *writer, std::move(outside));
    if (!started) std::abort();
    deliverer = *std::move(started);
  }
  void raise(std::size_t count) {
    while (count > 0) {
      const auto now = std::min<std::size_t>(count, 500);
      std::vector<store::Writer::Raise> raises;
      for (std::size_t i = 0; i < now; ++i) {
        store::Writer::Raise one;
        one.alert = make_alert();
        one.sinks = route(settings.sinks, one.alert);
        raises.push_back(std::move(one));
      }
      std::promise<bool> done;
      writer->raise(std::move(raises), std::nullopt, [&](auto result) { done.set_value(result.has_value()); });
      if (!done.get_future().get()) std::abort();
      if (deliverer) deliverer->wake();
      count -= now;
    }
  }
  // Until nothing waits; the outcomes are committed then.
  bool drained(std::size_t sink, std::chrono::seconds within) const {
    const auto deadline = Deadline::after(within);
    auto reader = store::Reader::open(path());
    if (!reader) return false;
    while ((*reader)->outbox_depth(settings.sinks[sink].name).value_or(1) > 0) {
      if (deadline.expired()) return false;
      std::this_thread::sleep_for(20ms);  // looking costs as well
    }
    return true;
  }

  config::Settings::Alerting settings;
  std::unique_ptr<store::Writer> writer;
  std::unique_ptr<store::ReaderPool> readers;
  std::unique_ptr<Deliverer> deliverer;

 private:
  std::string folder_ = "/tmp/daemoneye-bench-XXXXXX";
};

// A TCP server on loopback. With `http` it answers each request of a connection, kept alive; otherwise it only reads.
class Peer {
 public:
  explicit Peer(bool http) : http_(http), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), raw, size) != 0 || ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), raw, &size) != 0) {
      std::abort();
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer() {
    stop_ = true;
    thread_.join();
  }
  [[nodiscard]] std::string port() const { return std::to_string(port_); }

 private:
  void run() {
    std::vector<std::thread> connections;
    while (!stop_) {
      pollfd wait{listener_.get(), POLLIN, 0};
      if (::poll(&wait, 1, 20) <= 0) continue;
      const int socket = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (socket >= 0) connections.emplace_back([this, socket] { serve(UniqueFd(socket)); });
    }
    for (auto& connection : connections) connection.join();
  }
  void serve(const UniqueFd& socket) const {
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::string pending;
    char buffer[65536];
    while (!stop_) {
      pollfd wait{socket.get(), POLLIN, 0};
      if (::poll(&wait, 1, 20) <= 0) continue;
      const auto got = ::read(socket.get(), buffer, sizeof buffer);
      if (got <= 0) return;
      if (!http_) continue;
      pending.append(buffer, static_cast<std::size_t>(got));
      while (take_request(pending)) {
        static constexpr std::string_view answer = "HTTP/1.1 204 No Content\r\n\r\n";
        if (::write(socket.get(), answer.data(), answer.size()) < 0) return;
      }
    }
  }
  static bool take_request(std::string& pending) {
    const auto head = pending.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    std::string lower = pending.substr(0, head);
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    const auto length = lower.find("content-length:");
    const std::size_t body = length == std::string::npos ? 0 : std::strtoul(lower.c_str() + length + 15, nullptr, 10);
    if (pending.size() < head + 4 + body) return false;
    pending.erase(0, head + 4 + body);
    return true;
  }

  const bool http_;
  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

void deliver(benchmark::State& state, const std::string& type, std::map<std::string, std::string> options,
             std::size_t alerts) {
  for (auto _ : state) {
    Bench bench;
    if (type == "file") options["path"] = bench.file("alerts.jsonl");
    bench.add(type, options);
    bench.raise(alerts);
    const auto begin = SteadyClock::now();
    if (!bench.start(state)) return;
    if (!bench.drained(0, 120s) || bench.deliverer->state()[0].delivered != alerts) {
      state.SkipWithError("not all were delivered");
      return;
    }
    const auto took = std::chrono::duration<double>(SteadyClock::now() - begin).count();
    state.SetIterationTime(took);
    state.counters["alerts_per_s"] = static_cast<double>(alerts) / took;
  }
}

void deliver_to_file(benchmark::State& state) { deliver(state, "file", {}, 20'000); }
BENCHMARK(deliver_to_file)->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);

void deliver_to_syslog_tcp(benchmark::State& state) {
  const Peer peer(false);
  deliver(state, "syslog", {{"transport", "tcp"}, {"host", "127.0.0.1"}, {"port", peer.port()}}, 20'000);
}
BENCHMARK(deliver_to_syslog_tcp)->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);

void deliver_to_webhook(benchmark::State& state) {
  const Peer peer(true);
  deliver(state, "webhook", {{"url", "http://127.0.0.1:" + peer.port() + "/alerts"}}, 5'000);
}
BENCHMARK(deliver_to_webhook)->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);

// Does as it is told.
class ToldSink final : public AlertSink {
 public:
  using Answer = std::function<std::expected<DeliveryResult, DeliveryError>(const store::Alert&, std::stop_token)>;
  explicit ToldSink(Answer answer) : answer_(std::move(answer)) {}
  std::expected<DeliveryResult, DeliveryError> send(const store::Alert& alert, std::stop_token stop) override {
    return answer_(alert, std::move(stop));
  }
  HealthStatus health_check() override { return {}; }
  [[nodiscard]] std::string_view name() const override { return "told"; }

 private:
  const Answer answer_;
};

std::expected<DeliveryResult, DeliveryError> hang(const store::Alert&, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait(lock, stop, [] { return false; });
  return std::unexpected(DeliveryError{"hangs", false, {}, {}});
}

// From the commit of an alert to its arrival at a healthy sink, one alert after the other.
std::vector<double> arrivals_ms(bool beside_three_that_hang, std::size_t alerts) {
  Bench bench;
  Deliverer::Outside outside;
  std::mutex mutex;
  std::condition_variable arrived;
  std::optional<SteadyClock::time_point> at;
  for (int i = 0; beside_three_that_hang && i < 3; ++i) {
    bench.add("hangs");
    outside.sinks.push_back(std::make_unique<ToldSink>(hang));
  }
  bench.add("healthy");
  outside.sinks.push_back(std::make_unique<ToldSink>([&](const store::Alert&, const std::stop_token&) {
    const std::lock_guard lock(mutex);
    at = SteadyClock::now();
    arrived.notify_all();
    return DeliveryResult{};
  }));
  bench.start(std::move(outside));
  std::vector<double> took;
  for (std::size_t i = 0; i < alerts; ++i) {
    {
      const std::lock_guard lock(mutex);
      at.reset();
    }
    bench.raise(1);
    const auto raised = SteadyClock::now();
    std::unique_lock lock(mutex);
    arrived.wait(lock, [&] { return at.has_value(); });
    took.push_back(std::max(0.0, std::chrono::duration<double, std::milli>(*at - raised).count()));
  }
  std::sort(took.begin(), took.end());
  return took;
}

void healthy_sink_while_three_hang(benchmark::State& state) {
  constexpr std::size_t alerts = 1000;
  for (auto _ : state) {
    const auto begin = SteadyClock::now();
    const auto alone = arrivals_ms(false, alerts), beside = arrivals_ms(true, alerts);
    state.SetIterationTime(std::chrono::duration<double>(SteadyClock::now() - begin).count());
    state.counters["alone_p99_ms"] = alone[alerts * 99 / 100];
    state.counters["beside_p99_ms"] = beside[alerts * 99 / 100];
    state.counters["added_p50_ms"] = beside[alerts / 2] - alone[alerts / 2];
    state.counters["added_p99_ms"] = beside[alerts * 99 / 100] - alone[alerts * 99 / 100];
  }
}
BENCHMARK(healthy_sink_while_three_hang)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);

double status_mib(const char* key) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with(key)) return std::strtod(line.c_str() + std::strlen(key) + 1, nullptr) / 1024;
  }
  return 0;
}

// The clock is moved in steps of ten seconds; each is waited for until the deliverer has done what it can.
void an_hour_without_a_network(benchmark::State& state) {
  constexpr std::size_t alerts = 100'000;
  for (auto _ : state) {
    const auto begin = SteadyClock::now();
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts anew
    Bench bench;
    std::atomic<std::int64_t> clock{base::wall_now().ns};
    std::atomic<bool> up{false};
    std::mutex mutex;
    std::set<std::uint64_t> received;  // hashes: the alerts themselves would be what is measured
    std::uint64_t twice = 0;
    Deliverer::Outside outside;
    outside.now = [&] { return Timestamp{clock.load()}; };
    bench.add("network");
    outside.sinks.push_back(std::make_unique<ToldSink>(
        [&](const store::Alert& alert, const std::stop_token&) -> std::expected<DeliveryResult, DeliveryError> {
          if (!up) return std::unexpected(DeliveryError{"network is unreachable", false, {}, {}});
          const std::lock_guard lock(mutex);
          if (!received.insert(std::hash<std::string>()(alert.alert_id)).second) ++twice;
          return DeliveryResult{};
        }));
    bench.start(std::move(outside));
    for (std::size_t step = 0; step < 360; ++step) {
      bench.raise(alerts / 360);
      clock += std::chrono::nanoseconds(10s).count();
      bench.deliverer->wake();
    }
    bench.raise(alerts - alerts / 360 * 360);
    up = true;
    const auto deadline = Deadline::after(300s);
    while (!bench.drained(0, 1s) && !deadline.expired()) {
      clock += std::chrono::nanoseconds(10s).count();
      bench.deliverer->wake();
    }
    const auto now = bench.deliverer->state()[0];
    const std::lock_guard lock(mutex);
    state.SetIterationTime(std::chrono::duration<double>(SteadyClock::now() - begin).count());
    state.counters["delivered"] = static_cast<double>(received.size());
    state.counters["dead_letters"] = static_cast<double>(now.dead_letters);
    state.counters["lost"] = static_cast<double>(alerts - received.size() - now.dead_letters);
    state.counters["twice"] = static_cast<double>(twice);
    state.counters["peak_MiB"] = status_mib("VmHWM:");
  }
}
BENCHMARK(an_hour_without_a_network)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace daemoneye::alert
