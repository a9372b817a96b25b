// An event as it lies in its canonical bytes: the fields of ProcessEvent, with texts that point into those bytes. For
// whoever takes many events apart and keeps few of them.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "event/batch.h"

namespace daemoneye::event {

struct ArgumentsView {
  std::string_view bytes;  // as Arguments::nul_terminated()
};

struct ProcessView {
  ProcessKey key;
  std::optional<Pid> ppid;
  std::optional<ProcessKey> parent_key;
  std::string_view name;
  std::optional<std::string_view> comm;
  std::optional<std::string_view> executable_path;
  std::optional<ArgumentsView> arguments;
  std::optional<std::string_view> cwd;
  std::optional<std::uint32_t> uid, gid, euid, loginuid;
  std::optional<std::string_view> user;
  std::optional<std::uint32_t> session_id;
  std::optional<std::string_view> tty;
  std::optional<Timestamp> start_time, exit_time;
  std::optional<std::int32_t> exit_code, exit_signal;
  std::optional<double> cpu_usage;
  std::optional<std::uint64_t> memory_usage;
  ProcessStatus status = ProcessStatus::running;
  std::optional<std::string_view> executable_hash;  // the 32 bytes of the digest
  std::optional<ExecutableState> executable_state;
  std::optional<std::string_view> cgroup, container_id;
  Timestamp collection_time;
  std::optional<std::uint64_t> scan_id;
};

struct EventView {
  Timestamp time;
  EventKind kind = EventKind::exec;
  EventSource source = EventSource::scan;
  std::string_view detail;
  ProcessView process;
  std::optional<std::string_view> parent_name, parent_executable_path, parent_command_line;
  std::string_view bytes;  // the whole event with its length in front, as decode_event() takes it
};

struct BatchView {
  BatchId id;
  std::vector<EventView> events;
};
// As decode_batch(), with its checks and errors. `bytes` must outlive the view. What `batch` held is taken apart and
// its memory used again.
Result<void> decode_batch(std::string_view bytes, BatchView& batch);

}  // namespace daemoneye::event
