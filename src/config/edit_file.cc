#include "config/edit_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "config/edit.h"
#include "config/files.h"
#include "config/yaml.h"

namespace daemoneye::config {
namespace {

constexpr const char* access_list = "system.posix_acl_access";

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
}

std::unexpected<Error> changed_meanwhile(const std::string& path) {
  return fail(Errc::cancelled, path + " was changed by somebody else since it was read; nothing was written");
}

int rename_with(const std::string& from, const std::string& to, unsigned flags) {
  // By number: older C libraries have no function for it.
  return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
}

bool not_supported(int error) { return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP; }

Result<void> make_folders(const std::string& folder, mode_t mode) {
  struct stat status{};
  if (::stat(folder.c_str(), &status) == 0) return {};
  if (const auto above = folder_of(folder); above != folder) DE_CHECK(make_folders(above, mode));
  if (::mkdir(folder.c_str(), mode) != 0 && errno != EEXIST) return fail_errno(folder, errno);
  return {};
}

Result<void> copy_access_list(const std::string& from, int to) {
  const auto size = ::getxattr(from.c_str(), access_list, nullptr, 0);
  if (size <= 0) return {};  // there is none, or the file system knows none
  std::string value(static_cast<std::size_t>(size), '\0');
  if (::getxattr(from.c_str(), access_list, value.data(), value.size()) != size ||
      ::fsetxattr(to, access_list, value.data(), value.size(), 0) != 0) {
    return fail_errno("its access list cannot be kept", errno);
  }
  return {};
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

// A file beside the one that is changed, gone at the end unless it was put in its place.
class Beside {
 public:
  static Result<Beside> make(const std::string& path) {
    const auto slash = path.rfind('/');
    std::string name = path;
    name.insert(slash == std::string::npos ? 0 : slash + 1, 1, '.');  // no layer: those do not begin with a dot
    name += ".XXXXXX";
    Beside beside;
    beside.fd_.reset(::mkostemp(name.data(), O_CLOEXEC));
    if (!beside.fd_) return fail_errno(folder_of(path), errno);
    beside.path_ = std::move(name);
    return beside;
  }
  ~Beside() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Beside(Beside&& other) noexcept : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)) {}
  Beside& operator=(Beside&&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  Beside() = default;
  std::string path_;
  UniqueFd fd_;
};

}  // namespace

Result<EditedFile> EditedFile::open(const std::string& path) {
  EditedFile file;
  file.path_ = path;
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) != nullptr) {
    file.path_ = resolved;
  } else if (errno != ENOENT) {
    return fail_errno(path, errno);
  } else {
    struct stat link{};
    if (::lstat(path.c_str(), &link) == 0) return fail(Errc::invalid_input, path + " is a link that leads nowhere");
    return file;
  }
  const UniqueFd fd(::open(file.path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) return fail_errno(path, errno);
  if (!S_ISREG(status.st_mode)) return fail(Errc::invalid_input, path + " is not a plain file");
  if (status.st_nlink > 1) {
    return fail(Errc::invalid_input,
                path + " has more than one name (hard links), which a change would part; edit it by hand");
  }
  DE_TRY(file.text_, base::read_up_to(fd.get(), max_file_bytes + 1));
  if (file.text_.size() > max_file_bytes) {
    return fail(Errc::invalid_input, path + ": larger than " + std::to_string(max_file_bytes) + " bytes");
  }
  file.status_ = status;
  return file;
}

Result<void> EditedFile::is_unchanged(const std::string& path) const {
  struct stat now{};
  if (::lstat(path.c_str(), &now) != 0 || !same_file(now, *status_)) return changed_meanwhile(path_);
  const auto text = base::read_file(path, max_file_bytes);
  if (!text || *text != text_) return changed_meanwhile(path_);
  return {};
}

// Both names change their files at once, and only then it is certain what was there: something else goes back.
Result<void> EditedFile::swap_in(const std::string& beside) const {
  if (!status_) {
    if (rename_with(beside, path_, RENAME_NOREPLACE) == 0) return {};
    if (errno == EEXIST) return changed_meanwhile(path_);
    if (!not_supported(errno)) return fail_errno(path_, errno);
    if (::link(beside.c_str(), path_.c_str()) == 0) return {};
    return errno == EEXIST ? Result<void>(changed_meanwhile(path_)) : fail_errno(path_, errno);
  }
  DE_CHECK(is_unchanged(path_));
  if (rename_with(beside, path_, RENAME_EXCHANGE) == 0) {
    const auto right = is_unchanged(beside);
    if (right || rename_with(beside, path_, RENAME_EXCHANGE) == 0) return right;
    return fail_errno(path_ + ": changed by somebody else, whose text is lost", errno);
  }
  if (errno == ENOENT) return changed_meanwhile(path_);
  if (!not_supported(errno)) return fail_errno(path_, errno);
  if (::rename(beside.c_str(), path_.c_str()) != 0) return fail_errno(path_, errno);
  return {};
}

