#include "agent/monitoring.h"

#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "observe/log.h"

namespace daemoneye::apps {

using observe::HttpAnswer;
using observe::Level;

Monitoring::Monitoring(EventLoop& loop, const config::Settings::Metrics& settings, From from)
    : loop_(loop), settings_(settings), from_(std::move(from)) {}

Monitoring::~Monitoring() { stop(); }

void Monitoring::stop() {
  for (const auto timer : timers_) loop_.remove_timer(timer);
  timers_.clear();
}

void Monitoring::reconfigure(const config::Settings::Metrics& wanted) {
  if (wanted.listen == settings_.listen && wanted.textfile == settings_.textfile) return;
  stop();
  if (wanted.listen != settings_.listen) {
    listener_.reset();
    listen_problem_.clear();
  }
  if (wanted.textfile != settings_.textfile) {
    if (!settings_.textfile.empty() && ::unlink(settings_.textfile.c_str()) != 0 && errno != ENOENT) {
      observe::log(Level::warn, "metrics", "the text file of before stays, with what it said last",
                   {{"file", settings_.textfile}, {"error", fail_errno("unlink", errno).error().message}});
    }
    textfile_problem_.clear();
  }
  settings_ = wanted;
  if (auto started = start(); !started) listen_problem_ = "metrics: " + started.error().message;
}

Result<void> Monitoring::start() {
  const auto every = [&](std::chrono::seconds first, std::chrono::seconds period,
                         std::function<void()> task) -> Result<void> {
    DE_TRY(const auto timer, loop_.add_timer(first, period, std::move(task)));
    timers_.push_back(timer);
    return {};
  };
  if (!settings_.textfile.empty()) DE_CHECK(every(first_textfile, textfile_interval, [this] { write_textfile(); }));
  if (settings_.listen.empty()) return {};
  listen();
  return every(listen_retry, listen_retry, [this] { listen(); });
}

void Monitoring::write_textfile() {
  auto written = base::write_file_atomic(settings_.textfile, from_.metrics_text(), 0644);
  const auto problem = written ? std::string() : "metrics.textfile: " + written.error().message;
  if (problem != textfile_problem_ && !problem.empty()) {
    observe::log(Level::error, "metrics", "the text file was not written", {{"error", problem}});
  }
  textfile_problem_ = problem;
}

void Monitoring::listen() {
  if (listener_) return;
  auto opened = observe::HttpListener::open(loop_, {.address = settings_.listen},
                                            [this](std::string_view path) { return page(path); });
  if (!opened) {
    const auto problem = "metrics.listen: " + opened.error().message;
    if (problem != listen_problem_) {
      observe::log(Level::error, "metrics", "nothing is served", {{"error", problem}});
    }
    listen_problem_ = problem;
    return;
  }
  listen_problem_.clear();
  listener_ = std::move(*opened);
  observe::log(Level::info, "metrics", "serving /metrics and /healthz", {{"address", settings_.listen}});
  if (!listener_->loopback_only()) {
    observe::log(Level::warn, "metrics", "other machines may read the metrics: there is no password",
                 {{"address", settings_.listen}});
  }
}

std::vector<std::string> Monitoring::problems() const {
  std::vector<std::string> problems;
  for (const auto& problem : {textfile_problem_, listen_problem_}) {
    if (!problem.empty()) problems.push_back(problem);
  }
  return problems;
}

HttpAnswer Monitoring::page(std::string_view path) {
  const auto fresh = [](std::optional<Page>& kept, const std::function<HttpAnswer()>& make) {
    const auto now = base::SteadyClock::now();
    if (!kept || now - kept->made >= page_lifetime) kept = Page{make(), now};
    return kept->answer;
  };
  if (path == "/metrics") {
    return fresh(metrics_page_, [this] {
      return HttpAnswer{.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = from_.metrics_text()};
    });
  }
  if (path == "/healthz") {
    return fresh(healthz_page_, [this] { return healthz(); });
  }
  return {.status = 404, .body = "/metrics and /healthz are here\n"};
}

// Degraded still works: only what failed is a reason to call somebody's load balancer or watchdog.
HttpAnswer Monitoring::healthz() const {
  const auto report = from_.health();
  const auto state = observe::worst(report);
  nlohmann::json components = nlohmann::json::object();
  for (const auto& component : report) components[component.component] = observe::to_string(component.state);
  const nlohmann::json document = {{"state", observe::to_string(state)},
                                   {"reason", base::to_valid_utf8(observe::summary(report))},
                                   {"components", std::move(components)}};
  return {.status = state == observe::HealthState::failed ? 503 : 200,
          .content_type = "application/json",
          .body = document.dump() + "\n"};
}

}  // namespace daemoneye::apps
