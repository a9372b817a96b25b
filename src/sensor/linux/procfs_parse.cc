#include "sensor/linux/procfs_parse.h"

#include <array>

#include "base/text.h"

namespace daemoneye::sensor {
namespace {

constexpr std::uint64_t kKernelThreadFlag = 0x0020'0000;  // PF_KTHREAD
// Numbered as in proc(5), from 1; the last one read is the start time.
constexpr std::size_t kLastField = 22;
constexpr std::uint64_t kMaxKib = std::uint64_t{1} << 53;  // what fits as bytes

// Takes the next blank-separated word off `rest`.
std::string_view next_word(std::string_view& rest) {
  const auto begin = rest.find_first_not_of(" \n");
  if (begin == std::string_view::npos) {
    rest = {};
    return {};
  }
  rest.remove_prefix(begin);
  const auto end = rest.find_first_of(" \n");
  const auto word = rest.substr(0, end);
  rest.remove_prefix(word.size());
  return word;
}

std::string_view next_line(std::string_view& rest) {
  const auto end = rest.find('\n');
  const auto line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return line;
}

bool contains_item(std::string_view comma_separated, std::string_view item) {
  while (!comma_separated.empty()) {
    const auto comma = comma_separated.find(',');
    if (comma_separated.substr(0, comma) == item) return true;
    if (comma == std::string_view::npos) break;
    comma_separated.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace

std::optional<StatFields> parse_stat(std::string_view text) {
  // The name may hold anything, ')' and newlines included: it ends at the last ')' of the text.
  const auto open = text.find('(');
  const auto close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
  StatFields fields;
  const auto pid = base::parse_integer<event::Pid>(base::trim(text.substr(0, open)));
  if (!pid) return std::nullopt;
  fields.pid = *pid;
  fields.comm = text.substr(open + 1, close - open - 1);

  auto rest = text.substr(close + 1);
  const auto state = next_word(rest);
  if (state.size() != 1) return std::nullopt;
  fields.state = state[0];

  std::array<std::uint64_t, kLastField + 1> numbers{};
  for (std::size_t field = 4; field <= kLastField; ++field) {
    const auto word = next_word(rest);
    if (word.empty()) return std::nullopt;  // cut off before what identifies a process
    if (word[0] == '-') {                   // tpgid, priority, nice, exit_code: none of them is used
      if (!base::parse_integer<std::int64_t>(word)) return std::nullopt;
      continue;
    }
    const auto number = base::parse_integer<std::uint64_t>(word);
    if (!number) return std::nullopt;
    numbers[field] = *number;
  }
  fields.ppid = static_cast<event::Pid>(numbers[4]);
  fields.session = static_cast<std::uint32_t>(numbers[6]);
  fields.tty_number = static_cast<std::uint32_t>(numbers[7]);
  fields.kernel_thread = (numbers[9] & kKernelThreadFlag) != 0;
  fields.cpu_ticks = numbers[14] + numbers[15];
  fields.threads = numbers[20];
  fields.start_ticks = numbers[22];
  return fields;
}

StatusFields parse_status(std::string_view text) {
  StatusFields fields;
  const auto ids = [](std::string_view line, std::optional<std::uint32_t>& real,
                      std::optional<std::uint32_t>& effective) {
    for (auto* id : {&real, &effective}) {
      const auto end = line.find('\t');
      *id = base::parse_integer<std::uint32_t>(base::trim(line.substr(0, end)));
      line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
    }
  };
  // Name: comes first and has its newlines escaped by the kernel, so a name cannot forge a line.
  while (!text.empty()) {
    const auto line = next_line(text);
    if (line.starts_with("Uid:\t")) ids(line.substr(5), fields.uid, fields.euid);
    if (line.starts_with("Gid:\t")) ids(line.substr(5), fields.gid, fields.egid);
    if (line.starts_with("VmRSS:\t")) {
      const auto number = base::trim(line.substr(7));
      if (const auto kib = base::parse_integer<std::uint64_t>(number.substr(0, number.find(' ')))) {
        if (*kib <= kMaxKib) fields.resident_bytes = *kib * 1024;
      }
      break;
    }
  }
  return fields;
}

std::optional<std::string_view> choose_cgroup(std::string_view text) {
  std::optional<std::string_view> unified, systemd, memory, pids;
  while (!text.empty()) {
    const auto line = next_line(text);  // HIERARCHY:CONTROLLERS:PATH
    const auto first = line.find(':');
    if (first == std::string_view::npos) continue;
    const auto second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const auto path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') continue;
    if (line.starts_with("0::"))
      unified = path;
    else if (contains_item(controllers, "name=systemd"))
      systemd = path;
    else if (contains_item(controllers, "memory"))
      memory = path;
    else if (contains_item(controllers, "pids"))
      pids = path;
  }
  for (const auto& path : {unified, systemd, memory, pids}) {
    if (path && *path != "/") return path;
  }
  for (const auto& path : {unified, systemd, memory, pids}) {
    if (path) return path;
  }
  return std::nullopt;
}

std::optional<std::string> tty_name(std::uint32_t tty_number) {
  // Bits 31-20 and 7-0 are the minor, 19-8 the major (proc(5)); majors are those of the kernel's devices.txt.
  const std::uint32_t major = (tty_number >> 8) & 0xfff;
  const std::uint32_t minor = (tty_number & 0xff) | ((tty_number >> 12) & 0xfff00);
  if (major >= 136 && major <= 143) return "pts/" + std::to_string((major - 136) * 256 + minor);
  if (major == 4) return minor < 64 ? "tty" + std::to_string(minor) : "ttyS" + std::to_string(minor - 64);
  if (major == 5 && minor == 1) return "console";
  if (major == 204 && minor >= 64) return "ttyAMA" + std::to_string(minor - 64);
  if (major == 229) return "hvc" + std::to_string(minor);
  return std::nullopt;
}

std::optional<event::ProcessStatus> status_of(char state) {
  switch (state) {
    case 'R': return event::ProcessStatus::running;
    case 'S':
    case 'D':
    case 'I':
    case 'P': return event::ProcessStatus::sleeping;
    case 'T':
    case 't': return event::ProcessStatus::stopped;
    case 'Z':
    case 'X': return event::ProcessStatus::zombie;
    default: return std::nullopt;
  }
}

}  // namespace daemoneye::sensor
