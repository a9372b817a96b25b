#include "cli/alert_case.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/text.h"
#include "cli/tree_table.h"
#include "detect/stored_events.h"

namespace daemoneye::cli {
namespace {

using event::Column;
using nlohmann::json;

constexpr std::int64_t ns_per_minute = 60'000'000'000;
// Around the alert, unless the process began later. What a service of months did before says little.
constexpr std::int64_t before_ns = 60 * ns_per_minute, after_ns = 60 * ns_per_minute, lead_ns = ns_per_minute;

event::Value value_of(const json& member, Column column) {
  if (member.is_null()) return std::monostate{};
  if (column == Column::arguments) return member.dump(-1, ' ', false, json::error_handler_t::replace);
  if (member.is_string()) return member.get<std::string>();
  if (member.is_number_float()) return member.get<double>();
  if (member.is_number_integer()) return member.get<std::int64_t>();
  return std::monostate{};
}

// From the alert's own JSON: what does not fit a column is left out, as if it had not been known.
event::ProcessInfo process_of(const json& object) {
  event::ProcessEvent event;
  for (const auto& [name, member] : object.items()) {
    const auto column = event::find_column(name);
    if (!column) continue;
    if (*column == Column::command_line) {
      // An ancestor's, which has no arguments: as it was joined.
      if (member.is_string() && !object.contains("arguments")) {
        event.process.arguments = event::Arguments::from_list({member.get<std::string>()});
      }
    } else if (*column != Column::pid || !object.contains("process_key")) {
      (void)event::set_column(event, *column, value_of(member, *column));
    }
  }
  return event.process;
}

template <class T>
void fill(std::optional<T>& field, const std::optional<T>& from) {
  if (!field) field = from;
}

// The store knows how it ended, and what its executable is; all else stays as it was when the alert was raised.
void add_what_came_later(event::ProcessInfo& process, const event::ProcessInfo& now) {
  fill(process.exit_time, now.exit_time);
  fill(process.exit_code, now.exit_code);
  fill(process.exit_signal, now.exit_signal);
  fill(process.start_time, now.start_time);
  fill(process.executable_hash, now.executable_hash);
  fill(process.executable_state, now.executable_state);
  fill(process.user, now.user);
  process.status = now.status;
}

class Collector {
 public:
  Collector(sql::Connection& connection, Invocation& invocation) : connection_(connection), invocation_(invocation) {}

  Outcome<AlertCase> run(const std::string& id) {
    auto& reader = connection_.reader();
    CLI_TRY(auto alert, reader.alert(id));
    if (!alert) {
      return std::unexpected(Failure(Exit::failed, "no alert '" + base::printable(id.substr(0, 64)) + '\''));
    }
    found_.alert = std::move(*alert);
    CLI_TRY(found_.changes, reader.alert_changes(id));
    if (auto read = deliveries(); !read) return std::unexpected(read.error());
    if (auto read = evidence(); !read) return std::unexpected(read.error());
    from_alert();
    if (auto read = from_store(); !read) return std::unexpected(read.error());
    if (auto read = descendants(); !read) return std::unexpected(read.error());
    choose_window();
    if (auto read = events(); !read) return std::unexpected(read.error());
    std::ranges::sort(found_.events, {}, [](const CaseEvent& each) { return std::pair(each.event.time, each.id); });
    from_events();
    CLI_TRY(const auto completeness, reader.completeness(found_.window, base::wall_now()));
    for (const auto& reason : completeness.reasons) {
      // To look so far back was our choice: where the record begins within the window, the window does.
      if (reason.reason == "before_record" && reason.to < found_.window.to)
        found_.window.from = reason.to;
      else
        remember(reason);
    }
    return std::move(found_);
  }

 private:
  using Done = std::expected<void, Failure>;

  bool stop() const { return invocation_.deadline().expired() || invocation_.interrupted(); }

  void remember(const event::Incompleteness& reason) {
    auto& reasons = found_.looked.reasons;
    if (std::ranges::find(reasons, reason) == reasons.end()) reasons.push_back(reason);
  }

  Outcome<sql::RunStats> rows(const std::string& statement, const std::string& parameter, const std::string& value,
                              std::uint64_t limit, const std::function<void(const sql::Row&)>& each) {
    const auto compiled = sql::compile(statement);
    if (!compiled) return std::unexpected(Failure(Exit::failed, compiled.error().message));
    sql::RunOptions options;
    options.parameters = {{parameter, value}};
    options.deadline = invocation_.deadline();
    options.row_limit = limit;
    CLI_TRY(auto stats, connection_.run(*compiled, options, [&](const sql::Row& row) {
      each(row);
      return true;
    }));
    return stats;
  }

