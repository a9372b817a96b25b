#include "db/shm_locks.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "base/file.h"

namespace daemoneye::db {
namespace {

constexpr std::size_t max_locks_bytes = 4 * 1024 * 1024;

}  // namespace

std::vector<ShmLock> shm_locks(const std::string& locks, dev_t device, ino_t inode) {
  std::vector<ShmLock> held, of_another_device;
  std::size_t at = 0;
  while (at < locks.size()) {
    const auto end = std::min(locks.find('\n', at), locks.size());
    const std::string line = locks.substr(at, end - at);
    at = end + 1;
    // 7: POSIX  ADVISORY  READ  1234 fe:00:5678 124 124; one that waits has "->" behind its number.
    unsigned major_number = 0, minor_number = 0;
    unsigned long long file = 0, first = 0;
    int pid = 0;
    char kind[16] = {}, mode[16] = {}, last[32] = {};
    if (std::sscanf(line.c_str(), "%*d: %15s %*15s %15s %d %x:%x:%llu %llu %31s", kind, mode, &pid,  // NOLINT
                    &major_number, &minor_number, &file, &first, last) != 8) {
      continue;
    }
    // Locks of flock(2) and leases are no concern of these.
    if (file != inode || (std::string_view(kind) != "POSIX" && std::string_view(kind) != "OFDLCK")) continue;
    unsigned long long until = 0;
    if (std::string_view(last) == "EOF")
      until = ~0ULL;
    else if (std::sscanf(last, "%llu", &until) != 1)  // NOLINT
      continue;
    auto& list = makedev(major_number, minor_number) == device ? held : of_another_device;
    list.push_back({pid, std::string_view(mode) == "WRITE", first, until});
  }
  return held.empty() ? of_another_device : held;
}

std::optional<std::vector<ShmLock>> shm_locks_of(const std::string& shm_path) {
  struct stat status{};
  if (::stat(shm_path.c_str(), &status) != 0) return std::nullopt;
  const auto locks = base::read_file("/proc/locks", max_locks_bytes);
  if (!locks) return std::nullopt;
  return shm_locks(*locks, status.st_dev, status.st_ino);
}

}  // namespace daemoneye::db
