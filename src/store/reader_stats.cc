// Completeness, and the numbers of `db stats` and `health`.
#include <algorithm>
#include <map>

#include "store/reader_impl.h"
#include "store/schema.h"
#include "store/store_file.h"

namespace daemoneye::store {
namespace {

// Heartbeats come every 2 s and are on disk 2 s later; the rest is for a busy machine.
constexpr std::int64_t max_silence_ns = 15'000'000'000;

constexpr std::size_t max_reasons = 64;  // beyond this the gaps of one reason are told as one
constexpr std::size_t max_recent_gaps = 20;

Result<std::uint64_t> number(db::StatementCache& statements, std::string_view sql) {
  DE_TRY(auto* select, statements.get(sql));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->step());
  return row ? static_cast<std::uint64_t>(select->integer(0)) : 0;
}

void merge_by_reason(std::vector<event::Incompleteness>& reasons) {
  std::map<std::string, event::Incompleteness> merged;
  for (auto& reason : reasons) {
    auto [found, is_new] = merged.try_emplace(reason.reason, reason);
    if (is_new) continue;
    auto& whole = found->second;
    whole.from = std::min(whole.from, reason.from);
    whole.to = std::max(whole.to, reason.to);
    if (whole.count && reason.count)
      *whole.count += *reason.count;
    else
      whole.count.reset();  // of one of them it is not known
  }
  reasons.clear();
  for (auto& [name, reason] : merged) reasons.push_back(std::move(reason));
}

// Nearly always true, and known from the first row: a store is read where it has something.
Result<bool> has_record_at(db::StatementCache& statements, Timestamp time) {
  DE_TRY(auto* select,
         statements.get("SELECT (EXISTS (SELECT 1 FROM blocks WHERE first_time<=?1) OR EXISTS (SELECT 1 FROM tail "
                        "WHERE first_time<=?1)) AND NOT EXISTS (SELECT 1 FROM meta WHERE key='forgotten_until' AND "
                        "value>=?1)"));
  const db::StatementReset reset(*select);
  DE_CHECK(select->bind(1, time.ns).step());
  return select->integer(0) != 0;
}

Result<std::optional<Timestamp>> begin_of_record(db::StatementCache& statements) {
  // A gap speaks for its own time, and so does what was removed before its age: there the record had begun.
  DE_TRY(auto* select,
         statements.get("SELECT min(time), (SELECT value+1 FROM meta WHERE key='forgotten_until') FROM "
                        "(SELECT min(first_time) AS time FROM blocks UNION ALL SELECT min(first_time) FROM tail "
                        "UNION ALL SELECT min(from_time) FROM gaps)"));
  const db::StatementReset reset(*select);
  DE_CHECK(select->step());
  std::optional<Timestamp> begin;
  for (const int column : {0, 1}) {
    if (!select->is_null(column))
      begin = std::max(begin.value_or(Timestamp{INT64_MIN}), Timestamp{select->integer(column)});
  }
  return begin;
}

// "Nothing found" of a time before the record is "could not look". Who names no time asks for what there is.
Result<std::optional<event::Incompleteness>> before_record(db::StatementCache& statements,
                                                           const event::TimeRange& range) {
  const auto& earliest = range.from ? range.from : range.to;
  if (!earliest || (range.from && range.to && *range.to < *range.from)) return std::nullopt;
  DE_TRY(const bool recorded, has_record_at(statements, *earliest));
  if (recorded) return std::nullopt;
  DE_TRY(const auto begin, begin_of_record(statements));
  if (!begin || *earliest >= *begin) return std::nullopt;
  return event::Incompleteness{"before_record", {}, range.from, begin};
}

}  // namespace

Result<std::optional<Timestamp>> Reader::record_begin() {
  DE_TRY(const auto snapshot, Snapshot::open(*this));
  DE_TRY(const auto collectors, number(*impl_->statements, "SELECT count(*) FROM collectors"));
  if (collectors == 0) return std::nullopt;
  return begin_of_record(*impl_->statements);
}

