#include "store/maintenance.h"

#include <algorithm>

#include "store/store_file.h"

namespace daemoneye::store {
namespace {

constexpr std::int64_t pages_a_step = 64;  // what a batch that comes may have to wait for
constexpr unsigned steps_a_checkpoint = 16;

}  // namespace

Maintenance::Maintenance(db::StatementCache& statements, Ingest& ingest, Retention& retention,
                         const MaintenanceRequest& request, std::uint64_t id)
    : statements_(statements), ingest_(ingest), retention_(retention), request_(request) {
  state_.id = id;
  state_.running = true;
}

Result<std::int64_t> Maintenance::integer(std::string_view sql, std::optional<std::int64_t> parameter) {
  DE_TRY(auto* select, statements_.get(sql));
  const db::StatementReset reset(*select);
  if (parameter) select->bind(1, *parameter);
  DE_TRY(const bool row, select->step());
  return row ? select->integer(0) : 0;
}

Result<bool> Maintenance::step() {
  if (!begun_) {
    file_before_ = file_size(statements_.database().path());
    removed_before_ = retention_.removed();
    damages_before_ = retention_.damages();
  }
  auto more = [&]() -> Result<bool> {
    switch (request_.kind) {
      case MaintenanceRequest::Kind::compact: return compact();
      case MaintenanceRequest::Kind::purge: return purge();
      case MaintenanceRequest::Kind::analyze: break;
    }
    // Bounded: a sample of each index.
    DE_CHECK(statements_.database().execute("PRAGMA analysis_limit=1000; ANALYZE"));
    return false;
  }();
  begun_ = true;
  if (more && !*more) {
    if (auto finished = finish(); !finished) more = std::unexpected(finished.error());
  }
  if (!more) {
    state_.running = false;
    state_.error = more.error().message;
    return more;
  }
  state_.running = *more;
  return more;
}

Result<bool> Maintenance::compact() {
  DE_TRY(const auto free_pages, integer("PRAGMA freelist_count"));
  DE_TRY(const auto page_size, integer("PRAGMA page_size"));
  const auto left = static_cast<std::uint64_t>(free_pages * page_size);
  if (!begun_) state_.total = left;
  state_.done = state_.total - std::min(state_.total, left);
  if (free_pages == 0) return false;
  if (retention_.wal_pinned()) {
    return fail(Errc::unavailable,
                "a reader holds an old snapshot (health store names it): until it ends, more would only make the "
                "write-ahead log longer, and the file no shorter");
  }
  DE_CHECK(statements_.database().execute("PRAGMA incremental_vacuum(" + std::to_string(pages_a_step) + ")"));
  // The file becomes shorter when the WAL goes into it.
  if (++steps_ % steps_a_checkpoint == 0) {
    statements_.database().checkpoint(db::Database::Checkpoint::passive);
  }
  return true;
}

Result<void> Maintenance::begin_purge() {
  // What is still in the tail goes as well.
  const auto oldest_kept = request_.before.value_or(Timestamp{INT64_MAX}).ns;
  if (!ingest_.loaded()) DE_CHECK(ingest_.load());
  DE_TRY(const auto in_tail, integer("SELECT count(*) FROM tail WHERE coalesce(first_time, 0)<?", oldest_kept));
  if (in_tail > 0) DE_CHECK(ingest_.seal());
  // What comes from now on was not meant. Not the number of the last block: those are given again.
  DE_TRY(last_event_, integer("SELECT coalesce(max(last_event), 0) FROM blocks"));
  const auto now = base::wall_now();
  rows_before_ = std::min(request_.before.value_or(now), now);
  DE_TRY(const auto total,
         integer("SELECT coalesce(sum(events), 0) FROM blocks WHERE coalesce(last_time, 0)<?", oldest_kept));
  state_.total = static_cast<std::uint64_t>(total);
  return {};
}

Result<bool> Maintenance::purge() {
  if (!begun_) DE_CHECK(begin_purge());
  DE_TRY(const auto rows, retention_.remove_rows(rows_before_));
  DE_TRY(const bool block, retention_.remove_block(request_.before, Retention::purged, last_event_));
  const auto removed = retention_.removed();
  state_.events_removed = state_.done = removed.events - removed_before_.events;
  state_.rows_removed = removed.rows - removed_before_.rows;
  return rows > 0 || block;
}

Result<void> Maintenance::finish() {
  if (request_.kind == MaintenanceRequest::Kind::purge && request_.before) {
    DE_TRY(const auto kept, integer("SELECT count(*) FROM blocks WHERE first_time<?", request_.before->ns));
    state_.blocks_kept = static_cast<std::uint64_t>(kept);
  }
  if (request_.kind == MaintenanceRequest::Kind::compact) {
    // To the end, if no reader is in the way: nobody is waited for.
    statements_.database().checkpoint(db::Database::Checkpoint::truncate);
    const auto after = file_size(statements_.database().path());
    state_.bytes_freed = file_before_ - std::min(file_before_, after);
  }
  state_.done = state_.total;
  if (retention_.damages() != damages_before_) return fail(Errc::corrupt, "not all of it: " + retention_.damage());
  return {};
}

}  // namespace daemoneye::store
