// Tells the service manager that started us (systemd, or another that speaks sd_notify(3)) how we are: ready,
// reloading, about to end, and that the main loop still turns. A datagram each, nothing is read.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace daemoneye::supervise {

class ServiceManager {
 public:
  using Environment = std::map<std::string, std::string>;

  // By NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. Nobody asked to be told: one that sends nothing. Connects at
  // once, so that a process which gives up sockets and namespaces afterwards can still tell. An error: somebody asked,
  // and cannot be reached, or what is asked is not understood.
  static Result<ServiceManager> connect(const Environment& environment);

  // By this process's own environment. From the only thread.
  static Result<ServiceManager> of_process();

  // Once what is needed is open. From then on the watchdog, if one is wanted, is fed from `loop`, twice in its time: a
  // loop that hangs feeds nothing. `loop` does not outlive this.
  Result<void> ready(EventLoop& loop, std::string_view status);
  void reloading();
  void reloaded();
  void stopping();

  [[nodiscard]] std::chrono::microseconds watchdog() const { return watchdog_; }  // 0: none is wanted

 private:
  void send(std::string_view text);

  UniqueFd socket_;
  std::chrono::microseconds watchdog_{0};
  bool told_ = true;
};

}  // namespace daemoneye::supervise
