#include "ledger/files.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>

#include "base/file.h"
#include "base/time.h"
#include "ledger/format.h"
#include "ledger/wal_tail.h"
#include "observe/log.h"

namespace daemoneye::ledger {
namespace {

constexpr mode_t folder_mode = 0750, file_mode = 0640;
constexpr std::uint64_t max_kept_aside = 64 * 1024 * 1024;
constexpr std::size_t max_tails_kept = 4;

Result<std::optional<gid_t>> find_group(const std::string& name) {
  if (name.empty()) return std::nullopt;
  constexpr std::size_t buffer_bytes = 64 * 1024;
  std::string buffer(buffer_bytes, '\0');
  group entry{};
  group* found = nullptr;
  const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (error != 0) return fail_errno("group " + name, error);
  if (found == nullptr) {
    // No failure: without its readers' group the ledger serves its owner.
    observe::log(observe::Level::warn, "ledger", "the readers' group does not exist", {{"group", name}});
    return std::nullopt;
  }
  return entry.gr_gid;
}

// The group that may read. Not being allowed to give it away is no failure: without root the ledger serves its owner.
void give_to_group(int fd, const std::string& path, std::optional<gid_t> group) {
  struct stat status{};
  if (!group || (::fstat(fd, &status) == 0 && status.st_gid == *group)) return;
  if (::fchown(fd, static_cast<uid_t>(-1), *group) != 0) {
    observe::log(observe::Level::warn, "ledger", "cannot give the ledger to its readers' group",
                 {{"path", path}, {"error", fail_errno("fchown", errno).error().message}});
  }
}

Result<void> check_ours(int fd, const std::string& path) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail_errno(path, errno);
  if (status.st_uid != ::geteuid()) {
    return fail(Errc::permission_denied, path + ": belongs to uid " + std::to_string(status.st_uid) + ", not to uid " +
                                             std::to_string(::geteuid()) + " that writes the ledger");
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(Errc::permission_denied, path + ": others than its owner can write it");
  }
  return {};
}

// ELOOP is what O_NOFOLLOW makes of a symbolic link.
std::unexpected<Error> open_error(const std::string& path, int error) {
  if (error == ELOOP || error == ENOTDIR)
    return fail(Errc::permission_denied, path + ": a symbolic link or not a folder");
  return fail_errno(path, error);
}

Result<UniqueFd> claim_folder(const std::filesystem::path& folder, std::optional<gid_t> group) {
  std::error_code error;
  if (folder.has_parent_path()) std::filesystem::create_directories(folder.parent_path(), error);
  if (error) return fail_errno(folder.parent_path().string(), error.value());
  if (::mkdir(folder.c_str(), folder_mode) != 0 && errno != EEXIST) return fail_errno(folder.string(), errno);
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return open_error(folder.string(), errno);
  DE_CHECK(check_ours(fd.get(), folder.string()));
  give_to_group(fd.get(), folder.string(), group);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(folder.string(), errno);
  // A set-group-id bit stays: by it the files that SQLite makes beside ours come to the readers' group, too.
  if (::fchmod(fd.get(), folder_mode | (status.st_mode & S_ISGID)) != 0) return fail_errno(folder.string(), errno);
  return fd;
}

// A file that is there, or with O_CREAT in `flags` one that is made.
Result<UniqueFd> claim_one(int folder, const std::string& name, const std::string& path, std::optional<gid_t> group,
                           mode_t mode, int flags) {
  UniqueFd fd(::openat(folder, name.c_str(), flags | O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode));
  if (!fd) return open_error(path, errno);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(path, errno);
  if (!S_ISREG(status.st_mode)) return fail(Errc::permission_denied, path + ": not a regular file");
  DE_CHECK(check_ours(fd.get(), path));
  give_to_group(fd.get(), path, group);
  if (::fchmod(fd.get(), mode) != 0) return fail_errno(path, errno);
  return fd;
}

std::string name_of(const std::string& path) { return std::filesystem::path(path).filename().string(); }

std::string compact_time() {
  auto text = base::to_iso(base::wall_now());
  std::erase_if(text, [](char c) { return c == '-' || c == ':' || c == '.'; });
  return text;
}

}  // namespace

