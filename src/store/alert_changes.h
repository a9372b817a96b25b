// Changes of the alerts' tables other than raising and delivering. Each is for Writer::change: small, inside the
// caller's transaction, and the same when it is run again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "db/statement_cache.h"
#include "store/alert.h"

namespace daemoneye::store {

// One step of a change that may concern very many rows: ingestion waits for no more than that.
inline constexpr std::size_t rows_a_change = 500;

struct StatusChange {
  std::string alert_id;
  std::string to;    // open | acknowledged | closed
  std::string note;  // empty: none
  std::string actor;
  Timestamp time;
};
// The status before; nothing when there is no such alert. Without a note nothing is written down when it is the same.
Result<std::optional<std::string>> change_status(db::StatementCache& statements, const StatusChange& change);

struct StatusOutcome {
  std::string alert_id, from;  // the status before
  std::string refused;         // why it cannot be; empty: it can
};
// The same change (whose alert_id does not count) of each of these, or of none when one of them is refused: an alert
// that is not there, or a closed one that is to be acknowledged.
Result<std::vector<StatusOutcome>> change_statuses(db::StatementCache& statements, const std::vector<std::string>& ids,
                                                   const StatusChange& change);

// Which dead letters. Everything that is set must hold.
struct DeadLetterFilter {
  std::vector<std::string> sinks, alerts;  // empty: any
  std::optional<Timestamp> before;
};
// Puts up to rows_a_change of them with an id above `after` back into the outbox, with all their retries and waiting
// since now. The last id that was looked at, or nothing when there is none left; `changed` is added to.
Result<std::optional<std::int64_t>> retry_dead_letters(db::StatementCache& statements, const DeadLetterFilter& filter,
                                                       Timestamp now, std::int64_t after, std::uint64_t& changed);
// The same, but they are removed for good.
Result<std::optional<std::int64_t>> purge_dead_letters(db::StatementCache& statements, const DeadLetterFilter& filter,
                                                       std::int64_t after, std::uint64_t& changed);

// What waits for sinks that are not in `configured` becomes dead letters, up to rows_a_change of them. How many.
inline constexpr std::string_view no_such_sink = "sink no longer configured";
Result<std::size_t> retire_sinks(db::StatementCache& statements, const std::vector<std::string>& configured,
                                 Timestamp now);

// Alerts that a sink's rate limit has held back: one alert in the outbox stands for them. `summary` has what they
// do not tell (id, time, host, version). How many it stands for; 0: none, and nothing was written.
Result<std::uint64_t> write_summary(db::StatementCache& statements, const std::string& sink, Alert summary);

}  // namespace daemoneye::store
