#include "sensor/linux/hash_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string_view>

#include "base/file.h"
#include "base/text.h"
#include "sensor/linux/procfs_parse.h"

namespace daemoneye::sensor {
namespace {

using event::ExecutableState;

constexpr std::string_view deleted_mark = " (deleted)";
constexpr std::string_view memfd_prefix = "/memfd:";
constexpr std::int64_t ns_per_s = 1'000'000'000;
constexpr int read_flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

std::optional<std::uint64_t> start_ticks_of(int folder) {
  const UniqueFd file(::openat(folder, "stat", O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  const auto text = base::read_up_to(file.get(), 4096);
  if (!text) return std::nullopt;
  const auto stat = parse_stat(*text);
  if (!stat) return std::nullopt;
  return stat->start_ticks;
}

// The inode number as the kernel itself keeps it, where stat gives another.
std::optional<std::uint64_t> kernel_inode(int proc, int fd) {
  const auto name = "self/fdinfo/" + std::to_string(fd);
  const UniqueFd file(::openat(proc, name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  const auto text = base::read_up_to(file.get(), 4096);
  if (!text) return std::nullopt;
  for (const auto line : base::split(*text, '\n')) {
    if (line.starts_with("ino:")) return base::parse_integer<std::uint64_t>(base::trim(line.substr(4)));
  }
  return std::nullopt;
}

bool same_inode(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

bool has_execute_bit(const struct stat& file) { return (file.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0; }

// All that tells content apart, once it is known to be the same inode.
bool same_content(const FileIdentity& a, const FileIdentity& b) {
  return a.size == b.size && a.mtime_ns == b.mtime_ns && a.ctime_ns == b.ctime_ns;
}

std::string reason(std::string_view what, int error) { return std::string(what) + ": " + std::strerror(error); }

}  // namespace

FileIdentity identity_of(const struct stat& file) {
  FileIdentity identity;
  identity.device = file.st_dev;
  identity.inode = file.st_ino;
  identity.size = static_cast<std::uint64_t>(file.st_size);
  identity.mtime_ns = file.st_mtim.tv_sec * ns_per_s + file.st_mtim.tv_nsec;
  identity.ctime_ns = file.st_ctim.tv_sec * ns_per_s + file.st_ctim.tv_nsec;
  return identity;
}

Result<FileOpener> FileOpener::create() {
  UniqueFd proc(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!proc) return fail_errno("/proc", errno);
  struct stat own{};
  const bool known = ::fstatat(proc.get(), "self/ns/mnt", &own, 0) == 0;
  return FileOpener(std::move(proc), known ? own.st_ino : 0);
}

OpenedFile FileOpener::open(const HashRequest& request) const {
  return request.pid == 0 ? open_for_operator(request.path) : open_running(request);
}

std::string FileOpener::link_of(int fd) const {
  const auto name = "self/fd/" + std::to_string(fd);
  std::array<char, PATH_MAX> text;
  const auto size = ::readlinkat(proc_.get(), name.c_str(), text.data(), text.size());
  return size > 0 ? std::string(text.data(), static_cast<std::size_t>(size)) : std::string();
}

// The kernel's own paths hold no symbolic link; one on the way now was put there since, and then another path is what
// the handle is known by.
UniqueFd FileOpener::look_at_exact(int root, const std::string& path) const {
  const char* below = root == AT_FDCWD ? path.c_str() : path.c_str() + 1;
  UniqueFd found(::openat(root, below, O_PATH | O_CLOEXEC | O_NOFOLLOW));
  if (found && link_of(found.get()) != path) found.reset();
  return found;
}

UniqueFd FileOpener::open_to_read(int looked_at) const {
  const auto name = "self/fd/" + std::to_string(looked_at);
  return UniqueFd(::openat(proc_.get(), name.c_str(), read_flags));
}

bool FileOpener::is_same_file(const FileIdentity& kernels, int fd, const struct stat& file) const {
  if (file.st_dev == kernels.device && file.st_ino == kernels.inode) return true;
  // On these two stat gives another device (a subvolume's, a layer's) than the one the kernel itself keeps, and
  // overlayfs may give another inode number too. Nowhere else: a process that executes two files of one size made in
  // the same clock tick must not get the hash of the one taken for the other.
  struct statfs system{};
  if (::fstatfs(fd, &system) != 0) return false;
  if (system.f_type != OVERLAYFS_SUPER_MAGIC && system.f_type != BTRFS_SUPER_MAGIC) return false;
  return kernel_inode(proc_.get(), fd) == kernels.inode;
}

std::optional<struct stat> FileOpener::at_path(int folder, const std::string& path) const {
  struct stat other_namespace{};
  if (path.empty() || path.front() != '/' || mount_namespace_ == 0 ||
      ::fstatat(folder, "ns/mnt", &other_namespace, 0) != 0) {
    return std::nullopt;
  }
  UniqueFd found;
  if (other_namespace.st_ino == mount_namespace_) {
    found = look_at_exact(AT_FDCWD, path);
  } else {
    const UniqueFd root(::openat(folder, "root", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (root) found = look_at_exact(root.get(), path);
  }
  struct stat file{};
  if (!found || ::fstat(found.get(), &file) != 0) return std::nullopt;
  return file;
}

void FileOpener::judge(int folder, const struct stat& file, OpenedFile& opened) const {
  auto path = link_of(opened.fd.get());
  bool deleted = file.st_nlink == 0;
  if (path.ends_with(deleted_mark)) {
    // A file may really be called so.
    const auto literal = file.st_nlink > 0 ? at_path(folder, path) : std::nullopt;
    if (!literal || !same_inode(*literal, file)) {
      deleted = true;
      path.resize(path.size() - deleted_mark.size());
    }
  }
  if (file.st_nlink == 0 && path.starts_with(memfd_prefix)) {
    opened.state = ExecutableState::memfd;
  } else {
    const auto there = at_path(folder, path);
    if (there && !same_inode(*there, file))
      opened.state = ExecutableState::replaced;
    else
      opened.state = deleted ? ExecutableState::deleted : ExecutableState::ok;
  }
  if (!path.empty()) opened.path = std::move(path);
}

OpenedFile FileOpener::open_running(const HashRequest& request) const {
  OpenedFile opened;
  // The handle stays with this process: once it ended, nothing more is found through it, whoever gets the pid.
  const UniqueFd folder(::openat(proc_.get(), std::to_string(request.pid).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return open_at_path(request, std::move(opened));
  UniqueFd executable(::openat(folder.get(), "exe", read_flags));
  const int error = executable ? 0 : errno;
  if (start_ticks_of(folder.get()) != request.start_ticks) return open_at_path(request, std::move(opened));
  if (!executable) {
    if (error == EACCES || error == EPERM) {
      opened.state = ExecutableState::unreadable;
      opened.error = reason("the executable cannot be opened", error);
      return opened;
    }
    return open_at_path(request, std::move(opened));  // a zombie has none any more
  }
  struct stat file{};
  if (::fstat(executable.get(), &file) != 0) {
    opened.error = reason("fstat of the executable", errno);
    return opened;
  }
  const bool known = request.file.inode != 0;
  // It executed something else meanwhile.
  if (known && !is_same_file(request.file, executable.get(), file)) return open_at_path(request, std::move(opened));
  const auto now = identity_of(file);
  opened.fd = std::move(executable);
  opened.seen = now;
  judge(folder.get(), file, opened);
  if (known && (now.size != request.file.size || now.mtime_ns != request.file.mtime_ns)) {
    opened.fd.reset();
    opened.error = "the file was written to after it was executed";
    return opened;
  }
  // Only its change time differs: unlinked, renamed or chmod'ed. It is the file that runs, but not what the kernel's
  // identity of before stands for.
  if (!known)
    opened.key = now;
  else if (same_content(now, request.file))
    opened.key = request.file;
  return opened;
}

OpenedFile FileOpener::open_at_path(const HashRequest& request, OpenedFile opened) const {
  opened.error = "the process was gone before its executable could be opened";
  if (request.file.inode == 0 || request.path.empty() || request.path.front() != '/') return opened;
  const auto found = look_at_exact(AT_FDCWD, request.path);
  struct stat file{};
  if (!found || ::fstat(found.get(), &file) != 0) {
    opened.error += ", and nothing is left at its path";
    return opened;
  }
  // Nothing proves that such a process ever was, and whoever asks may have been taken over. A file that was executed
  // has an execute bit, and still has it as long as its change time is the same: no other (a password file) is hashed
  // so.
  if (!S_ISREG(file.st_mode) || !has_execute_bit(file) || !is_same_file(request.file, found.get(), file) ||
      !same_content(identity_of(file), request.file)) {
    opened.error += ", and another file is at its path now";
    return opened;
  }
  opened.fd = open_to_read(found.get());
  if (!opened.fd) {
    const int error = errno;
    if (error == EACCES || error == EPERM) opened.state = ExecutableState::unreadable;
    opened.error = reason("the executable cannot be opened", error);
    return opened;
  }
  opened.error.clear();
  opened.seen = identity_of(file);
  opened.key = request.file;
  opened.at_path = true;
  return opened;
}

OpenedFile FileOpener::open_for_operator(const std::string& path) const {
  OpenedFile opened;
  if (path.empty() || path.front() != '/') {
    opened.error = "not an absolute path";
    return opened;
  }
  // Looked at before it is opened: opening a device or a pipe may do something.
  const UniqueFd found(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat file{};
  if (!found || ::fstat(found.get(), &file) != 0) {
    opened.error = std::strerror(errno);
    return opened;
  }
  if (!S_ISREG(file.st_mode) || !has_execute_bit(file)) {
    opened.error = "not a regular file with an execute bit";
    return opened;
  }
  opened.fd = open_to_read(found.get());
  if (!opened.fd) {
    opened.error = std::strerror(errno);
    return opened;
  }
  opened.seen = opened.key = identity_of(file);
  opened.path = link_of(opened.fd.get());
  return opened;
}

FileHash::FileHash(UniqueFd fd) : fd_(std::move(fd)) {
  // Read once and in order; its pages gain no standing among what others use (Linux 6.3; before, this does nothing).
  static_cast<void>(::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_NOREUSE));
  struct stat file{};
  if (::fstat(fd_.get(), &file) != 0)
    error_ = errno;
  else
    before_ = identity_of(file);
}

// The filter leaves no way to go back in a file (with it, the memory of other processes would be in reach): a second
// look is a second handle, whose position is the beginning.
Result<void> FileHash::begin_again() {
  const auto name = "/proc/self/fd/" + std::to_string(fd_.get());
  UniqueFd again(::open(name.c_str(), read_flags));
  if (!again) return fail_errno("opening the executable again", errno);
  fd_ = std::move(again);
  struct stat file{};
  if (::fstat(fd_.get(), &file) != 0) return fail_errno("fstat of the executable", errno);
  before_ = identity_of(file);
  offset_ = 0;
  sha_.finish();  // whatever a former attempt had taken in
  return {};
}

Result<std::optional<base::Sha256Digest>> FileHash::advance(std::string& buffer) {
  if (error_ != 0) return fail_errno("fstat of the executable", error_);
  bool at_end = false;
  for (std::size_t done = 0; done < slice_bytes && !at_end;) {
    const auto got = ::read(fd_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("reading the executable", errno);
    const auto size = static_cast<std::size_t>(got);
    sha_.update(std::string_view(buffer).substr(0, size));
    offset_ += size;
    bytes_read_ += size;
    done += size;
    at_end = size == 0 || offset_ > before_.size;
  }
  // One read beyond the end is made on purpose: a file that grew is one that changed.
  if (!at_end) return std::nullopt;
  struct stat file{};
  if (::fstat(fd_.get(), &file) != 0) return fail_errno("fstat of the executable", errno);
  if (offset_ == before_.size && identity_of(file) == before_) return std::optional(sha_.finish());
  if (++attempts_ == 2) return fail(Errc::unavailable, "it changed while it was read, twice");
  DE_CHECK(begin_again());
  return std::nullopt;
}

}  // namespace daemoneye::sensor
