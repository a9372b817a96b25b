#include "sensor/linux/procfs_reader.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "base/text.h"
#include "sensor/linux/procfs_parse.h"

namespace daemoneye::sensor {
namespace {

constexpr std::size_t kMaxStat = 4096;
constexpr std::size_t kMaxStatus = 8192;
constexpr std::size_t kMaxCgroup = 16384;
constexpr std::size_t kDirectoryBuffer = 32768;
constexpr std::string_view kDeleted = " (deleted)";
constexpr std::uint32_t kUnset = 0xffff'ffff;  // loginuid of what nobody logged in for

void assign(std::optional<std::string>& field, std::string_view value) {
  if (field)
    field->assign(value);
  else
    field.emplace(value);
}

}  // namespace

Result<ProcReader> ProcReader::open(const std::string& proc_path) {
  UniqueFd root(::open(proc_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno(proc_path, errno);
  return ProcReader(std::move(root));
}

ProcReader::Part ProcReader::part_of(int error) {
  switch (error) {
    case ENOENT: return Part::absent;  // kernel threads and zombies have no exe, old kernels no loginuid
    case ESRCH: return Part::gone;
    case EACCES:
    case EPERM: return Part::forbidden;
    default: last_error_ = error; return Part::failed;
  }
}

ProcReader::Part ProcReader::read_part(int folder, const char* name, std::string& buffer, std::size_t bound) {
  const UniqueFd file(::openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return part_of(errno);
  buffer.resize(bound);
  std::size_t used = 0;
  while (used < bound) {
    const auto got = ::read(file.get(), buffer.data() + used, bound - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return part_of(errno);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  buffer.resize(used);
  return Part::read;
}

ProcReader::Part ProcReader::read_arguments(int folder, std::uint64_t bytes_by_stat, RawProcess& out) {
  // One byte beyond the bound tells a cut from an exact fit.
  const auto part = read_part(folder, "cmdline", text_, kMaxArguments + 1);
  if (part != Part::read) return part;
  out.arguments_bytes = text_.size();
  if (text_.size() > kMaxArguments) {
    out.arguments_bytes = std::max<std::uint64_t>(text_.size(), bytes_by_stat);
    text_.resize(kMaxArguments);
  }
  assign(out.arguments, text_);
  return Part::read;
}

ProcReader::Part ProcReader::read_executable(int folder, RawProcess& out) {
  std::array<char, PATH_MAX> link;
  const auto size = ::readlinkat(folder, "exe", link.data(), link.size());
  if (size < 0) {
    const auto part = part_of(errno);
    if (part == Part::forbidden) out.executable_state = event::ExecutableState::unreadable;
    return part;
  }
  std::string_view path(link.data(), static_cast<std::size_t>(size));
  struct stat file{};
  const bool known = ::fstatat(folder, "exe", &file, 0) == 0;
  if (known) {
    out.file.inode = file.st_ino;
    out.file.device = file.st_dev;
  }
  out.executable_state = event::ExecutableState::ok;
  if (path.ends_with(kDeleted)) {
    // A file may really be called so: then that very path leads to the same file.
    struct stat literal{};
    const bool really_named_so = known && file.st_nlink > 0 && ::stat(std::string(path).c_str(), &literal) == 0 &&
                                 literal.st_ino == file.st_ino && literal.st_dev == file.st_dev;
    if (!really_named_so) {
      path.remove_suffix(kDeleted.size());
      out.executable_state = path.starts_with("/memfd:") && path.find('/', 1) == std::string_view::npos
                                 ? event::ExecutableState::memfd
                                 : event::ExecutableState::deleted;
    }
  }
  assign(out.executable_path, path);
  return Part::read;
}

ProcReader::Part ProcReader::read_cwd(int folder, RawProcess& out) {
  std::array<char, PATH_MAX> link;
  const auto size = ::readlinkat(folder, "cwd", link.data(), link.size());
  if (size < 0) return part_of(errno);
  std::string_view path(link.data(), static_cast<std::size_t>(size));
  if (path.ends_with(kDeleted)) path.remove_suffix(kDeleted.size());
  assign(out.cwd, path);
  return Part::read;
}

ProcReader::Outcome ProcReader::read(event::Pid pid, RawProcess& out) {
  out = RawProcess{};
  const auto name = std::to_string(pid);
  // The handle stays with this process: once it is gone, every read through it fails, whoever gets the pid next.
  const UniqueFd folder(::openat(root_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) {
    const auto part = part_of(errno);
    return part == Part::failed || part == Part::forbidden ? Outcome::failed : Outcome::vanished;
  }

  auto part = read_part(folder.get(), "stat", stat_, kMaxStat);
  if (part == Part::gone || part == Part::absent) return Outcome::vanished;
  if (part != Part::read) return Outcome::failed;
  const auto stat = parse_stat(stat_);
  if (!stat || stat->pid != pid) {
    last_error_ = EBADMSG;
    return Outcome::failed;
  }
  out.pid = pid;
  out.ppid = stat->ppid;
  out.start_ticks = stat->start_ticks;
  out.comm = stat->comm;
  out.session_id = stat->session;
  out.tty = tty_name(stat->tty_number);
  out.cpu_ticks = stat->cpu_ticks;
  out.status = status_of(stat->state);
  out.kernel_thread = stat->kernel_thread;
  const bool zombie = out.status == event::ProcessStatus::zombie;
  const auto arguments_bytes = stat->arguments_bytes;

  bool forbidden = false, failed = false, gone = false;
  const auto note = [&](Part seen) {
    forbidden |= seen == Part::forbidden;
    failed |= seen == Part::failed;
    gone |= seen == Part::gone;
    return seen == Part::read;
  };
  // Ids come from `status`: the owner of /proc/PID is root for a process that is not dumpable.
  if (note(read_part(folder.get(), "status", text_, kMaxStatus))) {
    const auto status = parse_status(text_);
    out.uid = status.uid;
    out.euid = status.euid;
    out.gid = status.gid;
    out.egid = status.egid;
    out.resident_bytes = status.resident_bytes.value_or(0);
  }
  if (note(read_part(folder.get(), "cgroup", text_, kMaxCgroup))) {
    if (const auto path = choose_cgroup(text_)) assign(out.cgroup, *path);
  }
  if (note(read_part(folder.get(), "loginuid", text_, 32))) {
    const auto id = base::parse_integer<std::uint32_t>(base::trim(text_));
    if (id && *id != kUnset) out.loginuid = id;
  }
  if (out.kernel_thread) {
    out.executable_state = event::ExecutableState::kernel;
    note(read_cwd(folder.get(), out));
  } else if (!zombie) {
    note(read_arguments(folder.get(), arguments_bytes, out));
    note(read_executable(folder.get(), out));
    note(read_cwd(folder.get(), out));
  }

  // The same process to the end? Otherwise what was absent was perhaps only gone.
  part = read_part(folder.get(), "stat", stat_, kMaxStat);
  const auto after = part == Part::read ? parse_stat(stat_) : std::nullopt;
  if (gone || !after || after->start_ticks != out.start_ticks) return Outcome::vanished;
  if (failed) return Outcome::failed;
  return forbidden ? Outcome::forbidden : Outcome::complete;
}

Result<void> ProcReader::list(std::vector<event::Pid>& pids) {
  pids.clear();
  if (::lseek(root_.get(), 0, SEEK_SET) < 0) return fail_errno("rewinding /proc", errno);
  alignas(dirent64) std::array<char, kDirectoryBuffer> buffer;
  for (;;) {
    const auto got = ::syscall(SYS_getdents64, root_.get(), buffer.data(), buffer.size());
    if (got < 0) return fail_errno("listing /proc", errno);
    if (got == 0) return {};
    for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += entry->d_reclen;
      if (const auto pid = base::parse_integer<event::Pid>(entry->d_name)) pids.push_back(*pid);
    }
  }
}

}  // namespace daemoneye::sensor
