// What works, what does not, and why: one report a program, merged by the agent, shown by `health`.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace daemoneye::observe {

enum class HealthState { ok, degraded, failed };
std::string_view to_string(HealthState state);

struct ComponentHealth {
  std::string component;  // collector | store | ledger | rules | sinks | capabilities | config | ipc …
  HealthState state = HealthState::ok;
  std::string reason;  // one line for people; empty when ok
  std::map<std::string, std::string> details;
};

// The current report; parts replace their own component. Thread-safe.
class HealthBoard {
 public:
  void set(ComponentHealth component);
  [[nodiscard]] std::vector<ComponentHealth> report() const;  // by component name

 private:
  mutable std::mutex mutex_;
  std::map<std::string, ComponentHealth> components_;
};

HealthState worst(const std::vector<ComponentHealth>& report);
// One line: what is wrong, the worst first ("collector: …; rules: …"); "everything works" when nothing is.
std::string summary(const std::vector<ComponentHealth>& report);
std::string to_json(const std::vector<ComponentHealth>& report);
Result<std::vector<ComponentHealth>> parse_health(std::string_view json);

}  // namespace daemoneye::observe
