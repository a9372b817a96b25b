// The sinks there are: one function a file, listed in sink.cc.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "alert/format.h"
#include "alert/sink.h"

namespace daemoneye::alert {

// How the last attempt of a sink ended; has a lock of its own, so that asking does not wait for an attempt under way.
class SinkStatus {
 public:
  void set(std::string error) {
    std::lock_guard lock(mutex_);
    error_ = std::move(error);
  }
  void warn(std::string warning) {
    std::lock_guard lock(mutex_);
    warning_ = std::move(warning);
  }
  [[nodiscard]] HealthStatus get() const {
    std::lock_guard lock(mutex_);
    return {error_.empty(), error_, warning_};
  }

 private:
  mutable std::mutex mutex_;
  std::string error_, warning_;
};

SinkType stdout_sink_type();
SinkType file_sink_type();
SinkType syslog_sink_type();
SinkType webhook_sink_type();
SinkType email_sink_type();

// The stdout sink on any descriptor, which stays the caller's. Format `auto` is text when `fd` is a terminal.
Result<std::unique_ptr<AlertSink>> make_stream_sink(const config::SinkSettings& settings, int fd,
                                                    std::chrono::milliseconds timeout = std::chrono::seconds(10));

}  // namespace daemoneye::alert
