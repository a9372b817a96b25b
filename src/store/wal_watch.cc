#include "store/wal_watch.h"

#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "store/store_file.h"

namespace daemoneye::store {
namespace {

std::string name_of(pid_t pid) {
  if (pid <= 0) return "by a lock whose owner the kernel does not tell";
  auto name = base::read_file("/proc/" + std::to_string(pid) + "/comm", 64);
  if (!name) return "?";
  while (!name->empty() && name->back() == '\n') name->pop_back();
  return base::printable(*name);
}

}  // namespace

std::vector<SnapshotHolder> snapshot_holders(const std::vector<db::ShmLock>& locks) {
  std::vector<SnapshotHolder> holders;
  for (const auto& lock : locks) {
    for (unsigned slot = 0; slot < db::readers_shm_locks; ++slot) {
      if (!lock.is_write && lock.covers(db::first_shm_lock + db::writers_shm_locks + slot))
        holders.push_back({lock.pid, slot});
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
  if (const auto locks = db::shm_locks_of(database_.path() + "-shm")) {
    for (const auto& holder : snapshot_holders(*locks)) holders.insert(holder);
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
