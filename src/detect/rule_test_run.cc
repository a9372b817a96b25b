// `rules test`: what a rule would have matched.
#include <algorithm>
#include <cctype>

#include "detect/engine.h"
#include "detect/stored_events.h"
#include "event/merged_reasons.h"

namespace daemoneye::detect {
namespace {

constexpr std::size_t chunk_events = 1024;
constexpr std::uint64_t max_scheduled_runs = 10'000;

bool contains_word(std::string_view text, std::string_view word) {
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; };
  return std::search(text.begin(), text.end(), word.begin(), word.end(), same) != text.end();
}

// Whether the statement asks for the present anywhere. Too often yes only costs time.
bool uses_now(const LoadedRule& rule) {
  std::string text = rule.rule.sql;
  for (const auto& condition : rule.rule.except) text += " " + condition;
  for (const std::string_view word : {"now", "ago", "date", "time(", "current_"}) {
    if (contains_word(text, word)) return true;
  }
  return false;
}

// Adds up runs; counts rows and stops at the limit.
class Total {
 public:
  Total(const sql::RunOptions& options, const std::function<bool(const sql::Row&, Timestamp)>& each)
      : options_(options), each_(each), begin_(base::SteadyClock::now()) {}

  bool row(const sql::Row& row, Timestamp moment) {
    if (ended_) return false;
    if (options_.row_limit != 0 && stats_.run.rows == options_.row_limit) {
      stats_.run.more = true;
      ended_ = true;
      return false;
    }
    ++stats_.run.rows;
    ended_ = !each_(row, moment);
    return !ended_;
  }
  void shown(std::size_t events) { stats_.events += events; }
  void ran() { ++stats_.runs; }
  void add(const sql::RunStats& run) {
    stats_.evaluating += run.elapsed;
    missing_.add(run.completeness);
    stats_.run.scan.blocks_read += run.scan.blocks_read;
    stats_.run.scan.blocks_skipped += run.scan.blocks_skipped;
    stats_.run.scan.tail_batches_read += run.scan.tail_batches_read;
    stats_.run.scan.rows += run.scan.rows;
  }
  [[nodiscard]] bool ended() const { return ended_; }
  Result<void> check() const {
    if (options_.stop.stop_requested()) return fail(Errc::cancelled, "the rule's test was stopped");
    if (options_.deadline.expired()) return fail(Errc::timeout, "the rule's test ran out of time; narrow its range");
    return {};
  }
  void lacks(const event::Completeness& completeness) { missing_.add(completeness); }
  TestStats finish() {
    stats_.run.completeness.reasons = missing_.all();
    stats_.run.elapsed = base::SteadyClock::now() - begin_;
    return std::move(stats_);
  }

