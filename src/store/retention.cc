#include "store/retention.h"

#include <algorithm>

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
  size.used = (pages - size.free_pages) * size.page_size + file_size(database.path() + "-wal");
  return size;
}

Result<bool> Retention::wants_seal(Timestamp now) {
  if (limits_.days == 0) return false;
  DE_TRY(auto* select, statements_.get("SELECT min(last_time) FROM tail"));
  const db::StatementReset reset(*select);
  DE_CHECK(select->step());
  return !select->is_null(0) && select->integer(0) < now.ns - std::int64_t{limits_.days} * ns_per_day;
}

Result<bool> Retention::step(Timestamp now) {
  if (limits_.days != 0) {
    const Timestamp cutoff{now.ns - std::int64_t{limits_.days} * ns_per_day};
    DE_TRY(const bool block, remove_oldest_block(&cutoff));
    if (block) return true;
    DE_TRY(const bool rows, remove_old_rows(cutoff));
    if (rows) return true;
  }
  if (limits_.max_bytes == 0) return false;
  DE_TRY(const auto before, size());
  if (before.used <= limits_.max_bytes) return false;
  return remove_oldest_block(nullptr);
}

Result<bool> Retention::remove_oldest_block(const Timestamp* cutoff) {
  std::int64_t block = 0, events = 0, batches = 0;
  {
    // Blocks lie in the order of commit; an old one behind a younger one waits for its turn.
    DE_TRY(auto* select,
           statements_.get("SELECT block_id, events, last_time, batches FROM blocks ORDER BY block_id LIMIT 1"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool row, select->step());
    if (!row || (cutoff != nullptr && !select->is_null(2) && select->integer(2) >= cutoff->ns)) return false;
    block = select->integer(0);
    events = select->integer(1);
    batches = select->integer(3);
  }
  DE_TRY(auto transaction, db::Transaction::begin(statements_.database()));
  DE_TRY(auto* chunks, statements_.get("DELETE FROM chunks WHERE chunk_id>=? AND chunk_id<?"));
  DE_CHECK(chunks->bind(1, chunk_id(block, 0)).bind(2, chunk_id(block + 1, 0)).run());
  DE_TRY(auto* row, statements_.get("DELETE FROM blocks WHERE block_id=?"));
  DE_CHECK(row->bind(1, block).run());
  DE_CHECK(transaction.commit());
  removed_.events += static_cast<std::uint64_t>(events);
  removed_.batches += static_cast<std::uint64_t>(batches);
  ++removed_.blocks;
  return true;
}

Result<bool> Retention::remove_old_rows(Timestamp cutoff) {
  // An alert that still waits for delivery stays, and so do its attempts.
  static constexpr std::string_view deletions[] = {
      "DELETE FROM alert_state WHERE alert_id IN (SELECT alert_id FROM alerts WHERE last_seen<?1 AND alert_id NOT IN "
      "(SELECT alert_id FROM outbox) LIMIT ?2)",
      "DELETE FROM alerts WHERE alert_id IN (SELECT alert_id FROM alerts WHERE last_seen<?1 AND alert_id NOT IN "
      "(SELECT alert_id FROM outbox) LIMIT ?2)",
      "DELETE FROM alert_deliveries WHERE delivery_id IN (SELECT delivery_id FROM alert_deliveries WHERE time<?1 AND "
      "alert_id NOT IN (SELECT alert_id FROM alerts) LIMIT ?2)",
      "DELETE FROM gaps WHERE gap_id IN (SELECT gap_id FROM gaps WHERE to_time<?1 LIMIT ?2)",
      "DELETE FROM scans WHERE rowid IN (SELECT rowid FROM scans WHERE time<?1 LIMIT ?2)",
  };
  DE_TRY(auto transaction, db::Transaction::begin(statements_.database()));
  bool more = false;
  for (const auto sql : deletions) {
    DE_TRY(auto* statement, statements_.get(sql));
    DE_CHECK(statement->bind(1, cutoff.ns).bind(2, std::int64_t{rows_per_step}).run());
    more = more || statements_.database().changes() >= rows_per_step;
  }
  DE_CHECK(transaction.commit());
  return more;
}

Result<bool> Retention::vacuum_step() {
  DE_TRY(const auto before, size());
  if (before.free_pages <= pages_kept) return false;
  DE_CHECK(statements_.database().execute("PRAGMA incremental_vacuum(" + std::to_string(pages_per_step) + ")"));
  return before.free_pages > pages_kept + pages_per_step;
}

}  // namespace daemoneye::store