Result<Files> Files::claim(const Ledger::Options& options) {
  const std::filesystem::path path = std::filesystem::path(options.path).lexically_normal();
  const std::string name = path.filename().string();
  if (name.empty()) return fail(Errc::invalid_input, "ledger: '" + options.path + "' names no file");
  Files files;
  DE_TRY(files.group_, find_group(options.reader_group));
  files.folder_path_ = (path.has_parent_path() ? path.parent_path() : std::filesystem::path(".")).string();
  DE_TRY(files.folder_, claim_folder(files.folder_path_, files.group_));
  // A reader who could open the lock file could hold it against us.
  DE_TRY(files.lock_, claim_one(files.folder_.get(), name + ".lock", options.path + ".lock", files.group_,
                                S_IRUSR | S_IWUSR, O_CREAT));
  // Before the file itself is touched: closing a descriptor of it would drop the locks of a SQLite in this process.
  if (::flock(files.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(Errc::unavailable, options.path + ": another process writes this ledger");
    return fail_errno(options.path + ".lock", errno);
  }
  DE_TRY(files.segments_, count_segments(options.path));
  return files;
}

Result<UniqueFd> Files::claim_file(const std::string& path) const {
  const auto name = name_of(path);
  DE_TRY(auto fd, claim_one(folder_.get(), name, path, group_, file_mode, O_CREAT));
  // SQLite believes what it finds there.
  for (const std::string suffix : {"-wal", "-shm"}) {
    auto beside = claim_one(folder_.get(), name + suffix, path + suffix, group_, file_mode, 0);
    if (!beside && beside.error().code != Errc::not_found) return beside;
  }
  return fd;
}

void Files::give_beside(const std::string& path) const {
  // By name: closing a descriptor would drop the locks that SQLite has on it.
  for (const std::string suffix : {"-wal", "-shm"}) {
    struct stat status{};
    const auto name = name_of(path) + suffix;
    if (!group_ || ::fstatat(folder_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (status.st_gid == *group_) continue;
    if (::fchownat(folder_.get(), name.c_str(), static_cast<uid_t>(-1), *group_, AT_SYMLINK_NOFOLLOW) != 0) {
      observe::log(observe::Level::warn, "ledger", "cannot give the ledger to its readers' group",
                   {{"path", path + suffix}, {"error", fail_errno("fchownat", errno).error().message}});
    }
  }
}

// Of crash after crash the newest are kept.
void Files::forget_old_tails() const {
  std::vector<std::string> kept;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(folder_path_, error)) {
    const auto name = file.path().filename().string();
    if (name.find(".torn-") != std::string::npos) kept.push_back(name);
  }
  std::ranges::sort(kept, {}, [](const std::string& name) { return name.substr(name.find(".torn-")); });
  for (std::size_t i = 0; i + max_tails_kept <= kept.size(); ++i) {
    static_cast<void>(::unlinkat(folder_.get(), kept[i].c_str(), 0));
  }
}

Result<std::optional<Files::KeptAside>> Files::keep_torn_tail(const std::string& path) const {
  const auto wal = path + "-wal";
  DE_TRY(const auto tail, find_wal_tail(wal));
  if (tail.bytes == 0) return std::nullopt;
  const UniqueFd from(::openat(folder_.get(), name_of(wal).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!from) return open_error(wal, errno);
  if (::lseek(from.get(), static_cast<off_t>(tail.offset), SEEK_SET) < 0) return fail_errno(wal, errno);
  DE_TRY(const auto bytes, base::read_up_to(from.get(), std::min<std::uint64_t>(tail.bytes, max_kept_aside)));
  KeptAside kept{.path = path + ".torn-" + compact_time(), .bytes = tail.bytes};
  forget_old_tails();
  if (auto written = base::write_file_atomic(kept.path, bytes, file_mode); !written) {
    // What it holds was never acknowledged; a full disk must not keep the ledger from being opened for it.
    observe::log(observe::Level::error, "ledger", "what a crash left could not be kept aside",
                 {{"path", kept.path}, {"error", written.error().message}});
    kept.path.clear();
  }
  return kept;
}

Result<FileIdentity> FileIdentity::of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return fail_errno(path, errno);
  FileIdentity identity;
  identity.path_ = path;
  identity.device_ = status.st_dev;
  identity.inode_ = status.st_ino;
  return identity;
}

bool FileIdentity::is_still_there() const {
  struct stat status{};
  return ::stat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

Result<std::uint64_t> count_segments(const std::string& path) {
  std::uint64_t count = 1;
  struct stat status{};
  while (::lstat(segment_path(path, count).c_str(), &status) == 0) ++count;
  if (errno != ENOENT) return fail_errno(segment_path(path, count), errno);
  return count;
}

}  // namespace daemoneye::ledger
