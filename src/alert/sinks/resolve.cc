#include "alert/sinks/resolve.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace daemoneye::alert {
namespace {

// getaddrinfo() cannot be ended: a look-up that nobody waits for any more ends by the resolver's own time-outs. So many
// of them at once, in the whole program.
constexpr int max_lookups = 16;
std::atomic<int> lookups_under_way{0};

struct Lookup {
  std::mutex mutex;
  std::condition_variable_any changed;
  bool done = false;
  int code = 0;
  Addresses addresses;
};

}  // namespace

Result<Addresses> resolve(const std::string& host, std::uint16_t port, int socket_type, Deadline deadline,
                          const std::stop_token& stop) {
  addrinfo hints{};
  hints.ai_socktype = socket_type;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  const std::string service = std::to_string(port);
  addrinfo* list = nullptr;
  if (::getaddrinfo(host.c_str(), service.c_str(), &hints, &list) == 0) return Addresses(list);

  if (++lookups_under_way > max_lookups) {
    --lookups_under_way;
    return fail(Errc::unavailable, "look up " + host + ": too many look-ups are waiting for the resolver");
  }
  // Shared, because the thread outlives a caller that gives up.
  const auto lookup = std::make_shared<Lookup>();
  std::thread([lookup, host, service, hints]() mutable {
    hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
    addrinfo* found = nullptr;
    const int code = ::getaddrinfo(host.c_str(), service.c_str(), &hints, &found);
    --lookups_under_way;
    std::lock_guard lock(lookup->mutex);
    lookup->code = code;
    if (code == 0) lookup->addresses.reset(found);
    lookup->done = true;
    lookup->changed.notify_all();
  }).detach();

  std::unique_lock lock(lookup->mutex);
  lookup->changed.wait_until(lock, stop, deadline.point(), [&] { return lookup->done; });
  if (!lookup->done) {
    if (stop.stop_requested()) return fail(Errc::cancelled, "stopped");
    return fail(Errc::timeout, "look up " + host + ": no answer in time");
  }
  if (lookup->code != 0) return fail(Errc::unavailable, "look up " + host + ": " + ::gai_strerror(lookup->code));
  return std::move(lookup->addresses);
}

}  // namespace daemoneye::alert
