#include "collector/names.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/file.h"
#include "base/text.h"

namespace daemoneye::collector {
namespace {

constexpr std::size_t max_passwd_bytes = 4 * 1024 * 1024;
constexpr std::size_t comm_bytes = 15;  // TASK_COMM_LEN without its NUL

std::string_view base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

// The n-th argument of a NUL-separated list.
std::string_view argument(std::string_view arguments, std::size_t index) {
  for (; index > 0; --index) {
    const auto end = arguments.find('\0');
    if (end == std::string_view::npos) return {};
    arguments.remove_prefix(end + 1);
  }
  return arguments.substr(0, arguments.find('\0'));
}

// The kernel makes the comm from the executed file's base name, cut to 15 bytes.
bool gives_comm(std::string_view name, std::string_view comm) {
  return !name.empty() && !comm.empty() && name.substr(0, comm_bytes) == comm;
}

bool is_hex_id(std::string_view text) {
  constexpr std::size_t id_digits = 64;
  return text.size() == id_digits &&
         std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// systemd's escaping of unit names: \xNN stands for a byte.
std::string unescape_unit(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    if (text.size() >= 4 && text.starts_with("\\x")) {
      unsigned value = 0;
      const auto [end, error] = std::from_chars(text.data() + 2, text.data() + 4, value, 16);
      if (error == std::errc{} && end == text.data() + 4) {
        out += static_cast<char>(value);
        text.remove_prefix(4);
        continue;
      }
    }
    out += text.front();
    text.remove_prefix(1);
  }
  return out;
}

std::optional<std::string_view> between(std::string_view text, std::string_view prefix, std::string_view suffix) {
  if (!text.starts_with(prefix) || !text.ends_with(suffix) || text.size() <= prefix.size() + suffix.size()) {
    return std::nullopt;
  }
  return text.substr(prefix.size(), text.size() - prefix.size() - suffix.size());
}

}  // namespace

UserNames::UserNames(std::string passwd_path) : path_(std::move(passwd_path)) { refresh(); }

std::optional<std::string> UserNames::find(std::uint32_t uid) const {
  const auto found = names_.find(uid);
  if (found == names_.end()) return std::nullopt;
  return found->second;
}

bool UserNames::refresh() {
  struct stat status{};
  if (::stat(path_.c_str(), &status) != 0) return false;
  const std::int64_t modified = status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec;
  if (modified == modified_ns_) return false;
  const auto text = base::read_file(path_, max_passwd_bytes);
  if (!text) return false;
  modified_ns_ = modified;
  names_.clear();
  for (const auto line : base::split(*text, '\n')) {
    const auto fields = base::split(line, ':');
    if (fields.size() < 3 || fields[0].empty()) continue;
    if (const auto uid = base::parse_integer<std::uint32_t>(fields[2])) names_.emplace(*uid, fields[0]);
  }
  return true;
}

std::string process_name(const sensor::RawProcess& raw) {
  if (raw.kernel_thread) return raw.comm;
  // A descriptor's number says nothing: fexecve passes /dev/fd/N.
  if (raw.filename && !raw.filename->starts_with("/dev/fd/") && !base_name(*raw.filename).empty()) {
    return std::string(base_name(*raw.filename));
  }
  if (raw.arguments) {
    for (const std::size_t index : {0UL, 1UL}) {
      const auto name = base_name(argument(*raw.arguments, index));
      if (gives_comm(name, raw.comm)) return std::string(name);
    }
  }
  if (raw.executable_path && !base_name(*raw.executable_path).empty()) {
    return std::string(base_name(*raw.executable_path));
  }
  return raw.comm;
}

std::optional<std::string> container_id(std::string_view cgroup) {
  std::optional<std::string> found;
  for (const auto part : base::split(cgroup, '/')) {
    if (is_hex_id(part)) found = std::string(part);  // cgroupfs: /docker/ID, /kubepods/…/ID, /libpod_parent/libpod-ID
    for (const std::string_view prefix : {"docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-"}) {
      for (const std::string_view suffix : {".scope", ""}) {
        if (const auto id = between(part, prefix, suffix); id && is_hex_id(*id)) found = std::string(*id);
      }
    }
    if (const auto name = between(part, "systemd-nspawn@", ".service")) found = unescape_unit(*name);
    if (const auto name = between(part, "machine-", ".scope")) found = unescape_unit(*name);
  }
  return found;
}

}  // namespace daemoneye::collector
