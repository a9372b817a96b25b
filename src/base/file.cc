#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace daemoneye::base {

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return fail_errno("write", errno);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::string> read_up_to(int fd, std::size_t size) {
  std::string bytes;
  constexpr std::size_t piece = 64 * 1024;
  while (bytes.size() < size) {
    const std::size_t wanted = std::min(piece, size - bytes.size());
    const std::size_t old_size = bytes.size();
    bytes.resize(old_size + wanted);
    const auto got = ::read(fd, bytes.data() + old_size, wanted);
    if (got < 0 && errno == EINTR) {
      bytes.resize(old_size);
      continue;
    }
    if (got < 0) return fail_errno("read", errno);
    bytes.resize(old_size + static_cast<std::size_t>(got));
    if (got == 0) break;
  }
  return bytes;
}

Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail_errno(path, errno);
  // One more than allowed tells a file of just that size from a larger one.
  auto bytes = read_up_to(fd.get(), max_bytes == SIZE_MAX ? max_bytes : max_bytes + 1);
  if (!bytes) return fail(bytes.error().code, path + ": " + bytes.error().message);
  if (bytes->size() > max_bytes) {
    return fail(Errc::limit_exceeded, path + ": larger than " + std::to_string(max_bytes) + " bytes");
  }
  return bytes;
}

Result<void> write_file_atomic(const std::string& path, std::string_view bytes, unsigned mode) {
  const auto slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
  const std::string beside = path + ".new";
  UniqueFd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return fail_errno(beside, errno);
  const auto give_up = [&](Error error) {
    ::unlink(beside.c_str());
    return fail(error.code, beside + ": " + error.message);
  };
  // A leftover of a crash may have been made with another mode.
  if (::fchmod(fd.get(), mode) != 0) return give_up(fail_errno("fchmod", errno).error());
  if (auto written = write_all(fd.get(), bytes); !written) return give_up(written.error());
  if (::fsync(fd.get()) != 0) return give_up(fail_errno("fsync", errno).error());
  fd.reset();
  if (::rename(beside.c_str(), path.c_str()) != 0) return give_up(fail_errno("rename", errno).error());
  const UniqueFd folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder_fd || ::fsync(folder_fd.get()) != 0) return fail_errno(folder, errno);
  return {};
}

}  // namespace daemoneye::base
