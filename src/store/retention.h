// Keeps the file within its bounds: whole blocks go, the oldest first, in small transactions. Writer's thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"
#include "db/statement_cache.h"

namespace daemoneye::store {

class Retention {
 public:
  struct Limits {
    std::uint32_t days = 0;       // 0: no bound
    std::uint64_t max_bytes = 0;  // 0: no bound; counts the WAL
  };
  Retention(db::StatementCache& statements, Limits limits) : statements_(statements), limits_(limits) {}

  // One small step; true when there may be more to do at once.
  Result<bool> step(Timestamp now);
  // The oldest event of the tail is older than allowed: it must be sealed to go.
  Result<bool> wants_seal(Timestamp now);
  // Gives freed pages back to the file system, a few at a time; true when there are more than are worth keeping.
  Result<bool> vacuum_step();
  struct Removed {
    std::uint64_t events = 0, batches = 0, blocks = 0;
  };
  [[nodiscard]] Removed removed() const { return removed_; }

 private:
  struct Size {
    std::uint64_t used = 0, free_pages = 0, page_size = 0;
  };
  Result<Size> size();
  Result<bool> remove_oldest_block(const Timestamp* cutoff);
  Result<bool> remove_old_rows(Timestamp cutoff);

  db::StatementCache& statements_;
  Limits limits_;
  Removed removed_;
};

}  // namespace daemoneye::store
