// Runs an event loop in a test until something is so.
#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "base/event_loop.h"
#include "base/time.h"

namespace daemoneye::ipc::testing {

// False when it is not so within 30 s.
inline bool run_until(EventLoop& loop, const std::function<bool()>& condition) {
  const auto deadline = Deadline::after(std::chrono::seconds(30));
  bool met = false;
  const auto timer = loop.add_timer(std::chrono::nanoseconds(1), std::chrono::milliseconds(1), [&] {
    met = condition();
    if (met || deadline.expired()) loop.stop();
  });
  if (!timer) return false;
  loop.run();
  loop.remove_timer(*timer);
  return met;
}

// A folder of its own under /tmp, gone with the object.
class TempDir {
 public:
  TempDir() {
    char path[] = "/tmp/daemoneye-ipc-XXXXXX";
    if (::mkdtemp(path) == nullptr) std::abort();
    path_ = path;
  }
  ~TempDir() {
    std::error_code ignored;  // what is left behind in /tmp fails no test
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace daemoneye::ipc::testing
