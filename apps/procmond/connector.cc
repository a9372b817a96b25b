#include "procmond/connector.h"

#include <algorithm>

#include "ipc/connection.h"
#include "observe/log.h"

namespace daemoneye::procmond {
namespace {

using observe::Level;

constexpr std::chrono::milliseconds reconnect_first{100}, reconnect_max{5000};
constexpr std::chrono::milliseconds connect_timeout{2000};

}  // namespace

Connector::Connector(EventLoop& loop, std::string path, collector::Collector& collector,
                     std::chrono::milliseconds head_start)
    : loop_(loop),
      path_(std::move(path)),
      collector_(collector),
      head_start_(head_start),
      not_before_(base::SteadyClock::now() + head_start) {}

Result<void> Connector::start() {
  DE_TRY(const auto timer, loop_.add_timer(std::chrono::milliseconds(1), reconnect_first, [this] { attempt(); }));
  static_cast<void>(timer);  // for the life of the loop
  return {};
}

void Connector::attempt() {
  if (collector_.connected()) {
    not_before_ = base::SteadyClock::now() + head_start_;
    return;
  }
  if (base::SteadyClock::now() < not_before_) return;
  auto socket = ipc::connect_to(path_, Deadline::after(connect_timeout));
  if (!socket) {
    if (failures_ == 0) observe::log(Level::warn, "ipc", "agent not reachable", {{"error", socket.error().message}});
    const auto wait = std::min(reconnect_max, reconnect_first * (1 << std::min(failures_, 6)));
    ++failures_;
    not_before_ = base::SteadyClock::now() + wait;
    return;
  }
  failures_ = 0;
  not_before_ = base::SteadyClock::now() + reconnect_max;  // the greeting needs its time
  collector_.attach(std::move(*socket));
}

}  // namespace daemoneye::procmond
