// Reads processes from a /proc tree: openat from handles opened once, reused buffers. Not thread-safe.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "sensor/linux/procfs_parse.h"
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
    failed,     // listed, but who it is could not be read; see last_error()
  };
  // `out` is usable after complete and forbidden. Namespaces are left out: seven links for each process would make a
  // scan two thirds dearer, and only those who may trace a process may read them.
  Outcome read(event::Pid pid, RawProcess& out, Depth depth = Depth::full);

  // For events, where every microsecond counts: one process in steps. Everything read through the handle is of this
  // process: once it is gone reading fails, whoever gets the pid next. Invalid when it is gone already.
  UniqueFd open_process(event::Pid pid);
  // False, and nothing taken, when they could not be read or have no bytes: the process has ended, or is just being
  // given another image.
  bool take_arguments(int folder, RawProcess& out);
  // Nothing when it is gone. The name in it points into this reader, until the next reading.
  std::optional<StatFields> stat(int folder);
  std::optional<StatFields> stat(event::Pid pid);
  static void take_stat(const StatFields& stat, RawProcess& out);
  // What is neither in stat nor arguments: ids, memory, cgroup, executable, folder.
  Outcome take_rest(int folder, RawProcess& out);

  // All pids now, ascending as the kernel gives them. The vector is cleared first.
  Result<void> list(std::vector<event::Pid>& pids);
  // Whether /proc is mounted so that this process sees its own user's processes only. Process 1 is always there.
  [[nodiscard]] bool hides_others() const;
  [[nodiscard]] int last_error() const { return last_error_; }

 private:
  enum class Part { read, absent, forbidden, gone, failed };
  // What became of the parts of one process.
  struct Parts {
    bool absent = false, forbidden = false, gone = false;
    bool note(Part part);
  };
  explicit ProcReader(UniqueFd root) : root_(std::move(root)), buffer_(kMaxArguments + 1) {}

  // What was read is in text_ afterwards.
  Part read_part(int folder, const char* name);
  Part read_open(int file);
  Part read_arguments(int folder, RawProcess& out);
  Part read_executable(int folder, RawProcess& out);
  Part read_file_identity(int folder, RawProcess& out);
  Part read_cwd(int folder, RawProcess& out);
  Part read_status(int folder, RawProcess& out);
  Part read_cgroup(int folder, RawProcess& out);
  Part read_loginuid(int folder, RawProcess& out);
  Part part_of(int error);
  void read_rest(int folder, Parts& parts, RawProcess& out);

  UniqueFd root_;
  std::vector<char> buffer_;
  std::string_view text_;
  int last_error_ = 0;
};

}  // namespace daemoneye::sensor
