#include "supervise/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/time.h"
#include "observe/log.h"

namespace daemoneye::supervise {
namespace {

constexpr std::chrono::microseconds shortest_watchdog{1000};

std::string value_of(const ServiceManager::Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  return found == environment.end() ? "" : found->second;
}

Result<std::uint64_t> number(const std::string& name, const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail(Errc::invalid_input, name + ": a number is wanted");
  }
  return value;
}

// A path, or an abstract name after '@'.
Result<UniqueFd> open_socket(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((name.front() != '/' && name.front() != '@') || name.size() >= sizeof address.sun_path) {
    return fail(Errc::invalid_input, "NOTIFY_SOCKET: a path or an abstract name is wanted");
  }
  name.copy(address.sun_path, name.size());
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  if (name.front() == '@') {
    address.sun_path[0] = '\0';
  } else {
    ++length;
  }
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("a socket for NOTIFY_SOCKET", errno);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    return fail_errno("NOTIFY_SOCKET " + name, errno);
  }
  return socket;
}

// Zero when the watchdog is not ours: another process was told to feed it.
Result<std::chrono::microseconds> wanted_watchdog(const ServiceManager::Environment& environment) {
  const auto time = value_of(environment, "WATCHDOG_USEC"), pid = value_of(environment, "WATCHDOG_PID");
  if (time.empty()) return std::chrono::microseconds(0);
  if (!pid.empty()) {
    DE_TRY(const auto wanted, number("WATCHDOG_PID", pid));
    if (wanted != static_cast<std::uint64_t>(::getpid())) return std::chrono::microseconds(0);
  }
  DE_TRY(const auto microseconds, number("WATCHDOG_USEC", time));
  constexpr std::uint64_t longest = 1'000'000ULL * 86'400 * 366;
  return std::chrono::microseconds(std::min(microseconds, longest));
}

}  // namespace

Result<ServiceManager> ServiceManager::connect(const Environment& environment) {
  ServiceManager manager;
  const auto name = value_of(environment, "NOTIFY_SOCKET");
  if (name.empty()) return manager;
  DE_TRY(manager.socket_, open_socket(name));
  DE_TRY(manager.watchdog_, wanted_watchdog(environment));
  return manager;
}

Result<ServiceManager> ServiceManager::of_process() {
  Environment environment;
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    if (const char* value = std::getenv(name)) environment[name] = value;  // NOLINT(concurrency-mt-unsafe): one thread
  }
  return connect(environment);
}

// A manager that does not read must not hold us up, and that it was not told is no reason to end.
void ServiceManager::send(std::string_view text) {
  if (!socket_) return;
  ssize_t sent = 0;
  do {
    sent = ::send(socket_.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  const bool told = sent >= 0;
  if (!told && told_) {  // once, and again after it could be told
    observe::log(observe::Level::warn, "service", "the service manager could not be told",
                 {{"what", text.substr(0, text.find('\n'))}, {"error", fail_errno("send", errno).error().message}});
  }
  told_ = told;
}

Result<void> ServiceManager::ready(EventLoop& loop, std::string_view status) {
  if (!socket_) return {};
  if (watchdog_.count() > 0) {
    const auto period = std::max(watchdog_ / 2, shortest_watchdog);
    DE_TRY([[maybe_unused]] const auto timer, loop.add_timer(period, period, [this] { send("WATCHDOG=1"); }));
  }
  send("READY=1\nSTATUS=" + std::string(status));
  return {};
}

void ServiceManager::reloading() {
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
      base::SteadyClock::now().time_since_epoch());  // the clock that systemd wants: CLOCK_MONOTONIC
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(now.count()));
}

void ServiceManager::reloaded() { send("READY=1"); }

void ServiceManager::stopping() { send("STOPPING=1\nSTATUS=Ending: what was seen is stored and delivered."); }

}  // namespace daemoneye::supervise
