#include "sensor/linux/record.h"

#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "sensor/linux/procfs_parse.h"

namespace daemoneye::sensor {
namespace {

// /proc/PID/stat counts start times in USER_HZ, 100 on every platform this runs on; the kernel rounds down too.
constexpr std::uint64_t kNsPerTick = 10'000'000;
constexpr std::uint32_t kUnset = 0xffff'ffff;
constexpr std::string_view kMemfd = "memfd:";

std::string_view terminated(const char* text, std::size_t bound) { return {text, ::strnlen(text, bound)}; }

// Fields take over the buffers of the record before: most records have all of them.
void put(std::optional<std::string>& field, std::optional<std::string>& buffer, std::string_view text) {
  if (buffer) {
    buffer->assign(text);
    field = std::move(buffer);
  } else {
    field.emplace(text);
  }
}

// Components, the leaf first, each ended by a NUL. A cut path has lost its leading components: ".../usr/bin/id".
void put_path(std::optional<std::string>& field, std::optional<std::string>& buffer, std::string_view components,
              bool cut) {
  put(field, buffer, cut ? "..." : "");
  auto& path = *field;
  path.reserve(components.size() + 4);
  if (components.empty()) path += '/';
  while (!components.empty()) {
    components.remove_suffix(components.back() == '\0' ? 1 : 0);
    const auto begin = components.rfind('\0') + 1;  // npos + 1 is 0
    path += '/';
    path += components.substr(begin);
    components = components.substr(0, begin);
  }
}

void put_tty(std::optional<std::string>& field, std::optional<std::string>& buffer, std::string_view kernel_name) {
  constexpr std::string_view kPseudoTerminal = "pts";
  if (kernel_name.empty()) return;
  const bool pseudo = kernel_name.starts_with(kPseudoTerminal);
  put(field, buffer, pseudo ? "pts/" : "");
  *field += kernel_name.substr(pseudo ? kPseudoTerminal.size() : 0);
}

void decode_file(const daemoneye_record& record, std::string_view components, RawProcess& out) {
  out.file = {.device = ::makedev(record.device >> 20, record.device & 0xfffff),
              .inode = record.inode,
              .size = record.file_bytes,
              .mtime_ns = record.mtime_ns,
              .ctime_ns = record.ctime_ns};
  out.links = record.links;
  if ((record.flags & DE_PSEUDO_FILE) != 0 && components.starts_with(kMemfd)) {
    out.executable_state = event::ExecutableState::memfd;
  } else if ((record.flags & DE_UNLINKED) != 0 || record.links == 0) {
    out.executable_state = event::ExecutableState::deleted;
  } else {
    out.executable_state = event::ExecutableState::ok;
  }
}

}  // namespace

std::optional<std::size_t> record_size(std::string_view bytes) {
  daemoneye_record record;
  if (bytes.size() < sizeof record) return std::nullopt;
  std::memcpy(&record, bytes.data(), sizeof record);
  if (record.magic != DE_RECORD_MAGIC || record.size < sizeof record || record.size > DE_MAX_RECORD) return 0;
  return record.size;
}

std::optional<RecordInfo> decode_record(std::string_view bytes, RawProcess& out) {
  const auto size = record_size(bytes);
  if (!size || *size == 0 || *size > bytes.size()) return std::nullopt;
  daemoneye_record record;
  std::memcpy(&record, bytes.data(), sizeof record);
  if (record.kind < DE_EXEC || record.kind > DE_COUNTERS) return std::nullopt;

  std::array<std::string_view, DE_PARTS> parts;
  auto rest = bytes.substr(sizeof record, *size - sizeof record);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (record.lengths[i] > rest.size()) return std::nullopt;
    parts[i] = rest.substr(0, record.lengths[i]);
    rest.remove_prefix(record.lengths[i]);
  }
  if (!rest.empty()) return std::nullopt;

  RecordInfo info;
  info.kind = static_cast<daemoneye_record_kind>(record.kind);
  info.boot_ns = record.boot_ns;
  info.exit_status = record.exit_status;
  const auto has = [&](unsigned flag) { return (record.flags & flag) != 0; };

  auto old = std::exchange(out, RawProcess{});
  out.pid = record.pid;
  out.start_ticks = record.start_ns / kNsPerTick;
  out.comm = terminated(record.comm, sizeof record.comm);
  out.kernel_thread = has(DE_KERNEL_THREAD);
  if (info.kind == DE_EXIT) return info;

  out.ppid = record.ppid;
  if (record.ppid != 0) out.parent_start_ticks = record.parent_start_ns / kNsPerTick;
  out.uid = record.uid;
  out.gid = record.gid;
  out.euid = record.euid;
  out.egid = record.egid;
  if (record.loginuid != kUnset) out.loginuid = record.loginuid;
  out.session_id = record.session;
  if (has(DE_HAS_TTY)) put_tty(out.tty, old.tty, terminated(record.tty, sizeof record.tty));
  const bool of_scan = info.kind == DE_TASK || info.kind == DE_COUNTERS;
  out.counters_only = info.kind == DE_COUNTERS;
  out.status = of_scan ? status_of(static_cast<char>(record.state)) : event::ProcessStatus::running;
  if (has(DE_HAS_MEMORY)) {
    static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    out.resident_bytes = record.resident_pages < 0 ? 0 : static_cast<std::uint64_t>(record.resident_pages) * page_bytes;
  } else if (of_scan) {
    out.resident_bytes = 0;  // kernel threads and zombies have no memory of their own
  }
  if (has(DE_HAS_CPU)) out.cpu_ticks = record.cpu_ns / kNsPerTick;
  if (has(DE_HAS_FILENAME)) put(out.filename, old.filename, parts[DE_FILENAME]);
  if (has(DE_HAS_ARGUMENTS)) {
    put(out.arguments, old.arguments, parts[DE_ARGUMENTS]);
    out.arguments_bytes = record.arguments_bytes;
    info.cut = record.arguments_bytes > parts[DE_ARGUMENTS].size();
  }
  if (has(DE_HAS_EXECUTABLE)) {
    put_path(out.executable_path, old.executable_path, parts[DE_EXECUTABLE], has(DE_EXECUTABLE_CUT));
  }
  if (has(DE_HAS_FILE)) {
    decode_file(record, parts[DE_EXECUTABLE], out);
  } else if (out.kernel_thread) {
    out.executable_state = event::ExecutableState::kernel;
  }
  if (has(DE_HAS_NAMESPACES)) {
    const auto& inode = record.namespaces;
    out.namespaces = {.mnt = inode[DE_NS_MNT],
                      .pid = inode[DE_NS_PID],
                      .net = inode[DE_NS_NET],
                      .user = inode[DE_NS_USER],
                      .uts = inode[DE_NS_UTS],
                      .ipc = inode[DE_NS_IPC],
                      .cgroup = inode[DE_NS_CGROUP]};
  }
  if (has(DE_HAS_CWD)) put_path(out.cwd, old.cwd, parts[DE_CWD], has(DE_CWD_CUT));
  if (has(DE_HAS_CGROUP)) put_path(out.cgroup, old.cgroup, parts[DE_CGROUP], has(DE_CGROUP_CUT));
  info.cut = info.cut || has(DE_EXECUTABLE_CUT) || has(DE_CWD_CUT) || has(DE_CGROUP_CUT);
  return info;
}

}  // namespace daemoneye::sensor