  Done deliveries() {
    const auto text = [](const event::Value& value) {
      const auto* held = std::get_if<std::string>(&value);
      return held != nullptr ? *held : std::string();
    };
    const auto number = [](const event::Value& value) {
      const auto* held = std::get_if<std::int64_t>(&value);
      return held != nullptr ? *held : 0;
    };
    const auto read =
        rows("SELECT time, sink, outcome, error, attempt FROM alert_deliveries WHERE alert_id = :id ORDER BY time",
             "id", found_.alert.alert_id, max_case_deliveries, [&](const sql::Row& row) {
               found_.deliveries.push_back(
                   {Timestamp{number(row[0])}, text(row[1]), text(row[2]), text(row[3]), number(row[4])});
             });
    if (!read) return std::unexpected(read.error());
    return {};
  }

  Done evidence() {
    std::size_t looked_for = 0;
    for (const auto id : found_.alert.evidence) {
      if (++looked_for > max_case_evidence) {
        found_.more_evidence = found_.alert.evidence.size() - max_case_evidence;
        break;
      }
      auto read = detect::read_events(connection_.reader(), id, id, 1);
      if (!read) return std::unexpected(Failure(read.error()));
      for (const auto& damage : read->damage) remember(damage);
      if (read->events.empty()) {
        found_.lost_evidence.push_back(id);
      } else {
        found_.events.push_back({id, std::move(read->events.front().event), true});
      }
    }
    return {};
  }

  // The process and its ancestors as the alert keeps them.
  void from_alert() {
    const auto kept = json::parse(found_.alert.process_json, nullptr, false);
    if (!kept.is_object()) return;
    const auto process = kept.find("process"), ancestors = kept.find("ancestors");
    if (process == kept.end() || !process->is_object()) return;
    found_.family.push_back(process_of(*process));
    found_.subject = found_.family.front().key;
    if (ancestors == kept.end() || !ancestors->is_array()) return;
    for (const auto& each : *ancestors) {
      if (each.is_object()) add_ancestor(process_of(each));
    }
  }

  void add_ancestor(event::ProcessInfo ancestor) {
    auto& child = found_.family.back();
    if (!child.parent_key) child.parent_key = ancestor.key;
    found_.family.push_back(std::move(ancestor));
    ++found_.ancestors;
  }

  // An alert that names no process is told by the process of its first evidence.
  Done from_store() {
    if (!found_.subject) {
      for (const auto& each : found_.events) {
        if (each.event.kind == event::EventKind::gap) continue;
        found_.subject = each.event.process.key;
        break;
      }
      if (!found_.subject) return {};
    }
    const auto lineage = connection_.lineage(*found_.subject);
    if (!lineage) {
      if (stop()) return std::unexpected(Failure(lineage.error()));
      remember({"lineage_unavailable", {}, {}, {}});
      return {};
    }
    for (const auto& link : *lineage) {
      const auto known = std::ranges::find(found_.family, link.process.key, &event::ProcessInfo::key);
      if (known != found_.family.end()) {
        add_what_came_later(*known, link.process);
      } else if (found_.family.empty()) {
        found_.family.push_back(link.process);
      } else {
        add_ancestor(link.process);
      }
    }
    // Neither the alert nor the store says more of it than its event.
    for (const auto& each : found_.events) {
      if (found_.family.empty() && each.event.process.key == *found_.subject)
        found_.family.push_back(each.event.process);
    }
    return {};
  }

  Done descendants() {
    if (!found_.subject || found_.subject->start_ticks == 0) return {};
    const auto& columns = event::columns();
    std::vector<Column> wanted;
    std::string list;
    for (const auto& info : columns) {
      if (!info.in_processes || info.column == Column::command_line) continue;
      wanted.push_back(info.column);
      list += (list.empty() ? "" : ", ") + std::string(info.name);
    }
    const auto read = rows("SELECT " + list + " FROM descendants(:key) ORDER BY start_time, pid", "key",
                           to_string(*found_.subject), max_case_descendants, [&](const sql::Row& row) {
                             event::ProcessEvent event;
                             for (std::size_t i = 0; i < row.size() && i < wanted.size(); ++i) {
                               if (wanted[i] != Column::pid) (void)event::set_column(event, wanted[i], row[i]);
                             }
                             const auto& key = event.process.key;
                             if (std::ranges::find(found_.family, key, &event::ProcessInfo::key) == found_.family.end())
                               found_.family.push_back(std::move(event.process));
                           });
    if (!read) {
      // So many that they are not counted: the rest of the page is worth having without them.
      if (stop()) return std::unexpected(read.error());
      remember({"limit_reached", {}, {}, {}});
      found_.more_descendants = true;
      return {};
    }
    found_.more_descendants = read->more;
    return {};
  }

