// Finds and opens what a process runs, and reads it in slices. Inside the hashing helper only: it may block on a file
// system that does not answer.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/hash.h"
#include "base/unique_fd.h"
#include "sensor/hasher.h"

namespace daemoneye::sensor {

struct OpenedFile {
  UniqueFd fd;  // none: `error` says why
  std::optional<event::ExecutableState> state;
  FileIdentity seen;     // as it was when it was opened
  FileIdentity key;      // what a hash of it may be kept under; inode 0: it counts for this process alone
  bool at_path = false;  // opened by its path, the process being gone: counts only while nothing of it changes
  std::optional<std::string> path;
  std::string error;
  bool hopeless = false;  // another time it would end so again
};

// Opens at once, before the process can end: /proc/PID/exe of exactly this process and image; or, when it is gone,
// the file at the path where the kernel found it, if that is still the very same (nothing of the identity changed).
class FileOpener {
 public:
  static Result<FileOpener> create();
  [[nodiscard]] OpenedFile open(const HashRequest& request) const;

 private:
  explicit FileOpener(UniqueFd proc, std::uint64_t mount_namespace)
      : proc_(std::move(proc)), mount_namespace_(mount_namespace) {}
  [[nodiscard]] OpenedFile open_running(const HashRequest& request) const;
  [[nodiscard]] OpenedFile open_at_path(const HashRequest& request, OpenedFile opened) const;
  [[nodiscard]] OpenedFile open_for_operator(const std::string& path) const;
  // Reopened through the handle that was looked at: nobody can put another file in between.
  [[nodiscard]] UniqueFd open_to_read(int looked_at) const;
  // A handle that only names the file; `path` as the kernel wrote it, from `root` or AT_FDCWD.
  [[nodiscard]] UniqueFd look_at_exact(int root, const std::string& path) const;
  // What stands where the path leads now, in the process' own view; nothing when nothing does.
  [[nodiscard]] std::optional<struct stat> at_path(int folder, const std::string& path) const;
  [[nodiscard]] bool is_same_file(const FileIdentity& kernels, int fd, const struct stat& file) const;
  void judge(int folder, const struct stat& file, OpenedFile& opened) const;
  [[nodiscard]] std::string link_of(int fd) const;

  UniqueFd proc_;
  std::uint64_t mount_namespace_;  // ours; 0: unknown
};

FileIdentity identity_of(const struct stat& file);

// One file's digest, a slice at a time. A file that changes meanwhile is read again once.
class FileHash {
 public:
  static constexpr std::size_t slice_bytes = 1024 * 1024;

  explicit FileHash(UniqueFd fd);
  // Size as first seen; an error is told by the first advance().
  [[nodiscard]] std::uint64_t size() const { return before_.size; }
  [[nodiscard]] std::uint64_t left() const { return before_.size > offset_ ? before_.size - offset_ : 0; }
  // Reads up to a slice through `buffer`; the digest when that was the last. The error says why there will be none.
  Result<std::optional<base::Sha256Digest>> advance(std::string& buffer);
  [[nodiscard]] std::uint64_t bytes_read() const { return bytes_read_; }
  // As it was all the while it was read; valid with a digest.
  [[nodiscard]] const FileIdentity& identity() const { return before_; }

 private:
  Result<void> begin_again();

  UniqueFd fd_;
  FileIdentity before_;
  base::Sha256 sha_;
  std::uint64_t offset_ = 0, bytes_read_ = 0;
  int attempts_ = 0;
  int error_ = 0;
};

}  // namespace daemoneye::sensor
