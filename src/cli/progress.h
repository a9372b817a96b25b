// How far a long verb is: one line on stderr that is drawn over, on a terminal only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

#include "base/time.h"
#include "cli/invocation.h"

namespace daemoneye::cli {

class Progress {
 public:
  Progress(const Invocation& invocation, std::string what)
      : out_(invocation.terminal() ? &invocation.err() : nullptr), what_(std::move(what)) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }

  // `more` says what else there is to say.
  void show(std::uint64_t done, std::uint64_t total, std::string_view more = {}) {
    const auto now = base::SteadyClock::now();
    if (out_ == nullptr || (total == 0 && more.empty()) || now - shown_ < std::chrono::milliseconds(100)) return;
    shown_ = now;
    *out_ << '\r' << what_;
    if (total > 0) *out_ << ' ' << std::min(done, total) * 100 / total << " %";
    *out_ << (more.empty() ? "" : ", ") << more << "\x1b[K" << std::flush;
    drawn_ = true;
  }
  void clear() {
    if (drawn_) *out_ << "\r\x1b[K" << std::flush;
    drawn_ = false;
  }

 private:
  std::ostream* out_;
  std::string what_;
  base::SteadyClock::time_point shown_{};
  bool drawn_ = false;
};

}  // namespace daemoneye::cli