Result<void> EditedFile::replace(std::string_view text, mode_t mode_if_new, mode_t folder_mode_if_new) {
  const auto folder = folder_of(path_);
  if (!status_) DE_CHECK(make_folders(folder, folder_mode_if_new));
  DE_TRY(const auto beside, Beside::make(path_));
  const auto failed = [&](const Error& error) { return fail(error.code, path_ + ": " + error.message); };
  if (auto written = base::write_all(beside.fd(), text); !written) return failed(written.error());
  if (status_) {
    struct stat own{};
    if (::fstat(beside.fd(), &own) != 0) return failed(fail_errno("fstat", errno).error());
    const bool other_owner = own.st_uid != status_->st_uid || own.st_gid != status_->st_gid;
    if (other_owner && ::fchown(beside.fd(), status_->st_uid, status_->st_gid) != 0) {
      return failed(fail_errno("its owner cannot be kept", errno).error());
    }
  }
  if (::fchmod(beside.fd(), status_ ? status_->st_mode & 07777 : mode_if_new) != 0) {
    return failed(fail_errno("fchmod", errno).error());
  }
  if (status_) {
    if (auto kept = copy_access_list(path_, beside.fd()); !kept) return failed(kept.error());
  }
  if (::fsync(beside.fd()) != 0) return failed(fail_errno("fsync", errno).error());
  DE_CHECK(swap_in(beside.path()));
  const UniqueFd folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder_fd || ::fsync(folder_fd.get()) != 0) return fail_errno(folder, errno);
  return {};
}

std::vector<LayerFile> layer_files(const Sources& sources) {
  const auto is_there = [](const std::string& path) {
    struct stat status{};
    return ::stat(path.c_str(), &status) == 0;
  };
  if (sources.config_file) return {{*sources.config_file, is_there(*sources.config_file), false}};
  std::vector<LayerFile> files = {{sources.etc + "/config.yaml", is_there(sources.etc + "/config.yaml"), false}};
  std::error_code error;  // a folder that is not there has no files
  for (const auto& entry : std::filesystem::directory_iterator(sources.etc + "/config.d", error)) {
    const auto name = entry.path().filename().string();
    if (name.ends_with(".yaml") && !name.starts_with('.')) files.push_back({entry.path().string(), true, false});
  }
  std::sort(files.begin() + 1, files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  if (const auto user = user_file_of(sources); !user.empty()) files.push_back({user, is_there(user), true});
  return files;
}

Result<LayerFile> layer_for(const Sources& sources, const std::string& key, const std::optional<std::string>& wanted) {
  const auto files = layer_files(sources);
  if (wanted) {
    std::string names;
    for (const auto& file : files) {
      if (file.path == *wanted) return file;
      names += (names.empty() ? "" : ", ") + file.path;
    }
    const bool in_folder = !sources.config_file && folder_of(*wanted) == sources.etc + "/config.d" &&
                           wanted->ends_with(".yaml") && !wanted->substr(wanted->rfind('/') + 1).starts_with('.');
    if (in_folder) return LayerFile{*wanted, false, false};
    return fail(Errc::invalid_input, *wanted + " is no file of this configuration; allowed: " + names +
                                         (sources.config_file ? "" : ", " + sources.etc + "/config.d/*.yaml"));
  }
  if (sources.config_file) return files.front();
  if (!sources.privileged) {
    if (!files.back().of_user)
      return fail(Errc::invalid_input, "there is no HOME, and so no file of your own; name one by --config");
    return files.back();
  }
  for (auto file = files.rbegin(); file != files.rend(); ++file) {
    const auto text = file->exists ? base::read_file(file->path, max_file_bytes) : fail(Errc::not_found, "");
    if (!text) continue;
    const auto tree = parse_yaml(*text);
    if (tree && find_node(*tree, key) != nullptr) return *file;
  }
  return files.front();
}

}  // namespace daemoneye::config