Result<event::Completeness> Reader::completeness(const event::TimeRange& range, Timestamp now) {
  DE_TRY(const auto snapshot, Snapshot::open(*this));
  event::Completeness answer;
  {
    DE_TRY(auto* select,
           impl_->statements->get("SELECT reason, count, from_time, to_time FROM gaps WHERE to_time>=? AND "
                                  "from_time<=? ORDER BY from_time, gap_id"));
    const db::StatementReset reset(*select);
    select->bind(1, range.from.value_or(Timestamp{INT64_MIN}).ns).bind(2, range.to.value_or(Timestamp{INT64_MAX}).ns);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) break;
      event::Incompleteness gap{
          std::string(select->text(0)), {}, Timestamp{select->integer(2)}, Timestamp{select->integer(3)}};
      if (!select->is_null(1)) gap.count = static_cast<std::uint64_t>(select->integer(1));
      answer.reasons.push_back(std::move(gap));
    }
  }
  if (answer.reasons.size() > max_reasons) merge_by_reason(answer.reasons);
  DE_TRY(const auto collectors, number(*impl_->statements, "SELECT count(*) FROM collectors"));
  if (collectors > 0) {
    DE_TRY(auto before, before_record(*impl_->statements, range));
    if (before) answer.reasons.push_back(*std::move(before));
  }
  DE_TRY(auto* select, impl_->statements->get("SELECT connected, covered_until FROM collectors"));
  const db::StatementReset reset(*select);
  const bool running = WriterLock::is_held(impl_->path);
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) break;
    const bool connected = running && select->integer(0) != 0;
    const Timestamp until{select->integer(1)};
    // Claimed before the clock was set back: since then nothing was heard.
    if (until.ns - now.ns > max_silence_ns) {
      if (range.overlaps(now, until)) {
        answer.reasons.push_back({connected ? "late" : "collector_unavailable", {}, now, until});
      }
      continue;
    }
    // A connected collector says every two seconds that it is whole: one that is silent for longer is stuck, or the
    // store is.
    if (connected && now.ns - until.ns < max_silence_ns) continue;
    if (until < now && range.overlaps(until, now)) {
      answer.reasons.push_back({connected ? "late" : "collector_unavailable", {}, until, now});
    }
  }
  // An agent whose collector never came has seen nothing. A store without an agent is an import, and whole.
  if (collectors == 0 && running) answer.reasons.push_back({"collector_unavailable", {}, {}, {}});
  return answer;
}

Result<Reader::Stats> Reader::stats() {
  DE_TRY(const auto snapshot, Snapshot::open(*this));
  auto& statements = *impl_->statements;
  Stats stats;
  DE_TRY(const auto version, number(statements, "PRAGMA user_version"));
  stats.schema_version = static_cast<std::uint32_t>(version);
  {
    DE_TRY(auto* select,
           statements.get("SELECT value, b.*, t.* FROM meta, (SELECT coalesce(sum(events), 0), "
                          "coalesce(sum(batches), 0), count(*), coalesce(sum(bytes), 0), min(first_time), "
                          "max(last_time) FROM blocks) b, (SELECT coalesce(sum(events), 0), count(*), "
                          "coalesce(sum(length(canonical)), 0), min(first_time), max(last_time) FROM tail) "
                          "t WHERE key='store_id'"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool row, select->step());
    if (!row) return fail(Errc::corrupt, impl_->path + ": the store has no id");
    const auto count = [&](int column) { return static_cast<std::uint64_t>(select->integer(column)); };
    stats.store_id = select->text(0);
    stats.blocks = count(3);
    stats.chunk_bytes = count(4);
    stats.tail_events = count(7);
    stats.tail_batches = count(8);
    stats.tail_bytes = count(9);
    stats.events = count(1) + stats.tail_events;
    stats.batches = count(2) + stats.tail_batches;
    for (const int column : {5, 10}) {
      if (select->is_null(column)) continue;
      const Timestamp first{select->integer(column)}, last{select->integer(column + 1)};
      if (!stats.oldest || first < *stats.oldest) stats.oldest = first;
      if (!stats.newest || last > *stats.newest) stats.newest = last;
    }
  }
  DE_TRY(stats.live_processes, number(statements, "SELECT count(*) FROM live"));
  DE_TRY(stats.alerts, number(statements, "SELECT count(*) FROM alerts"));
  DE_TRY(const auto free_pages, number(statements, "PRAGMA freelist_count"));
  DE_TRY(const auto page_size, number(statements, "PRAGMA page_size"));
  stats.free_bytes = free_pages * page_size;
  stats.file_bytes = file_size(impl_->path);
  stats.wal_bytes = file_size(impl_->path + "-wal");
  stats.agent_running = WriterLock::is_held(impl_->path);
  {
    DE_TRY(auto* select, statements.get("SELECT source, connected, covered_until FROM collectors ORDER BY source"));
    const db::StatementReset reset(*select);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) break;
      // Nobody is connected to an agent that does not run.
      stats.collectors.push_back({std::string(select->text(0)), stats.agent_running && select->integer(1) != 0,
                                  Timestamp{select->integer(2)}});
    }
  }
  DE_TRY(auto* select, statements.get("SELECT reason, from_time, to_time, count, source FROM gaps ORDER BY gap_id DESC "
                                      "LIMIT ?"));
  const db::StatementReset reset(*select);
  select->bind(1, static_cast<std::int64_t>(max_recent_gaps));
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return stats;
    event::Gap gap{std::string(select->text(0)), Timestamp{select->integer(1)}, Timestamp{select->integer(2)}, {}};
    if (!select->is_null(3)) gap.count = static_cast<std::uint64_t>(select->integer(3));
    stats.recent_gaps.push_back({std::move(gap), std::string(select->text(4))});
  }
}

}  // namespace daemoneye::store
