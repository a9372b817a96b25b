// The sinks there are: one function a file, listed in sink.cc.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "alert/sink.h"

namespace daemoneye::alert {

// How the last attempt of a sink ended; has a lock of its own, so that asking does not wait for an attempt under way.
class SinkStatus {
 public:
  void set(std::string error) {
    std::lock_guard lock(mutex_);
    error_ = std::move(error);
  }
  [[nodiscard]] HealthStatus get() const {
    std::lock_guard lock(mutex_);
    return {error_.empty(), error_};
  }

 private:
  mutable std::mutex mutex_;
  std::string error_;
};

SinkType stdout_sink_type();
SinkType file_sink_type();

// The stdout sink on any descriptor, which stays the caller's. `format`: "json" or "text"; empty decides by whether
// `fd` is a terminal.
std::unique_ptr<AlertSink> make_stream_sink(std::string name, int fd, std::string format,
                                            std::chrono::milliseconds timeout = std::chrono::seconds(10));

}  // namespace daemoneye::alert
