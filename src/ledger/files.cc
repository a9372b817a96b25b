#include "ledger/files.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "observe/log.h"

namespace daemoneye::ledger {
namespace {

constexpr mode_t folder_mode = 0750, file_mode = 0640;

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

Result<UniqueFd> claim_file(int folder, const std::string& name, const std::string& path, std::optional<gid_t> group,
                            mode_t mode) {
  UniqueFd fd(::openat(folder, name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode));
  if (!fd) return open_error(path, errno);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(path, errno);
  if (!S_ISREG(status.st_mode)) return fail(Errc::permission_denied, path + ": not a regular file");
  DE_CHECK(check_ours(fd.get(), path));
  give_to_group(fd.get(), path, group);
  if (::fchmod(fd.get(), mode) != 0) return fail_errno(path, errno);
  return fd;
}

}  // namespace

Result<UniqueFd> claim_files(const Ledger::Options& options) {
  const std::filesystem::path path = std::filesystem::path(options.path).lexically_normal();
  const std::string name = path.filename().string();
  if (name.empty()) return fail(Errc::invalid_input, "ledger: '" + options.path + "' names no file");
  DE_TRY(const auto group, find_group(options.reader_group));
  const auto folder_path = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  DE_TRY(const auto folder, claim_folder(folder_path, group));
  // A reader who could open the lock file could hold it against us.
  DE_TRY(auto lock, claim_file(folder.get(), name + ".lock", options.path + ".lock", group, S_IRUSR | S_IWUSR));
  // Before the file itself is touched: closing a descriptor of it would drop the locks of a SQLite in this process.
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(Errc::unavailable, options.path + ": another process writes this ledger");
    return fail_errno(options.path + ".lock", errno);
  }
  DE_CHECK(claim_file(folder.get(), name, options.path, group, file_mode));
  return lock;
}

}  // namespace daemoneye::ledger
