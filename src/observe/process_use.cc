#include "observe/process_use.h"

#include <unistd.h>

#include <string>
#include <string_view>

#include "base/file.h"
#include "base/text.h"

namespace daemoneye::observe {
namespace {

constexpr std::size_t max_proc_file_bytes = 64 * 1024;
constexpr std::uint64_t kib = 1024;

std::string folder_of(pid_t pid) { return "/proc/" + std::to_string(pid); }

// "RssAnon:      1234 kB"; 0 when the line is not there, as of a process that is ending.
std::uint64_t field_bytes(std::string_view status, std::string_view name) {
  for (auto line : base::split(status, '\n')) {
    if (!line.starts_with(name)) continue;
    line = base::trim(line.substr(name.size()));
    const auto number = base::parse_integer<std::uint64_t>(line.substr(0, line.find(' ')));
    return number.value_or(0) * kib;
  }
  return 0;
}

// Fields 14 and 15 of stat, in clock ticks; the name before them may hold anything but ends with the last ")".
Result<double> cpu_seconds_of(const std::string& stat) {
  const auto name_end = stat.rfind(')');
  constexpr std::size_t user_field = 12, system_field = 13;  // after the name, from 1
  const auto fields =
      base::split(name_end == std::string::npos ? "" : std::string_view(stat).substr(name_end + 1), ' ');
  if (fields.size() <= system_field) return fail(Errc::invalid_input, "stat of a process: too few fields");
  const auto user = base::parse_integer<std::uint64_t>(fields[user_field]);
  const auto system = base::parse_integer<std::uint64_t>(fields[system_field]);
  if (!user || !system) return fail(Errc::invalid_input, "stat of a process: no processor time");
  return static_cast<double>(*user + *system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

Result<ProcessUse> read_process_use(pid_t pid) {
  DE_TRY(const auto status, base::read_file(folder_of(pid) + "/status", max_proc_file_bytes));
  DE_TRY(const auto stat, base::read_file(folder_of(pid) + "/stat", max_proc_file_bytes));
  ProcessUse use;
  use.own_bytes = field_bytes(status, "RssAnon:") + field_bytes(status, "RssShmem:");
  use.file_bytes = field_bytes(status, "RssFile:");
  DE_TRY(use.cpu_seconds, cpu_seconds_of(stat));
  return use;
}

std::vector<pid_t> descendants_of(pid_t pid) {
  std::vector<pid_t> found = {pid};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto of = std::to_string(found[i]);
    const auto children = base::read_file("/proc/" + of + "/task/" + of + "/children", max_proc_file_bytes);
    if (!children) continue;  // it ended, or the kernel does not list them
    for (const auto child : base::split(*children, ' ')) {
      const auto number = base::parse_integer<pid_t>(child);
      if (number && found.size() <= max_descendants) found.push_back(*number);
    }
  }
  found.erase(found.begin());
  return found;
}

}  // namespace daemoneye::observe
