// The live processes: an indexed table, updated in place in the transaction of the batch that tells of a change.
// Events come twice and out of order; what happens to one process within a transaction is folded before it is written,
// so that a process that lives for less than a batch costs the table nothing.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "db/statement_cache.h"
#include "event/batch.h"

namespace daemoneye::store {

class LiveTable {
 public:
  explicit LiveTable(db::StatementCache& statements) : statements_(statements) {}
  // `event` must live until flush(). Gap events are ignored.
  void stage(const event::ProcessEvent& event, std::int64_t epoch);
  // Writes what is staged. Call before the transaction's commit.
  Result<void> flush();
  // The counters of the living; those of earlier epochs of this source that the scan no longer saw are gone without
  // an exit event. Flushes first.
  Result<void> apply(const event::ScanSummary& scan, const std::string& source, std::int64_t epoch);
  // After a rollback: what was staged is forgotten.
  void discard() { staged_.clear(); }

 private:
  struct Staged {
    std::vector<const event::ProcessEvent*> events;
    std::int64_t epoch = 0;
  };
  Result<void> write(const event::ProcessKey& key, const Staged& staged);
  void remember_end(const event::ProcessKey& key);

  static constexpr std::size_t max_remembered_ends = 16384;
  db::StatementCache& statements_;
  std::unordered_map<event::ProcessKey, Staged> staged_;
  // Ended lately: a late exec or seen must not bring them back.
  std::unordered_set<event::ProcessKey> ended_;
  std::deque<event::ProcessKey> ended_order_;
};

}  // namespace daemoneye::store
