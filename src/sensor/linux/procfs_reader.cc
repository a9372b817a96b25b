#include "sensor/linux/procfs_reader.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <climits>

#include "base/text.h"
#include "sensor/linux/procfs_parse.h"

namespace daemoneye::sensor {
namespace {

constexpr std::uint64_t kLongestArguments = std::uint64_t{1} << 31;  // more than any kernel takes
constexpr std::size_t kDirectoryBuffer = 32768;
constexpr std::string_view kDeleted = " (deleted)";
constexpr std::uint32_t kUnset = 0xffff'ffff;  // loginuid of what nobody logged in for

// The length of a file of /proc, which tells none: where reading one byte stops giving one. `at_least`: known to be
// there. The kernel does not tell the bounds of the arguments to those who may not trace the process.
std::uint64_t length_of(int file, std::uint64_t at_least) {
  const auto there = [file](std::uint64_t offset) {
    char byte = 0;
    return ::pread(file, &byte, 1, static_cast<off_t>(offset)) == 1;
  };
  std::uint64_t inside = at_least - 1, beyond = at_least;
  while (beyond < kLongestArguments && there(beyond)) {
    inside = beyond;
    beyond *= 2;
  }
  while (beyond - inside > 1) {
    const auto middle = inside + (beyond - inside) / 2;
    (there(middle) ? inside : beyond) = middle;
  }
  return beyond;
}

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

bool ProcReader::Parts::note(Part part) {
  absent |= part == Part::absent;
  // A part that cannot be read for whatever reason (a folder too deep to be named, say) leaves the others.
  forbidden |= part == Part::forbidden || part == Part::failed;
  gone |= part == Part::gone;
  return part == Part::read;
}

ProcReader::Part ProcReader::read_part(int folder, const char* name) {
  const UniqueFd file(::openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return part_of(errno);
  return read_open(file.get());
}

ProcReader::Part ProcReader::read_open(int file) {
  // The kernel hands each of these texts over in one piece, as far as it fits: no second reading has to say that it
  // was all.
  ssize_t got = -1;
  do {
    got = ::read(file, buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) return part_of(errno);
  text_ = {buffer_.data(), static_cast<std::size_t>(got)};
  return Part::read;
}

ProcReader::Part ProcReader::read_arguments(int folder, RawProcess& out) {
  const UniqueFd file(::openat(folder, "cmdline", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return part_of(errno);
  // The buffer holds one byte more than the bound, which tells a cut from an exact fit.
  const auto part = read_open(file.get());
  if (part != Part::read) return part;
  out.arguments_bytes = text_.size();
  if (text_.size() > kMaxArguments) {
    out.arguments_bytes = length_of(file.get(), text_.size());
    text_ = text_.substr(0, kMaxArguments);
  }
  assign(out.arguments, text_);
  return Part::read;
}

ProcReader::Part ProcReader::read_file_identity(int folder, RawProcess& out) {
  struct stat file{};
  if (::fstatat(folder, "exe", &file, 0) != 0) return part_of(errno);
  const auto ns_of = [](const timespec& time) { return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; };
  out.file.device = file.st_dev;
  out.file.inode = file.st_ino;
  out.file.size = static_cast<std::uint64_t>(file.st_size);
  out.file.mtime_ns = ns_of(file.st_mtim);
  out.file.ctime_ns = ns_of(file.st_ctim);
  out.links = static_cast<std::uint32_t>(file.st_nlink);
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
  const bool known = read_file_identity(folder, out) == Part::read;
  out.executable_state = event::ExecutableState::ok;
  if (path.ends_with(kDeleted)) {
    // A file may really be called so: then that very path leads to the same file.
    struct stat literal{};
    const bool really_named_so = known && out.links != 0U && ::stat(std::string(path).c_str(), &literal) == 0 &&
                                 literal.st_ino == out.file.inode && literal.st_dev == out.file.device;
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

// Ids come from here: the owner of /proc/PID is root for a process that is not dumpable.
ProcReader::Part ProcReader::read_status(int folder, RawProcess& out) {
  const auto part = read_part(folder, "status");
  if (part != Part::read) return part;
  const auto status = parse_status(text_);
  out.uid = status.uid;
  out.euid = status.euid;
  out.gid = status.gid;
  out.egid = status.egid;
  out.resident_bytes = status.resident_bytes;
  // No memory is told of what has none; or the line comes after the bound, behind thousands of groups.
  const bool whole = text_.size() < buffer_.size();
  const bool has_none = out.kernel_thread || out.status == event::ProcessStatus::zombie;
  if (!out.resident_bytes && (whole || has_none)) out.resident_bytes = 0;
  return part;
}

ProcReader::Part ProcReader::read_cgroup(int folder, RawProcess& out) {
  const auto part = read_part(folder, "cgroup");
  if (part != Part::read) return part;
  if (const auto path = choose_cgroup(text_)) assign(out.cgroup, *path);
  return part;
}

ProcReader::Part ProcReader::read_loginuid(int folder, RawProcess& out) {
  const auto part = read_part(folder, "loginuid");
  if (part != Part::read) return part;
  const auto id = base::parse_integer<std::uint32_t>(base::trim(text_));
  if (id && *id != kUnset) out.loginuid = id;
  return part;
}

UniqueFd ProcReader::open_process(event::Pid pid) {
  std::array<char, 16> name{};
  std::to_chars(name.data(), name.data() + name.size() - 1, pid);
  return UniqueFd(::openat(root_.get(), name.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

bool ProcReader::take_arguments(int folder, RawProcess& out) {
  if (read_arguments(folder, out) == Part::read && out.arguments_bytes > 0) return true;
  out.arguments.reset();
  return false;
}

std::optional<StatFields> ProcReader::stat(int folder) {
  if (read_part(folder, "stat") != Part::read) return std::nullopt;
  return parse_stat(text_);
}

std::optional<StatFields> ProcReader::stat(event::Pid pid) {
  const auto name = std::to_string(pid) + "/stat";
  if (read_part(root_.get(), name.c_str()) != Part::read) return std::nullopt;
  const auto fields = parse_stat(text_);
  return fields && fields->pid == pid ? fields : std::nullopt;
}

void ProcReader::take_stat(const StatFields& stat, RawProcess& out) {
  out.pid = stat.pid;
  out.ppid = stat.ppid;
  out.start_ticks = stat.start_ticks;
  out.comm = stat.comm;
  out.session_id = stat.session;
  out.tty = tty_name(stat.tty_number);
  out.cpu_ticks = stat.cpu_ticks;
  out.status = status_of(stat.state);
  out.kernel_thread = stat.kernel_thread;
}

void ProcReader::read_rest(int folder, Parts& parts, RawProcess& out) {
  const bool zombie = out.status == event::ProcessStatus::zombie;
  if (out.kernel_thread)
    out.executable_state = event::ExecutableState::kernel;
  else if (!zombie)
    parts.note(read_executable(folder, out));
  if (!zombie) parts.note(read_cwd(folder, out));
  parts.note(read_status(folder, out));
  parts.note(read_cgroup(folder, out));
  parts.note(read_loginuid(folder, out));
}

ProcReader::Outcome ProcReader::take_rest(int folder, RawProcess& out) {
  Parts parts;
  read_rest(folder, parts, out);
  if (parts.gone) return Outcome::vanished;
  return parts.forbidden ? Outcome::forbidden : Outcome::complete;
}

ProcReader::Outcome ProcReader::read(event::Pid pid, RawProcess& out, Depth depth) {
  out = RawProcess{};
  // The handle stays with this process: a pid's next owner is another to the kernel, and cannot be reached through it.
  // So what is read through it needs no second look at who it was.
  const auto folder = open_process(pid);
  if (!folder) {
    const auto part = part_of(errno);
    return part == Part::failed || part == Part::forbidden ? Outcome::failed : Outcome::vanished;
  }

  const auto part = read_part(folder.get(), "stat");
  if (part == Part::gone || part == Part::absent) return Outcome::vanished;
  if (part != Part::read) return Outcome::failed;
  const auto stat = parse_stat(text_);
  if (!stat || stat->pid != pid) {
    last_error_ = EBADMSG;
    return Outcome::failed;
  }
  take_stat(*stat, out);
  const bool has_image = !out.kernel_thread && out.status != event::ProcessStatus::zombie;
  Parts parts;
  if (depth == Depth::counters) {
    out.counters_only = true;
    parts.note(read_status(folder.get(), out));
    if (has_image) parts.note(read_file_identity(folder.get(), out));
  } else {
    if (has_image) parts.note(read_arguments(folder.get(), out));
    read_rest(folder.get(), parts, out);
  }

  // What was absent has perhaps only gone meanwhile.
  if (parts.absent && read_part(folder.get(), "stat") != Part::read) return Outcome::vanished;
  if (parts.gone) return Outcome::vanished;
  return parts.forbidden ? Outcome::forbidden : Outcome::complete;
}

bool ProcReader::hides_others() const {
  const UniqueFd first(::openat(root_.get(), "1/stat", O_RDONLY | O_CLOEXEC));
  return !first && (errno == ENOENT || errno == EPERM || errno == EACCES);
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
