// Typed requests to the collector. SQL never reaches it: the agent's binder turns a query into `filter`.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "event/process.h"

namespace daemoneye::event {

enum class RuleType : std::uint8_t { ProcessMonitor, NetworkMonitor, FileSystemMonitor };

struct TaskParameters {
  std::string filter;           // simple predicates in the `predicate` room's text form; empty: all
  std::uint64_t threshold = 0;  // stop after this many results; 0: no bound but the task's own
};

class DetectionTaskBuilder;

struct DetectionTask {
  std::string task_id;  // random, unique
  RuleType rule_type = RuleType::ProcessMonitor;
  TaskParameters parameters;
  std::chrono::milliseconds timeout{30000};

  static DetectionTaskBuilder builder();
};

class DetectionTaskBuilder {
 public:
  DetectionTaskBuilder& with_rule_id(std::string rule_id);  // becomes the task id's prefix
  DetectionTaskBuilder& with_query(std::string filter);     // predicates, already bound by the agent
  DetectionTaskBuilder& with_rule_type(RuleType type);
  DetectionTaskBuilder& with_threshold(std::uint64_t threshold);
  DetectionTaskBuilder& with_timeout(std::chrono::milliseconds timeout);
  // invalid_input when the timeout is not in (0, 1 h].
  Result<DetectionTask> build() const;

 private:
  DetectionTask task_;
  std::string rule_id_;
};

// What went wrong with one process or one request; reaches people by to_string().
struct PermissionDenied {
  Pid pid;
};
struct ProcessNotFound {
  Pid pid;
};
struct DatabaseError {
  std::string message;
};
struct IpcError {
  std::string message;
};
using CollectionError = std::variant<PermissionDenied, ProcessNotFound, DatabaseError, IpcError>;
// "Permission denied accessing process 7", "Process 7 no longer exists", "Database operation failed: …",
// "IPC communication failed: …"
std::string to_string(const CollectionError& error);

struct DetectionResult {
  std::string task_id;
  std::vector<ProcessInfo> processes;
  std::vector<std::string> errors;  // to_string(CollectionError) of what could not be seen
  bool truncated = false;           // threshold or bound reached
};

}  // namespace daemoneye::event
