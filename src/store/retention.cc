#include "store/retention.h"

#include <algorithm>

#include "observe/log.h"
#include "store/block_format.h"
#include "store/store_file.h"

namespace daemoneye::store {
namespace {

constexpr std::int64_t ns_per_day = 86'400'000'000'000;
constexpr int rows_per_step = 500;
constexpr std::uint64_t pages_per_step = 256;
constexpr std::uint64_t pages_kept = 1024;  // the next block takes them again

}  // namespace

Result<Retention::Size> Retention::size() {
  auto& database = statements_.database();
  const auto pragma = [&](std::string_view sql) -> Result<std::uint64_t> {
    DE_TRY(auto* statement, statements_.get(sql));
    const db::StatementReset reset(*statement);
    DE_CHECK(statement->step());
    return static_cast<std::uint64_t>(statement->integer(0));
  };
  Size size;
  DE_TRY(size.page_size, pragma("PRAGMA page_size"));
  DE_TRY(const std::uint64_t pages, pragma("PRAGMA page_count"));
  DE_TRY(size.free_pages, pragma("PRAGMA freelist_count"));
  size.wal = file_size(database.path() + "-wal");
  size.used = (pages - size.free_pages) * size.page_size + (wal_pinned_ ? 0 : size.wal);
  return size;
}

Result<bool> Retention::wants_seal(Timestamp now) {
  if (tail_only_) return true;
  if (limits_.days == 0) return false;
  DE_TRY(auto* select, statements_.get("SELECT min(last_time) FROM tail WHERE batch_no>?"));
  const db::StatementReset reset(*select);
  DE_CHECK(select->bind(1, tail_from_).step());
  return !select->is_null(0) && select->integer(0) < now.ns - std::int64_t{limits_.days} * ns_per_day;
}

// What the store last knew of the time, whatever the clock said since.
Result<std::optional<Timestamp>> Retention::newest() {
  DE_TRY(auto* select,
         statements_.get("SELECT max(time) FROM (SELECT max(last_time) AS time FROM blocks UNION ALL "
                         "SELECT max(last_time) FROM tail UNION ALL SELECT max(covered_until) FROM collectors)"));
  const db::StatementReset reset(*select);
  DE_CHECK(select->step());
  if (select->is_null(0)) return std::nullopt;
  return Timestamp{select->integer(0)};
}

Result<Timestamp> Retention::believed(Timestamp now) {
  const auto steady = base::SteadyClock::now();
  if (!clock_read_) {
    // The clock of the start is held against what is stored: it may be wrong until it is set from the network.
    DE_TRY(const auto known, newest());
    if (known) {
      clock_ = *known;
      clock_read_ = steady;
    }
  }
  if (clock_read_) {
    const Timestamp expected{clock_.ns + std::chrono::nanoseconds(steady - *clock_read_).count()};
    if (now.ns - expected.ns > std::chrono::nanoseconds(clock_may_gain).count()) {
      if (!clock_doubted_) {
        clock_doubted_ = steady;
        observe::log(observe::Level::warn, "store", "the clock has jumped; nothing is removed by its age for an hour",
                     {{"from", base::to_iso(expected)}, {"to", base::to_iso(now)}});
      }
      if (steady - *clock_doubted_ < clock_believed_after) return believed_ = expected;
    }
  }
  clock_ = now;
  clock_read_ = steady;
  clock_doubted_.reset();
  return believed_ = now;
}

Result<bool> Retention::step(Timestamp wall) {
  tail_only_ = false;
  DE_TRY(const Timestamp now, believed(wall));
  if (limits_.days != 0) {
    const Timestamp cutoff{now.ns - std::int64_t{limits_.days} * ns_per_day};
    DE_TRY(const bool block, remove_block(cutoff, {}));
    if (block) return true;
    DE_TRY(const auto rows, remove_rows(cutoff));
    if (rows > 0) return true;
  }
  DE_TRY(const auto deliveries, remove_old_deliveries(now));
  if (deliveries > 0) return true;
  over_size_ = false;
  if (limits_.max_bytes == 0) return false;
  DE_TRY(auto now_used, size());
  if (now_used.used > limits_.max_bytes && now_used.wal > 0 && !wal_pinned_) {
    // What is in the WAL may be in the file twice. Nobody is waited for.
    statements_.database().checkpoint(db::Database::Checkpoint::truncate);
    if (!statements_.database().checkpoint_error().empty()) return false;
    DE_TRY(now_used, size());
  }
  if (now_used.used <= limits_.max_bytes) return false;
  return make_room();
}

// Whatever is oldest, of whichever table: rows from before the oldest event first. The gaps among the events that stay
// are what answers over them are judged by.
Result<bool> Retention::make_room() {
  std::optional<Timestamp> oldest_event;
  bool block = false, tail = false;
  {
    DE_TRY(auto* select,
           statements_.get("SELECT EXISTS (SELECT 1 FROM blocks), EXISTS (SELECT 1 FROM tail WHERE batch_no>?1), "
                           "(SELECT coalesce(first_time, 0) FROM blocks ORDER BY block_id LIMIT 1), "
                           "(SELECT min(first_time) FROM tail WHERE batch_no>?1)"));
    const db::StatementReset reset(*select);
    DE_CHECK(select->bind(1, tail_from_).step());
    block = select->integer(0) != 0;
    tail = select->integer(1) != 0;
    const int of_whom = block ? 2 : 3;
    if (!select->is_null(of_whom)) oldest_event = Timestamp{select->integer(of_whom)};
  }
  DE_TRY(const auto rows, remove_rows(oldest_event.value_or(Timestamp{INT64_MAX})));
  if (rows > 0) return true;
  if (block) return remove_block(std::nullopt, cut_by_size);
  tail_only_ = tail;  // it is sealed before the next step
  over_size_ = !tail;
  return tail;
}

Result<bool> Retention::remove_block(const std::optional<Timestamp>& cutoff, std::string_view reason,
                                     event::EventId last_event) {
  OldBlock block;
  {
    // Blocks lie in the order of commit: by age an old one behind a younger one waits for its turn. But one from the
    // future (a clock was wrong) would let all the others wait for as long.
    DE_TRY(auto* select,
           statements_.get("SELECT block_id, events, batches, first_time, last_time FROM blocks WHERE "
                           "(?1 IS NULL OR coalesce(last_time, 0)<?1) AND last_event<=?2 ORDER BY block_id LIMIT 1"));
    const db::StatementReset reset(*select);
    auto before = cutoff;
    if (cutoff && reason.empty()) before = Timestamp{clock_.ns + std::chrono::nanoseconds(clock_may_gain).count()};
    if (before) select->bind(1, before->ns);
    DE_TRY(const bool row, select->bind(2, last_event).step());
    if (!row) return false;
    block.id = select->integer(0);
    block.events = select->integer(1);
    block.batches = select->integer(2);
    if (!select->is_null(3)) block.first = Timestamp{select->integer(3)};
    if (!select->is_null(4)) block.last = Timestamp{select->integer(4)};
    if (cutoff && block.last && !(*block.last < *cutoff)) return false;
  }
  auto removed = erase(block, reason, true);
  if (!removed && removed.error().code == Errc::corrupt) {
    // Its events go all the same, or nothing would ever go again: only the space of its chunks stays taken.
    note_damage("block " + std::to_string(block.id) + " is removed, but not its chunks: " + removed.error().message);
    removed = erase(block, reason, false);
  }
  DE_CHECK(removed);
  removed_.events += static_cast<std::uint64_t>(block.events);
  removed_.batches += static_cast<std::uint64_t>(block.batches);
  removed_.blocks += 1;
  if (reason == cut_by_size) removed_.events_by_size += static_cast<std::uint64_t>(block.events);
  return true;
}

Result<void> Retention::erase(const OldBlock& block, std::string_view reason, bool with_chunks) {
  DE_TRY(auto transaction, db::Transaction::begin(statements_.database()));
  if (with_chunks) {
    DE_TRY(auto* chunks, statements_.get("DELETE FROM chunks WHERE chunk_id>=? AND chunk_id<?"));
    DE_CHECK(chunks->bind(1, chunk_id(block.id, 0)).bind(2, chunk_id(block.id + 1, 0)).run());
  }
  DE_TRY(auto* row, statements_.get("DELETE FROM blocks WHERE block_id=?"));
  DE_CHECK(row->bind(1, block.id).run());
  if (!reason.empty() && block.first && block.last) {
    DE_CHECK(remember_cut(reason, *block.first, *block.last, block.events));
  } else if (block.last) {
    DE_CHECK(forget_until(*block.last));
  }
  return transaction.commit();
}

void Retention::note_damage(std::string what) {
  ++damages_;
  if (what == damage_) return;  // told already
  damage_ = std::move(what);
  observe::log(observe::Level::error, "store", "removing what is old met damage",
               {{"reason", std::string_view(damage_)}});
}

// The record begins after it. Within the transaction that removes what was known.
Result<void> Retention::forget_until(Timestamp time) {
  DE_TRY(auto* insert, statements_.get("INSERT INTO meta(key, value) VALUES('forgotten_until', ?1) ON CONFLICT(key) DO "
                                       "UPDATE SET value=max(value, excluded.value)"));
  return insert->bind(1, time.ns).run();
}

// One row a reason, which grows: what was cut is a stretch without holes.
Result<void> Retention::remember_cut(std::string_view reason, Timestamp from, Timestamp to, std::int64_t events) {
  DE_TRY(auto* update, statements_.get("UPDATE gaps SET from_time=min(from_time, ?2), to_time=max(to_time, ?3), "
                                       "count=count+?4 WHERE reason=?1 AND source='store'"));
  DE_CHECK(update->bind_text(1, reason).bind(2, from.ns).bind(3, to.ns).bind(4, events).run());
  if (statements_.database().changes() > 0) return {};
  DE_TRY(auto* insert, statements_.get("INSERT INTO gaps(from_time, to_time, reason, count, source) "
                                       "VALUES(?2, ?3, ?1, ?4, 'store')"));
  return insert->bind_text(1, reason).bind(2, from.ns).bind(3, to.ns).bind(4, events).run();
}

Result<std::uint64_t> Retention::remove_rows(Timestamp cutoff) {
  // An alert that still waits for delivery or is a dead letter stays, and so do its attempts. What must go together
  // stands together.
  static constexpr std::string_view deletions[][2] = {
      {"DELETE FROM alert_state WHERE alert_id IN (SELECT alert_id FROM alerts WHERE last_seen<?1 AND alert_id NOT IN "
       "(SELECT alert_id FROM outbox UNION ALL SELECT alert_id FROM dead_letters) ORDER BY time LIMIT ?2)",
       "DELETE FROM alerts WHERE alert_id IN (SELECT alert_id FROM alerts WHERE last_seen<?1 AND alert_id NOT IN "
       "(SELECT alert_id FROM outbox UNION ALL SELECT alert_id FROM dead_letters) ORDER BY time LIMIT ?2)"},
      {"DELETE FROM alert_changes WHERE change_id IN (SELECT change_id FROM alert_changes WHERE time<?1 AND "
       "alert_id NOT IN (SELECT alert_id FROM alerts) ORDER BY change_id LIMIT ?2)",
       {}},
      {"DELETE FROM alert_deliveries WHERE delivery_id IN (SELECT delivery_id FROM alert_deliveries WHERE time<?1 AND "
       "alert_id NOT IN (SELECT alert_id FROM alerts) ORDER BY delivery_id LIMIT ?2)",
       {}},
      {"DELETE FROM scans WHERE rowid IN (SELECT rowid FROM scans WHERE time<?1 ORDER BY time LIMIT ?2)", {}},
  };
  std::uint64_t rows = 0;
  // A damaged table keeps what it has; it keeps no other table from shrinking.
  const auto add = [&](const Result<std::uint64_t>& removed) -> Result<void> {
    if (removed)
      rows += *removed;
    else if (removed.error().code == Errc::corrupt)
      note_damage("old rows stay: " + removed.error().message);
    else
      return std::unexpected(removed.error());
    return {};
  };
  for (const auto& table : deletions) DE_CHECK(add(remove_from(table, cutoff)));
  DE_CHECK(add(remove_gaps(false, cutoff)));
  // Our own notes of what is missing go when retention by age has passed them.
  if (limits_.days != 0) {
    DE_CHECK(add(remove_gaps(true, Timestamp{believed_.ns - std::int64_t{limits_.days} * ns_per_day})));
  }
  removed_.rows += rows;
  return rows;
}

// Of a time without its gaps nothing can be said any more.
Result<std::uint64_t> Retention::remove_gaps(bool own, Timestamp cutoff) {
  std::int64_t last = 0;
  {
    DE_TRY(auto* select, statements_.get("SELECT max(to_time) FROM (SELECT to_time FROM gaps WHERE to_time<?1 AND "
                                         "(source='store')=?3 ORDER BY gap_id LIMIT ?2)"));
    const db::StatementReset reset(*select);
    DE_CHECK(select->bind(1, cutoff.ns).bind(2, std::int64_t{rows_per_step}).bind(3, std::int64_t{own}).step());
    if (select->is_null(0)) return 0;
    last = select->integer(0);
  }
  DE_TRY(auto transaction, db::Transaction::begin(statements_.database()));
  DE_TRY(auto* remove, statements_.get("DELETE FROM gaps WHERE gap_id IN (SELECT gap_id FROM gaps WHERE to_time<?1 AND "
                                       "(source='store')=?3 ORDER BY gap_id LIMIT ?2)"));
  DE_CHECK(remove->bind(1, cutoff.ns).bind(2, std::int64_t{rows_per_step}).bind(3, std::int64_t{own}).run());
  const auto removed = static_cast<std::uint64_t>(statements_.database().changes());
  DE_CHECK(forget_until(Timestamp{last}));
  DE_CHECK(transaction.commit());
  return removed;
}

// The trail of deliveries and the dead letters have an age of their own. Looks at no more than it may remove: both lie
// in the order of time.
Result<std::uint64_t> Retention::remove_old_deliveries(Timestamp now) {
  static constexpr std::string_view deliveries[] = {
      "DELETE FROM alert_deliveries WHERE delivery_id IN (SELECT delivery_id FROM alert_deliveries ORDER BY "
      "delivery_id "
      "LIMIT ?2) AND time<?1"};
  static constexpr std::string_view dead_letters[] = {
      "DELETE FROM dead_letters WHERE dead_letter_id IN (SELECT dead_letter_id FROM dead_letters ORDER BY "
      "dead_letter_id LIMIT ?2) AND time<?1"};
  std::uint64_t rows = 0;
  const auto remove = [&](std::span<const std::string_view> sql, std::uint32_t days) -> Result<void> {
    if (days == 0) return {};
    const auto removed = remove_from(sql, Timestamp{now.ns - std::int64_t{days} * ns_per_day});
    if (removed)
      rows += *removed;
    else if (removed.error().code == Errc::corrupt)
      note_damage("old deliveries stay: " + removed.error().message);
    else
      return std::unexpected(removed.error());
    return {};
  };
  DE_CHECK(remove(deliveries, limits_.delivery_days));
  DE_CHECK(remove(dead_letters, limits_.dead_letter_days));
  removed_.rows += rows;
  return rows;
}

Result<std::uint64_t> Retention::remove_from(std::span<const std::string_view> deletions, Timestamp cutoff) {
  DE_TRY(auto transaction, db::Transaction::begin(statements_.database()));
  std::uint64_t rows = 0;
  for (const auto sql : deletions) {
    if (sql.empty()) continue;
    DE_TRY(auto* statement, statements_.get(sql));
    DE_CHECK(statement->bind(1, cutoff.ns).bind(2, std::int64_t{rows_per_step}).run());
    rows += static_cast<std::uint64_t>(statements_.database().changes());
  }
  DE_CHECK(transaction.commit());
  return rows;
}

Result<bool> Retention::vacuum_step() {
  if (wal_pinned_) return false;  // each step would make the WAL longer, and the file no shorter
  DE_TRY(const auto before, size());
  if (before.free_pages <= pages_kept) return false;
  DE_CHECK(statements_.database().execute("PRAGMA incremental_vacuum(" + std::to_string(pages_per_step) + ")"));
  return before.free_pages > pages_kept + pages_per_step;
}

}  // namespace daemoneye::store
