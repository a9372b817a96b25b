#include "store/wal_watch.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/file.h"
#include "base/text.h"
#include "store/store_file.h"

namespace daemoneye::store {
namespace {

// Bytes of the -shm file that SQLite locks (its wal-index format): the readers' slots follow the three other locks.
constexpr unsigned long long first_slot_byte = 120 + 3;
constexpr unsigned slots = 5;
constexpr std::size_t max_locks_bytes = 4 * 1024 * 1024;

std::string name_of(pid_t pid) {
  auto name = base::read_file("/proc/" + std::to_string(pid) + "/comm", 64);
  if (!name) return "?";
  while (!name->empty() && name->back() == '\n') name->pop_back();
  return base::printable(*name);
}

}  // namespace

std::vector<SnapshotHolder> snapshot_holders(const std::string& locks, dev_t device, ino_t inode) {
  std::vector<SnapshotHolder> holders;
  std::size_t at = 0;
  while (at < locks.size()) {
    const auto end = std::min(locks.find('\n', at), locks.size());
    const std::string line = locks.substr(at, end - at);
    at = end + 1;
    // 7: POSIX  ADVISORY  READ  1234 fe:00:5678 124 124; one that waits has "->" behind its number.
    unsigned major_number = 0, minor_number = 0;
    unsigned long long file = 0, first = 0, last = 0;
    int pid = 0;
    char mode[16] = {};
    if (std::sscanf(line.c_str(), "%*d: POSIX %*15s %15s %d %x:%x:%llu %llu %llu", mode, &pid, &major_number,  // NOLINT
                    &minor_number, &file, &first, &last) != 7) {
      continue;
    }
    if (std::string_view(mode) != "READ" || file != inode || makedev(major_number, minor_number) != device) continue;
    for (unsigned slot = 0; slot < slots; ++slot) {
      if (first <= first_slot_byte + slot && first_slot_byte + slot <= last) holders.push_back({pid, slot});
    }
  }
  return holders;
}

void WalWatch::look() {
  state_.wal_bytes = file_size(database_.path() + "-wal");
  bool pinned = false;
  if (state_.wal_bytes > normal_bytes) {
    const auto checkpoint = database_.checkpoint(db::Database::Checkpoint::passive);
    pinned = checkpoint.done && checkpoint.moved < checkpoint.frames;
  }
  if (!pinned) {
    since_.reset();
    state_.pinned_since.reset();
    state_.holders.clear();
    return;
  }
  const auto now = base::SteadyClock::now();
  std::set<SnapshotHolder> holders;
  struct stat status{};
  if (::stat((database_.path() + "-shm").c_str(), &status) == 0) {
    if (const auto locks = base::read_file("/proc/locks", max_locks_bytes)) {
      for (const auto& holder : snapshot_holders(*locks, status.st_dev, status.st_ino)) holders.insert(holder);
    }
  }
  if (!since_) {
    since_ = now;
    candidates_ = std::move(holders);
  } else {
    std::erase_if(candidates_, [&](const auto& candidate) { return !holders.contains(candidate); });
  }
  if (now - *since_ < stuck_after) return;
  state_.pinned_since = since_;
  state_.holders.clear();
  std::set<pid_t> pids;
  for (const auto& holder : candidates_) pids.insert(holder.pid);
  // Our own short statements may have been met each time; they are not to blame while somebody else is there.
  if (pids.size() > 1) pids.erase(::getpid());
  for (const pid_t pid : pids) state_.holders.emplace_back(pid, name_of(pid));
}

}  // namespace daemoneye::store
