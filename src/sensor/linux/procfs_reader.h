// Reads processes from a /proc tree: openat from handles opened once, reused buffers. Not thread-safe.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "sensor/source.h"

namespace daemoneye::sensor {

// Bound of the arguments that are kept; the same in the eBPF programs.
inline constexpr std::size_t kMaxArguments = 16384;

class ProcReader {
 public:
  static Result<ProcReader> open(const std::string& proc_path);

  enum class Outcome {
    complete,
    forbidden,  // seen, but some fields could not be read
    vanished,   // gone before or while it was read
    failed,     // the system refused for another reason; see last_error()
  };
  // `out` is usable after complete and forbidden.
  Outcome read(event::Pid pid, RawProcess& out);
  // All pids now, ascending as the kernel gives them. The vector is cleared first.
  Result<void> list(std::vector<event::Pid>& pids);
  [[nodiscard]] int last_error() const { return last_error_; }

 private:
  enum class Part { read, absent, forbidden, gone, failed };
  explicit ProcReader(UniqueFd root) : root_(std::move(root)) {}

  Part read_part(int folder, const char* name, std::string& buffer, std::size_t bound);
  Part read_arguments(int folder, std::uint64_t bytes_by_stat, RawProcess& out);
  Part read_executable(int folder, RawProcess& out);
  Part read_cwd(int folder, RawProcess& out);
  Part part_of(int error);

  UniqueFd root_;
  std::string stat_, text_;
  int last_error_ = 0;
};

}  // namespace daemoneye::sensor
