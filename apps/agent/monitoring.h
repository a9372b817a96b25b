// What monitoring systems are given without asking by the socket: the file metrics.textfile and, where metrics.listen
// says so, the pages /metrics and /healthz. Loop thread only.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/time.h"
#include "config/settings.h"
#include "observe/health.h"
#include "observe/http_listener.h"

namespace daemoneye::apps {

class Monitoring {
 public:
  struct From {
    std::function<std::string()> metrics_text;
    std::function<std::vector<observe::ComponentHealth>()> health;  // without probes of the disk
  };
  static constexpr std::chrono::seconds textfile_interval{15}, first_textfile{1}, listen_retry{5};
  // A page is made anew after this at the earliest, so that whoever asks in a loop costs little.
  static constexpr std::chrono::milliseconds page_lifetime{500};

  Monitoring(EventLoop& loop, const config::Settings::Metrics& settings, From from);
  ~Monitoring();
  // An address that cannot be had and a file that cannot be written are problems, and tried again: monitoring that
  // fails must not keep the agent from watching.
  Result<void> start();
  // Other places from now on. A text file that nobody writes any more is removed: it would show old values for ever.
  void reconfigure(const config::Settings::Metrics& wanted);
  [[nodiscard]] std::vector<std::string> problems() const;

 private:
  void stop();
  void listen();
  void write_textfile();
  observe::HttpAnswer page(std::string_view path);
  observe::HttpAnswer healthz() const;

  EventLoop& loop_;
  config::Settings::Metrics settings_;
  From from_;
  std::unique_ptr<observe::HttpListener> listener_;
  std::vector<EventLoop::TimerId> timers_;
  std::string textfile_problem_, listen_problem_;
  struct Page {
    observe::HttpAnswer answer;
    base::SteadyClock::time_point made;
  };
  std::optional<Page> metrics_page_, healthz_page_;
};

}  // namespace daemoneye::apps
