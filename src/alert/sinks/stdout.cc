// stdout: text for people on a terminal, one JSON object a line otherwise.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <mutex>

#include "alert/sinks/options.h"
#include "alert/sinks/sigpipe.h"
#include "alert/sinks/sinks.h"

namespace daemoneye::alert {
namespace {

// How often a blocked write looks at its stop token.
constexpr int stop_check_ms = 50;

bool colour_wanted(int fd) {
  if (::isatty(fd) != 1) return false;
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");
  return term == nullptr || std::string_view(term) != "dumb";
}

class StreamSink final : public AlertSink {
 public:
  StreamSink(std::string name, int fd, Formatter format, std::chrono::milliseconds timeout)
      : name_(std::move(name)), fd_(fd), format_(std::move(format)), timeout_(timeout), colour_(colour_wanted(fd)) {}

  std::expected<DeliveryResult, DeliveryError> send(const store::Alert& alert, std::stop_token stop) override {
    const std::string text = format_(alert, colour_) + '\n';
    const auto deadline = Deadline::after(timeout_);
    std::unique_lock lock(mutex_, std::defer_lock);
    if (!lock_until(lock, deadline, stop)) {
      const char* why = stop.stop_requested() ? "stopped" : "nobody reads: timed out";
      return std::unexpected(DeliveryError{why, false, {}});
    }
    const SigpipeBlock no_sigpipe;
    // What an earlier alert left unfinished must not swallow the beginning of this one.
    auto written = half_line_ ? write_all("\n", deadline, stop) : std::expected<void, DeliveryError>();
    if (written) {
      half_line_ = false;
      written = write_all(text, deadline, stop);
    }
    status_.set(written ? "" : written.error().message);
    if (!written) return std::unexpected(std::move(written).error());
    return DeliveryResult{};
  }

  HealthStatus health_check() override { return status_.get(); }

  [[nodiscard]] std::string_view name() const override { return name_; }

 private:
  std::expected<void, DeliveryError> write_all(std::string_view text, Deadline deadline, const std::stop_token& stop) {
    const auto whole = text.size();
    const auto give_up = [&](std::string why) {
      if (text.size() != whole) half_line_ = true;
      return std::unexpected(DeliveryError{std::move(why), false, {}});
    };
    while (!text.empty()) {
      if (stop.stop_requested()) return give_up("stopped");
      if (deadline.expired()) return give_up("nobody reads: timed out");
      // Where poll() says writable, a blocking pipe or terminal takes PIPE_BUF bytes without blocking.
      pollfd ready{fd_, POLLOUT, 0};
      const int count = ::poll(&ready, 1, std::min(stop_check_ms, std::max(deadline.poll_timeout_ms(), 1)));
      if (count < 0 && errno != EINTR) return give_up(fail_errno("poll", errno).error().message);
      if (count <= 0) continue;
      const auto written = ::write(fd_, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
      if (written < 0) {
        if (errno == EINTR || errno == EAGAIN) continue;
        return give_up(fail_errno("write", errno).error().message);
      }
      text.remove_prefix(static_cast<std::size_t>(written));
    }
    return {};
  }

  const std::string name_;
  const int fd_;
  const Formatter format_;
  const std::chrono::milliseconds timeout_;
  const bool colour_;
  std::timed_mutex mutex_;
  bool half_line_ = false;
  SinkStatus status_;
};

}  // namespace

Result<std::unique_ptr<AlertSink>> make_stream_sink(const config::SinkSettings& settings, int fd,
                                                    std::chrono::milliseconds timeout) {
  DE_TRY(auto format, Formatter::make(settings, ::isatty(fd) == 1 ? "text" : "json"));
  return std::make_unique<StreamSink>(settings.name, fd, std::move(format), timeout);
}

SinkType stdout_sink_type() {
  return {"stdout", {}, [](const config::SinkSettings& settings) { return make_stream_sink(settings, STDOUT_FILENO); }};
}

}  // namespace daemoneye::alert
