// Keeps the file within its bounds: whole blocks, and alerts, deliveries and scans, the oldest first, in small
// transactions. Writer's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/time.h"
#include "db/statement_cache.h"
#include "event/process_event.h"

namespace daemoneye::store {

class Retention {
 public:
  struct Limits {
    std::uint32_t days = 0;                                 // 0: no bound
    std::uint64_t max_bytes = 0;                            // 0: no bound; counts the WAL
    std::uint32_t delivery_days = 0, dead_letter_days = 0;  // 0: no bound of their own
  };
  Retention(db::StatementCache& statements, Limits limits) : statements_(statements), limits_(limits) {}
  void set_limits(Limits limits) { limits_ = limits; }

  // One small step; true when there may be more to do at once. A `now` that runs ahead of the time that has passed
  // since the last step, or at first ahead of the newest event, is not believed for a while: history would be gone
  // before a wrong clock is put right.
  Result<bool> step(Timestamp now);
  static constexpr std::chrono::hours clock_may_gain{24}, clock_believed_after{1};
  // The oldest event of the tail is older than allowed, or nothing but the tail is left to make room: it must be sealed
  // to go.
  Result<bool> wants_seal(Timestamp now);
  // Gives freed pages back to the file system, a few at a time; true when there are more than are worth keeping.
  Result<bool> vacuum_step();
  // A reader keeps the WAL from being reset: no history is given up for its sake, since that would only make it grow.
  void set_wal_pinned(bool pinned) { wal_pinned_ = pinned; }
  [[nodiscard]] bool wal_pinned() const { return wal_pinned_; }
  // Batches of the tail up to this number cannot be removed.
  void set_left_out(std::int64_t batch) { tail_from_ = batch; }
  [[nodiscard]] bool over_size() const { return over_size_; }  // at the last step, and nothing left that may go

  // Why events are gone before their time; they leave a row of `gaps` with this reason, so that answers say so.
  static constexpr std::string_view cut_by_size = "retention_size";
  static constexpr std::string_view purged = "purged";
  // The oldest block that ends before `cutoff` (none: any) and with `last_event` at most. `reason` as above; empty:
  // their time had come. A damaged one goes as well, and leaves its chunks in the file.
  Result<bool> remove_block(const std::optional<Timestamp>& cutoff, std::string_view reason,
                            event::EventId last_event = INT64_MAX);
  // Alerts, deliveries, gaps and scans of before `cutoff`, the oldest first, some of each; how many. Passes over a
  // table that is damaged.
  Result<std::uint64_t> remove_rows(Timestamp cutoff);

  struct Removed {
    std::uint64_t events = 0, batches = 0, blocks = 0;
    std::uint64_t rows = 0;            // of alerts, alert_deliveries, gaps, scans
    std::uint64_t events_by_size = 0;  // of `events`
  };
  [[nodiscard]] Removed removed() const { return removed_; }
  // Damage that was met, how often, and the last of it; empty: none.
  [[nodiscard]] std::uint64_t damages() const { return damages_; }
  [[nodiscard]] const std::string& damage() const { return damage_; }

 private:
  struct Size {
    std::uint64_t used = 0, free_pages = 0, page_size = 0, wal = 0;
  };
  struct OldBlock {
    std::int64_t id = 0, events = 0, batches = 0;
    std::optional<Timestamp> first, last;
  };
  Result<Timestamp> believed(Timestamp now);
  Result<std::optional<Timestamp>> newest();
  Result<Size> size();
  Result<bool> make_room();
  Result<void> erase(const OldBlock& block, std::string_view reason, bool with_chunks);
  Result<std::uint64_t> remove_old_deliveries(Timestamp now);
  Result<std::uint64_t> remove_from(std::span<const std::string_view> deletions, Timestamp cutoff);
  void note_damage(std::string what);
  Result<void> forget_until(Timestamp time);
  Result<std::uint64_t> remove_gaps(bool own, Timestamp cutoff);
  Result<void> remember_cut(std::string_view reason, Timestamp from, Timestamp to, std::int64_t events);

  db::StatementCache& statements_;
  Limits limits_;
  Removed removed_;
  std::uint64_t damages_ = 0;
  std::string damage_;
  std::int64_t tail_from_ = 0;
  Timestamp clock_;     // what was believed last without doubt, and when that was
  Timestamp believed_;  // at the last step
  std::optional<base::SteadyClock::time_point> clock_read_, clock_doubted_;
  bool wal_pinned_ = false, over_size_ = false, tail_only_ = false;
};

}  // namespace daemoneye::store
