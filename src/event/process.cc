#include "event/process.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "base/text.h"

namespace daemoneye::event {
namespace {

struct StatusName {
  ProcessStatus status;
  std::string_view name;
};
constexpr StatusName status_names[] = {
    {ProcessStatus::running, "running"}, {ProcessStatus::sleeping, "sleeping"}, {ProcessStatus::stopped, "stopped"},
    {ProcessStatus::zombie, "zombie"},   {ProcessStatus::exited, "exited"},
};

struct StateName {
  ExecutableState state;
  std::string_view name;
};
constexpr StateName state_names[] = {
    {ExecutableState::ok, "ok"},
    {ExecutableState::deleted, "deleted"},
    {ExecutableState::replaced, "replaced"},
    {ExecutableState::memfd, "memfd"},
    {ExecutableState::unreadable, "unreadable"},
    {ExecutableState::kernel, "kernel"},
};

}  // namespace

std::string to_string(const ProcessKey& key) {
  return base::to_hex(std::string_view(reinterpret_cast<const char*>(key.boot.data()), key.boot.size())) + '-' +
         std::to_string(key.pid) + '-' + std::to_string(key.start_ticks);
}

Result<ProcessKey> parse_process_key(std::string_view text) {
  constexpr std::size_t longest = 32 + 1 + 10 + 1 + 20;
  ProcessKey key;
  const auto parts = base::split(text.substr(0, longest + 1), '-');
  if (text.size() <= longest && parts.size() == 3 && parts[0].size() == 2 * key.boot.size()) {
    const auto boot = base::from_hex(parts[0]);
    const auto pid = base::parse_integer<Pid>(parts[1]);
    const auto ticks = base::parse_integer<std::uint64_t>(parts[2]);
    if (boot && pid && ticks) {
      std::copy(boot->begin(), boot->end(), key.boot.begin());
      key.pid = *pid;
      key.start_ticks = *ticks;
      // One text a key: upper-case digits and leading zeros would be further ones.
      if (to_string(key) == text) return key;
    }
  }
  return fail(Errc::invalid_input, "not a process key: '" + base::printable(text.substr(0, longest)) +
                                       "' (wanted BOOT-PID-TICKS: 32 lower-case hex digits, decimal, decimal)");
}

std::string_view to_string(ProcessStatus status) {
  for (const auto& entry : status_names) {
    if (entry.status == status) return entry.name;
  }
  return "unknown";
}

std::optional<ProcessStatus> parse_process_status(std::string_view text) {
  for (const auto& entry : status_names) {
    if (entry.name == text) return entry.status;
  }
  return std::nullopt;
}

std::string_view to_string(ExecutableState state) {
  for (const auto& entry : state_names) {
    if (entry.state == state) return entry.name;
  }
  return "unknown";
}

std::optional<ExecutableState> parse_executable_state(std::string_view text) {
  for (const auto& entry : state_names) {
    if (entry.name == text) return entry.state;
  }
  return std::nullopt;
}

Arguments Arguments::from_nul_separated(std::string_view bytes) { return adopt(std::string(bytes)); }

Arguments Arguments::adopt(std::string bytes) {
  Arguments arguments;
  arguments.bytes_ = std::move(bytes);
  if (!arguments.bytes_.empty() && arguments.bytes_.back() != '\0') arguments.bytes_ += '\0';
  return arguments;
}

Arguments Arguments::from_list(const std::vector<std::string>& list) {
  Arguments arguments;
  for (const auto& argument : list) {
    arguments.bytes_ += std::string_view(argument).substr(0, argument.find('\0'));
    arguments.bytes_ += '\0';
  }
  return arguments;
}

std::vector<std::string_view> Arguments::list() const {
  if (bytes_.empty()) return {};
  return base::split(std::string_view(bytes_).substr(0, bytes_.size() - 1), '\0');
}

std::string Arguments::command_line() const {
  if (bytes_.empty()) return {};
  std::string line = bytes_.substr(0, bytes_.size() - 1);
  std::replace(line.begin(), line.end(), '\0', ' ');
  return line;
}

std::string Arguments::json() const {
  std::string text = "[";
  for (const auto argument : list()) {
    if (text.size() > 1) text += ',';
    text += base::json_quote(argument);
  }
  return text + ']';
}

}  // namespace daemoneye::event
