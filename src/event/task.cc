#include "event/task.h"

#include <utility>

#include "base/hash.h"

namespace daemoneye::event {

DetectionTaskBuilder DetectionTask::builder() { return {}; }

DetectionTaskBuilder& DetectionTaskBuilder::with_rule_id(std::string rule_id) {
  rule_id_ = std::move(rule_id);
  return *this;
}

DetectionTaskBuilder& DetectionTaskBuilder::with_query(std::string filter) {
  task_.parameters.filter = std::move(filter);
  return *this;
}

DetectionTaskBuilder& DetectionTaskBuilder::with_rule_type(RuleType type) {
  task_.rule_type = type;
  return *this;
}

DetectionTaskBuilder& DetectionTaskBuilder::with_threshold(std::uint64_t threshold) {
  task_.parameters.threshold = threshold;
  return *this;
}

DetectionTaskBuilder& DetectionTaskBuilder::with_timeout(std::chrono::milliseconds timeout) {
  task_.timeout = timeout;
  return *this;
}

Result<DetectionTask> DetectionTaskBuilder::build() const {
  if (task_.timeout <= std::chrono::milliseconds(0) || task_.timeout > std::chrono::hours(1)) {
    return fail(Errc::invalid_input,
                "detection task: timeout of " + std::to_string(task_.timeout.count()) + " ms, allowed is 1 ms to 1 h");
  }
  DetectionTask task = task_;
  task.task_id = base::to_hex(base::random_bytes(16));
  if (!rule_id_.empty()) task.task_id = rule_id_ + '-' + task.task_id;
  return task;
}

std::string to_string(const CollectionError& error) {
  struct Text {
    std::string operator()(const PermissionDenied& e) const {
      return "Permission denied accessing process " + std::to_string(e.pid);
    }
    std::string operator()(const ProcessNotFound& e) const {
      return "Process " + std::to_string(e.pid) + " no longer exists";
    }
    std::string operator()(const DatabaseError& e) const { return "Database operation failed: " + e.message; }
    std::string operator()(const IpcError& e) const { return "IPC communication failed: " + e.message; }
  };
  return std::visit(Text{}, error);
}

}  // namespace daemoneye::event
