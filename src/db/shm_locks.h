// Who holds locks on the shared memory of a write-ahead log (`-shm`), from the kernel's list of locks, so that nothing
// is opened: closing a file of SQLite's would drop this process' own locks. Processes of other pid namespaces are not
// among them.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace daemoneye::db {

// SQLite's wal-index format: to write, to copy back, to rebuild the index; then the readers' five slots.
inline constexpr unsigned first_shm_lock = 120;
inline constexpr unsigned writers_shm_locks = 3, readers_shm_locks = 5;

struct ShmLock {
  pid_t pid = 0;  // -1: of an open file description, which the kernel does not tell the owner of
  bool is_write = false;
  unsigned long long first = 0, last = 0;  // bytes of the file, both included
  [[nodiscard]] bool covers(unsigned long long byte) const { return first <= byte && byte <= last; }
};

// `locks`: the text of /proc/locks. Those that wait are not among them. Some file systems (btrfs) show another device
// there than stat(2) does: where no lock is of this device, those of the inode's number count.
std::vector<ShmLock> shm_locks(const std::string& locks, dev_t device, ino_t inode);
// Of this file now; nothing when the list cannot be read.
std::optional<std::vector<ShmLock>> shm_locks_of(const std::string& shm_path);

}  // namespace daemoneye::db
