#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string_view>

#include "base/text.h"
#include "base/unique_fd.h"
#include "sandbox/sandbox.h"

namespace daemoneye::sandbox {
namespace {

constexpr mode_t parent_mode = 0755;
constexpr mode_t mode_bits = 07777;
constexpr mode_t others_write = S_IWGRP | S_IWOTH;

struct Wanted {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0;
  std::string owner;  // "user:group", for messages
};

// Whether only root can have put what stands in this folder.
Result<bool> only_root_writes(int folder) {
  struct stat info{};
  if (::fstat(folder, &info) != 0) return fail_errno("fstat", errno);
  return info.st_uid == 0 && (info.st_mode & others_write) == 0;
}

struct Opened {
  UniqueFd fd;
  bool created = false;
};

// Opens or creates one component. As root a symbolic link is followed only where nobody else could have planted it:
// otherwise whoever owns a folder on the way could have any folder of the system given away.
Result<Opened> step_into(int parent, const std::string& name, const std::string& path, bool last) {
  bool follow = !last;
  if (follow && ::geteuid() == 0) {
    DE_TRY(follow, only_root_writes(parent));
  }
  const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);
  Opened opened;
  opened.fd.reset(::openat(parent, name.c_str(), last ? flags : (flags | O_PATH)));
  if (!opened.fd && errno == ENOENT) {
    // EEXIST: somebody else was faster; what they made is judged like any folder found.
    opened.created = ::mkdirat(parent, name.c_str(), last ? S_IRWXU : parent_mode) == 0;
    if (!opened.created && errno != EEXIST) return fail_errno("creating folder " + path, errno);
    opened.fd.reset(::openat(parent, name.c_str(), flags | O_NOFOLLOW));
    if (!opened.fd) return fail_errno("opening folder " + path, errno);
    // mkdir's mode is cut by the umask.
    if (!last && opened.created && ::fchmod(opened.fd.get(), parent_mode) != 0) {
      return fail_errno("setting the mode of " + path, errno);
    }
    return opened;
  }
  if (!opened.fd) {
    struct stat info{};
    const int error = errno;
    if (::fstatat(parent, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode) && !follow) {
      return fail(Errc::permission_denied, path + " is a symbolic link; a folder is needed there");
    }
    return fail_errno("opening folder " + path, error);
  }
  return opened;
}

Result<bool> is_empty(int folder) {
  UniqueFd copy(::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!copy) return fail_errno("opening a folder again", errno);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(copy.get()), &::closedir);
  if (!entries) return fail_errno("fdopendir", errno);
  (void)copy.release();  // closedir owns it now
  for (const dirent* entry = ::readdir(entries.get()); entry != nullptr; entry = ::readdir(entries.get())) {
    const std::string_view name(entry->d_name);
    if (name != "." && name != "..") return false;
  }
  return true;
}

Result<void> correct_as_root(const Opened& folder, const struct stat& info, const std::string& path,
                             const Wanted& wanted) {
  if (info.st_uid != wanted.uid && !folder.created) {
    // A path mistyped as /var must not give /var away, and files of another owner would not open anyway.
    DE_TRY(const bool empty, is_empty(folder.fd.get()));
    if (!empty) {
      return fail(Errc::permission_denied, path + " is not empty and belongs to user id " +
                                               std::to_string(info.st_uid) + "; if it is meant, run: chown -R " +
                                               wanted.owner + " " + path);
    }
  }
  if ((info.st_uid != wanted.uid || info.st_gid != wanted.gid) &&
      ::fchown(folder.fd.get(), wanted.uid, wanted.gid) != 0) {
    return fail_errno("changing the owner of " + path + " to " + wanted.owner, errno);
  }
  // After fchown, which clears some mode bits.
  if (::fchmod(folder.fd.get(), wanted.mode) != 0) return fail_errno("setting the mode of " + path, errno);
  return {};
}

Result<void> correct_as_oneself(const Opened& folder, const struct stat& info, const std::string& path,
                                const Wanted& wanted) {
  if (info.st_uid == ::geteuid()) {
    // Another group of ours is possible, a foreign one is not: then the folder keeps the one it has.
    if (info.st_gid != wanted.gid && ::fchown(folder.fd.get(), static_cast<uid_t>(-1), wanted.gid) != 0 &&
        errno != EPERM) {
      return fail_errno("changing the group of " + path, errno);
    }
    if ((info.st_mode & mode_bits) != wanted.mode && ::fchmod(folder.fd.get(), wanted.mode) != 0) {
      return fail_errno("setting the mode of " + path, errno);
    }
  }
  if (::faccessat(folder.fd.get(), ".", W_OK | X_OK, AT_EACCESS) != 0) return fail_errno("using folder " + path, errno);
  return {};
}

}  // namespace

Result<void> prepare_folder(const std::string& path, const std::string& user, const std::string& group, mode_t mode) {
  if (!path.starts_with('/')) return fail(Errc::invalid_input, path + ": an absolute path is needed");
  std::vector<std::string> names;
  for (const auto part : base::split(path, '/')) {
    if (part == "..") return fail(Errc::invalid_input, path + ": '..' is not accepted in a folder's path");
    if (!part.empty() && part != ".") names.emplace_back(part);
  }
  if (names.empty()) return fail(Errc::invalid_input, path + " cannot be a folder of this program's own");
  Wanted wanted{.uid = ::geteuid(), .gid = ::getegid(), .mode = mode, .owner = user + ":" + group};
  if (!user.empty()) {
    DE_TRY(const auto found, find_user(user));
    wanted.uid = found.uid;
    wanted.gid = found.gid;
  }
  if (!group.empty()) {
    DE_TRY(wanted.gid, find_group(group));
  }

  Opened current;
  current.fd.reset(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!current.fd) return fail_errno("opening /", errno);
  std::string so_far;
  for (std::size_t i = 0; i < names.size(); ++i) {
    so_far += "/" + names[i];
    DE_TRY(current, step_into(current.fd.get(), names[i], so_far, i + 1 == names.size()));
  }
  struct stat info{};
  if (::fstat(current.fd.get(), &info) != 0) return fail_errno("fstat " + path, errno);
  if (info.st_uid == wanted.uid && info.st_gid == wanted.gid && (info.st_mode & mode_bits) == mode) return {};
  return ::geteuid() == 0 ? correct_as_root(current, info, path, wanted)
                          : correct_as_oneself(current, info, path, wanted);
}

}  // namespace daemoneye::sandbox
