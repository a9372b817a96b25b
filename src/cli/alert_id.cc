// Which alert is meant: 32 digits are too many to type, and for a table that people read.
#include "base/text.h"
#include "cli/alerts.h"

namespace daemoneye::cli {
namespace {

constexpr std::size_t shown_digits = 8, least_digits = 4;
constexpr std::size_t most_named = 5;  // of those that begin alike

std::string named(const std::string& given) { return "alert '" + base::printable(given.substr(0, 64)) + '\''; }

// The alert of this id, or else those whose ids begin so.
Outcome<std::vector<std::string>> ids_like(sql::Connection& connection, const std::string& given, Deadline deadline) {
  CLI_TRY(const auto exact, connection.reader().alert(given));
  if (exact) return std::vector<std::string>{given};
  std::vector<std::string> ids;
  if (given.size() < least_digits) return ids;
  const auto compiled = sql::compile("SELECT alert_id FROM alerts WHERE alert_id >= :from AND alert_id < :to");
  if (!compiled) return std::unexpected(Failure(Exit::failed, compiled.error().message));
  sql::RunOptions options;
  constexpr const char* behind_all = "\U0010ffff";
  options.parameters = {{"from", given}, {"to", given + behind_all}};
  options.deadline = deadline;
  options.row_limit = most_named + 1;
  CLI_TRY([[maybe_unused]] const auto ran, connection.run(*compiled, options, [&](const sql::Row& row) {
    if (const auto* id = std::get_if<std::string>(&row.front())) ids.push_back(*id);
    return true;
  }));
  return ids;
}

Failure ambiguous(const std::string& given, const std::vector<std::string>& ids) {
  Failure failure(Exit::usage, named(given) + " is not the only one whose id begins so", {});
  for (std::size_t i = 0; i < std::min(ids.size(), most_named); ++i) failure.details.push_back(base::printable(ids[i]));
  if (ids.size() > most_named) failure.details.emplace_back("and more");
  return failure;
}

}  // namespace

Outcome<std::string> find_alert(sql::Connection& connection, const std::string& given, Deadline deadline) {
  CLI_TRY(const auto ids, ids_like(connection, given, deadline));
  if (ids.size() == 1) return ids.front();
  if (ids.size() > 1) return std::unexpected(ambiguous(given, ids));
  Failure failure(Exit::failed, "no " + named(given));
  if (given.size() < least_digits) {
    failure.details.push_back("the beginning of an id needs " + std::to_string(least_digits) + " characters at least");
  }
  return std::unexpected(std::move(failure));
}

Outcome<std::vector<std::string>> find_alerts(const std::vector<std::string>& given, Invocation& invocation) {
  if (given.empty()) return given;
  const auto connection = invocation.connect();
  if (!connection) return given;  // who may not read may still ask the agent, which knows whole ids only
  std::vector<std::string> found;
  for (const auto& one : given) {
    CLI_TRY(const auto ids, ids_like(**connection, one, invocation.deadline()));
    if (ids.size() > 1) return std::unexpected(ambiguous(one, ids));
    found.push_back(ids.empty() ? one : ids.front());
  }
  return found;
}

std::string short_id(std::string_view alert_id) { return std::string(alert_id.substr(0, shown_digits)); }

std::string short_time(Timestamp time, Timestamp now) {
  constexpr std::int64_t long_ago_ns = std::int64_t{300} * 24 * 3600 * 1'000'000'000;
  const auto iso = base::to_iso(time);  // "2026-11-22T14:10:05.…"
  const bool this_year = time.ns > now.ns - long_ago_ns && time.ns <= now.ns;
  return this_year ? iso.substr(5, 5) + ' ' + iso.substr(11, 8) : iso.substr(0, 10);
}

}  // namespace daemoneye::cli