 private:
  const sql::RunOptions& options_;
  const std::function<bool(const sql::Row&, Timestamp)>& each_;
  const base::SteadyClock::time_point begin_;
  TestStats stats_;
  event::MergedReasons missing_;  // each run tells of the same history
  bool ended_ = false;
};

Result<void> show(sql::Connection& connection, const LoadedRule& rule, const std::vector<sql::DrivingRow>& rows,
                  const sql::RunOptions& options, Total& total) {
  const Timestamp now = rows.back().event->time;
  DE_CHECK(connection.begin_stream(rows, now));
  sql::RunOptions run;
  run.deadline = options.deadline;
  run.stop = options.stop;
  run.now = now;
  total.shown(rows.size());
  const bool of_processes = rule.compiled->driving()->table == "processes";
  std::vector<std::pair<sql::Row, event::EventId>> sights;  // of processes: whether they were known is asked afterwards
  auto stats = connection.run_stream(*rule.compiled, run, [&](const sql::Row& row, event::EventId driving) {
    if (of_processes) {
      sights.emplace_back(row, driving);
      return true;
    }
    const auto found = std::ranges::lower_bound(rows, driving, {}, &sql::DrivingRow::event_id);
    return total.row(row, found != rows.end() && found->event_id == driving ? found->event->time : now);
  });
  for (const auto& [row, driving] : sights) {
    const auto found = std::ranges::lower_bound(rows, driving, {}, &sql::DrivingRow::event_id);
    DE_TRY(const bool known, was_known(connection.reader(), {driving, *found->event}));
    if (!known && !total.row(row, found->event->time)) break;
  }
  connection.end_stream();
  if (!stats) return std::unexpected(std::move(stats).error());
  total.add(*stats);
  return {};
}

Result<void> test_stream(sql::Connection& connection, const LoadedRule& rule, const event::TimeRange& range,
                         const sql::RunOptions& options, Total& total) {
  const bool one_at_a_time = uses_now(rule);
  DE_TRY(const auto last, connection.reader().last_event_id());
  event::EventId next = 0;
  while (next <= last && !total.ended()) {
    DE_CHECK(total.check());
    DE_TRY(auto events, read_events(connection.reader(), next, last, chunk_events, range));
    if (events.events.empty()) break;
    next = events.events.back().id + 1;
    total.lacks({events.damage});
    std::erase_if(events.events, [&](const StoredEvent& stored) { return !concerns(*rule.compiled, stored.event); });
    if (events.events.empty()) continue;
    const auto rows = driving_rows(events.events);
    if (!one_at_a_time) {
      DE_CHECK(show(connection, rule, rows, options, total));
      continue;
    }
    for (const auto& row : rows) {
      if (total.ended()) break;
      DE_CHECK(show(connection, rule, {row}, options, total));
    }
  }
  return {};
}

Result<void> test_scheduled(sql::Connection& connection, const LoadedRule& rule, const event::TimeRange& range,
                            const sql::RunOptions& options, Total& total) {
  DE_TRY(const auto stored, connection.reader().stats());
  if (!stored.oldest || !stored.newest) return {};
  // Asked for all there is, what was before it is not missing.
  DE_TRY(const auto record_begin, connection.reader().record_begin());
  const Timestamp reach =
      range.from ? Timestamp{INT64_MIN} : std::min(record_begin.value_or(*stored.oldest), *stored.oldest);
  const auto every = rule.rule.evaluate->every.count();
  const auto window = rule.rule.evaluate->window.count();
  const std::int64_t from = std::max(range.from.value_or(*stored.oldest), *stored.oldest).ns;
  const std::int64_t to = std::min(range.to.value_or(*stored.newest), *stored.newest).ns;
  if (to < from) return {};
  if (static_cast<std::uint64_t>((to - from) / every) >= max_scheduled_runs) {
    return fail(Errc::limit_exceeded,
                "more than " + std::to_string(max_scheduled_runs) + " runs of the rule are in this range; narrow it");
  }
  // The last run looks back from at or after the end, so that nothing of the range is left out.
  for (std::int64_t now = from; !total.ended(); now += every) {
    DE_CHECK(total.check());
    sql::RunOptions run;
    run.deadline = options.deadline;
    run.stop = options.stop;
    run.now = Timestamp{now};
    run.history = {std::max(Timestamp{now - window}, reach), Timestamp{now}};
    total.ran();
    DE_TRY(const auto stats,
           connection.run(*rule.compiled, run, [&](const sql::Row& row) { return total.row(row, Timestamp{now}); }));
    total.add(stats);
    if (now >= to) break;
  }
  return {};
}

}  // namespace

Result<TestStats> test_rule(sql::Connection& connection, const LoadedRule& rule, const event::TimeRange& range,
                            const sql::RunOptions& options,
                            const std::function<bool(const sql::Row&, Timestamp)>& each) {
  Total total(options, each);
  if (rule.rule.evaluate)
    DE_CHECK(test_scheduled(connection, rule, range, options, total));
  else
    DE_CHECK(test_stream(connection, rule, range, options, total));
  DE_TRY(const auto history, connection.reader().completeness(range, base::wall_now()));
  total.lacks(history);
  connection.forget(*rule.compiled);
  return total.finish();
}

}  // namespace daemoneye::detect
