// The live processes: an indexed table, updated in place in the transaction of the batch that tells of a change.
// Events come twice, and those of several epochs out of order; what happens to one process within a transaction is
// folded before it is written, so that a process that lives for less than a batch costs the table nothing. Which
// processes it holds is kept in memory: an exit of one that never got there needs no statement.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "db/statement_cache.h"
#include "event/event_view.h"
#include "store/entry_table.h"

namespace daemoneye::store {

class LiveTable {
 public:
  explicit LiveTable(db::StatementCache& statements) : statements_(statements) {}
  // Reads which processes the table holds. Before anything else, and again after a rollback.
  Result<void> load();
  // The event's bytes must live until flush(). Gap events are ignored.
  void stage(const event::EventView& event, std::int64_t epoch);
  // Writes what is staged. Call before the transaction's commit.
  Result<void> flush();
  // The counters of the living; those of earlier epochs of this source that the scan no longer saw are gone without
  // an exit event. Flushes first.
  Result<void> apply(const event::ScanSummary& scan, const std::string& source, std::int64_t epoch);
  // After a rollback: what was staged is forgotten.
  void discard() { staged_.clear(); }

 private:
  struct Staged {
    event::ProcessKey key;
    std::size_t order;  // of arrival
    event::EventKind kind;
    std::int64_t epoch;
    std::string_view bytes;  // the event, as decode_event() takes it
  };
  using Events = std::span<const Staged>;  // of one process, in order of arrival
  Result<void> write(Events events);
  Result<void> insert(const event::ProcessKey& key, std::int64_t epoch, const event::EventView& event);
  Result<void> fold(Events events);
  struct Row {
    event::ProcessEvent event;
    std::int64_t epoch = 0;  // that told of it last
  };
  Result<std::optional<Row>> read(const event::ProcessKey& key);
  void remember_end(const event::ProcessKey& key);
  [[nodiscard]] bool has_ended(const event::ProcessKey& key) const {
    return ended_.contains(key) || ended_before_.contains(key);
  }

  // Grows only: a process is remembered without an allocation of its own.
  class KeySet {
   public:
    [[nodiscard]] bool contains(const event::ProcessKey& key) const {
      return table_.contains(hash(key), [&](std::uint32_t at) { return keys_[at] == key; });
    }
    void insert(const event::ProcessKey& key) {
      const auto next = static_cast<std::uint32_t>(keys_.size());
      if (table_.find_or_add(hash(key), next, [&](std::uint32_t at) { return keys_[at] == key; }) == next) {
        keys_.push_back(key);
      }
    }
    [[nodiscard]] std::size_t size() const { return keys_.size(); }

   private:
    static std::uint64_t hash(const event::ProcessKey& key) { return std::hash<event::ProcessKey>()(key); }
    EntryTable table_;
    std::vector<event::ProcessKey> keys_;
  };

  static constexpr std::size_t max_remembered_ends = 8192;
  db::StatementCache& statements_;
  std::vector<Staged> staged_;
  std::unordered_set<event::ProcessKey> rows_;  // whom the table holds
  // Ended lately: a late exec or seen must not bring them back. Two generations, of which the older is dropped whole.
  KeySet ended_, ended_before_;
};

}  // namespace daemoneye::store