  void choose_window() {
    Timestamp first = found_.alert.time, last = std::max(found_.alert.time, found_.alert.last_seen);
    for (const auto& each : found_.events) {
      first = std::min(first, each.event.time);
      last = std::max(last, each.event.time);
    }
    Timestamp from{first.ns - before_ns};
    if (!found_.family.empty() && found_.family.front().start_time) {
      from = std::max(from, Timestamp{std::min(*found_.family.front().start_time, first).ns - lead_ns});
    }
    found_.window = {from, std::min(Timestamp{last.ns + after_ns}, std::max(base::wall_now(), last))};
  }

  // The nearest to the alert, before and after it.
  Done events() {
    if (found_.family.empty()) return {};
    predicate::Condition of_family{Column::process_key, predicate::Operator::in, {}, false};
    for (const auto& process : found_.family) of_family.values.emplace_back(event::to_string(process.key));
    for (const bool before : {true, false}) {
      store::ScanRequest request;
      request.time = before ? event::TimeRange{found_.window.from, found_.alert.time}
                            : event::TimeRange{Timestamp{found_.alert.time.ns + 1}, found_.window.to};
      request.newest_first = before;
      request.conditions = {of_family};
      if (auto read = take(request); !read) return read;
    }
    return {};
  }

  Done take(const store::ScanRequest& request) {
    std::set<event::EventId> known;
    for (const auto& each : found_.events) known.insert(each.id);
    auto scan = connection_.reader().scan(request, [this] { return stop(); });
    if (!scan) return std::unexpected(Failure(scan.error()));
    for (std::size_t taken = 0;;) {
      const auto more = (*scan)->next();
      if (!more && more.error().code != Errc::cancelled) return std::unexpected(Failure(more.error()));
      if (!more) {
        remember({"limit_reached", {}, {}, {}});
        found_.more_events_uncounted = true;
        break;
      }
      if (!*more) break;
      const auto id = (*scan)->event_id();
      if (known.contains(id)) continue;
      if (taken >= max_case_events / 2) {
        found_.more_events_uncounted = ++found_.more_events >= max_counted_events;
        if (found_.more_events_uncounted) break;
        continue;
      }
      auto event = (*scan)->take_event();
      if (!event) {
        if (event.error().code != Errc::corrupt) return std::unexpected(Failure(event.error()));
        remember({"corrupt_block", 1, {}, {}});
        continue;
      }
      ++taken;
      found_.events.push_back({id, std::move(*event), false});
    }
    for (const auto& damage : (*scan)->stats().damage) remember(damage);
    return {};
  }

  // The hash of a file that ran once and briefly is known after the process has ended: its event has it, the process's
  // row has not. And events have the bytes that the alert's JSON could not hold.
  void from_events() {
    for (const auto& each : found_.events) {
      const auto& told = each.event.process;
      const auto process = std::ranges::find(found_.family, told.key, &event::ProcessInfo::key);
      if (process == found_.family.end() || process->executable_path != told.executable_path) continue;
      if (told.executable_hash && !process->executable_hash) {
        process->executable_hash = told.executable_hash;
        const bool ended = process->exit_time && *process->exit_time < each.event.time;
        if (ended && found_.subject == told.key) found_.hashed_after_end = each.event.time;
      }
      if (told.arguments && process->arguments && *told.arguments != *process->arguments &&
          base::to_valid_utf8(told.arguments->command_line()) == process->arguments->command_line()) {
        process->arguments = told.arguments;
      }
    }
  }

  sql::Connection& connection_;
  Invocation& invocation_;
  AlertCase found_;
};

}  // namespace

Outcome<AlertCase> collect_case(sql::Connection& connection, Invocation& invocation, const std::string& alert_id) {
  return Collector(connection, invocation).run(alert_id);
}

event::Completeness completeness_of(const AlertCase& found) {
  auto all = found.alert.completeness;
  for (const auto& reason : found.looked.reasons) {
    if (std::ranges::find(all.reasons, reason) == all.reasons.end()) all.reasons.push_back(reason);
  }
  return all;
}

std::string process_for_people(const event::ProcessInfo& process) {
  const auto pid = std::to_string(process.key.pid);
  return process.name.empty() ? "pid " + pid : process.name + " (" + pid + ')';
}

std::string event_for_people(const event::ProcessEvent& event) {
  switch (event.kind) {
    case event::EventKind::exec:
    case event::EventKind::seen:
    case event::EventKind::fork: return command_for_people(event.process);
    case event::EventKind::exit: {
      auto process = event.process;
      process.status = event::ProcessStatus::exited;
      const auto& start = process.start_time;
      return status_for_people(process) +
             (start ? " after " + span_for_people(process.exit_time.value_or(event.time).ns - start->ns) : "");
    }
    case event::EventKind::change: return event.detail.empty() ? "changed" : event.detail;
    case event::EventKind::gap: return event.detail;
  }
  return {};
}

}  // namespace daemoneye::cli
