// Who keeps the WAL from being reset. A reader that holds its snapshot (stopped, or stuck) makes every later commit be
// appended: the WAL grows without end, and nobody but the reader can change that. So it is named. Writer's thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "db/database.h"
#include "db/shm_locks.h"

namespace daemoneye::store {

// A process in a read transaction, and which of the WAL-index's five reader slots it holds.
struct SnapshotHolder {
  pid_t pid = 0;
  unsigned slot = 0;
  auto operator<=>(const SnapshotHolder&) const = default;
};
std::vector<SnapshotHolder> snapshot_holders(const std::vector<db::ShmLock>& locks);

class WalWatch {
 public:
  explicit WalWatch(db::Database& database) : database_(database) {}

  // A WAL of this size is normal: SQLite's automatic checkpoint comes at 4 MiB, and the file is kept at 6 MiB.
  static constexpr std::uint64_t normal_bytes = 12 * 1024 * 1024;
  static constexpr auto look_every = std::chrono::seconds(1);
  // A snapshot held for less is an ordinary statement.
  static constexpr auto stuck_after = std::chrono::seconds(3);

  // Cheap when the WAL is of normal size; otherwise tries to move it into the file.
  void look();
  struct State {
    std::uint64_t wal_bytes = 0;
    std::optional<base::SteadyClock::time_point> pinned_since;  // when for longer than stuck_after
    std::vector<std::pair<pid_t, std::string>> holders;         // pid and name of those who held it all the time
  };
  [[nodiscard]] const State& state() const { return state_; }

 private:
  db::Database& database_;
  std::optional<base::SteadyClock::time_point> since_;
  std::set<SnapshotHolder> candidates_;
  State state_;
};

}  // namespace daemoneye::store
