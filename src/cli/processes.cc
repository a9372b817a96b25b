// ps, tree: processes now or at a past moment, and who started whom.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "cli/family.h"
#include "cli/tree_table.h"
#include "cli/verbs.h"

namespace daemoneye::cli {
namespace {

using event::Column;

struct PsOptions {
  bool tree = false;
  std::string at;
};

const std::vector<Column> shown = {Column::pid,          Column::ppid,       Column::user,
                                   Column::status,       Column::start_time, Column::cpu_usage,
                                   Column::memory_usage, Column::name,       Column::command_line};

// Of a tree in which there are such.
const std::vector<Column> of_the_ended = {Column::exit_time, Column::exit_code, Column::exit_signal};

// For programs: who started whom, and what a tree remarks on.
const std::vector<Column> for_programs = {Column::process_key, Column::parent_key, Column::executable_path,
                                          Column::executable_state, Column::executable_hash};

// Who lived at that moment, as it was then: of those that became something else later (another program, another user),
// what was last told of them before, or else what was told when they were first seen, if they had not changed by then.
// Nothing was told: they had been forked and not executed anything yet, or it is no longer kept.
constexpr std::string_view past_sql =
    "WITH later AS (SELECT process_key, min(event_id) AS first FROM process_events WHERE kind IN ('exec', 'change') "
    "AND time > :at AND (kind = 'exec' OR detail LIKE '%\"uid\":%') GROUP BY process_key), "
    "past AS (SELECT p.pid, p.ppid, p.user, p.start_time, p.exit_time, p.name, p.command_line, p.process_key, "
    "p.parent_key, CASE WHEN l.first IS NOT NULL THEN coalesce((SELECT max(e.event_id) FROM process_events e WHERE "
    "e.process_key = p.process_key AND e.time <= :at), (SELECT min(s.event_id) FROM process_events s WHERE "
    "s.process_key = p.process_key AND s.kind = 'seen' AND s.event_id < l.first)) END AS told, "
    "l.first IS NULL AS same FROM processes p LEFT JOIN later l ON l.process_key = p.process_key "
    "WHERE p.start_time <= :at AND (p.exit_time IS NULL OR p.exit_time > :at)) "
    "SELECT a.pid, a.ppid, CASE WHEN a.same THEN a.user ELSE t.user END AS user, a.start_time, a.exit_time, "
    "CASE WHEN a.same THEN a.name ELSE t.name END AS name, "
    "CASE WHEN a.same THEN a.command_line ELSE t.command_line END AS command_line, a.process_key, a.parent_key "
    "FROM past a LEFT JOIN process_events t ON t.event_id = a.told ORDER BY a.pid";

std::vector<OutputColumn> tree_columns(bool marks) {
  auto columns = std::vector<OutputColumn>{{"depth"}};
  if (marks) columns.push_back({"asked"});
  for (const auto* list : {&shown, &of_the_ended, &for_programs}) {
    for (const auto column : *list)
      columns.push_back({std::string(event::info(column).name), event::info(column).is_time});
  }
  return columns;
}

void append_columns(Row& row, const event::ProcessInfo& process, const std::vector<Column>& columns) {
  event::ProcessEvent event;
  event.process = process;
  for (const auto column : columns) row.push_back(event::column_value(event, 0, column));
}

// For people's eyes: whole seconds, one decimal, mebibytes.
void round_for_people(Row& row) {
  const auto fixed = [](double value) -> event::Value {
    char text[64];
    const auto [end, error] = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 1);
    return std::string(text, end);
  };
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if (const auto* time = std::get_if<std::int64_t>(&row[i]); time != nullptr && shown[i] == Column::start_time) {
      row[i] = seconds_for_people(Timestamp{*time});
    } else if (const auto* cpu = std::get_if<double>(&row[i]); cpu != nullptr && shown[i] == Column::cpu_usage) {
      row[i] = fixed(*cpu);
    } else if (const auto* bytes = std::get_if<std::int64_t>(&row[i]);
               bytes != nullptr && shown[i] == Column::memory_usage) {
      row[i] = fixed(static_cast<double>(*bytes) / (1024 * 1024));
    }
  }
}

// In a table the drawing stands before the name and needs no depth.
void write_tree(const Invocation& invocation, const std::vector<event::ProcessInfo>& processes,
                const event::Completeness& completeness, const std::optional<event::ProcessKey>& marked) {
  if (invocation.format() == Format::table) {
    write_tree_table(invocation.out(), invocation.render(), {.now = base::wall_now(), .marked = marked, .indent = ""},
                     processes);
  } else {
    const auto writer = invocation.row_writer("-");
    writer->begin(tree_columns(marked.has_value()));
    for (const auto& line : draw_tree(processes)) {
      const auto& process = processes[line.process];
      Row row = {static_cast<std::int64_t>(line.depth)};
      if (marked) row.emplace_back(std::int64_t{process.key == *marked});
      for (const auto* list : {&shown, &of_the_ended, &for_programs}) append_columns(row, process, *list);
      if (!writer->row(row)) break;
    }
    writer->finish(completeness, "");
  }
  invocation.tell(completeness, false);
}

Outcome<std::vector<event::ProcessInfo>> live_processes(store::Reader& reader) {
  std::vector<event::ProcessInfo> processes;
  const auto read = reader.live(std::nullopt, std::nullopt, [&](const event::ProcessEvent& event) {
    processes.push_back(event.process);
    return true;
  });
  if (!read) return std::unexpected(Failure(read.error()));
  std::ranges::sort(processes, {}, &event::ProcessInfo::key);
  return processes;
}

// A row of past_sql as a process.
Result<event::ProcessInfo> past_process(const sql::Compiled& compiled, const sql::Row& row) {
  event::ProcessEvent event;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const auto column = event::find_column(compiled.columns()[i].name);
    if (!column) continue;
    if (*column == Column::command_line) {
      // Kept as it was joined: the tree shows nothing else of it.
      if (const auto* text = std::get_if<std::string>(&row[i]))
        event.process.arguments = event::Arguments::from_list({*text});
    } else if (*column == Column::name && std::holds_alternative<std::monostate>(row[i])) {
      event.process.name = "?";
    } else if (*column != Column::pid) {  // which the key holds
      DE_CHECK(event::set_column(event, *column, row[i]));
    }
  }
  return event.process;
}

// What a look at all processes mends: who started, ended or became another while events were lost, or nobody watched.
Outcome<event::Completeness> completeness_of_past(sql::Connection& connection, Invocation& invocation,
                                                  Timestamp moment) {
  const auto now = base::wall_now();
  CLI_TRY(auto completeness, connection.reader().completeness({moment, moment}, now));
  CLI_TRY(const auto* loaded, invocation.loaded());
  constexpr std::int64_t ns_per_ms = 1'000'000;
  const Timestamp last_look{moment.ns - ns_per_ms * loaded->settings.app.scan_interval_ms};
  CLI_TRY(const auto since, connection.reader().completeness({last_look, moment}, now));
  for (const auto& reason : since.reasons) {
    const bool told = std::ranges::find(completeness.reasons, reason) != completeness.reasons.end();
    if (!told && reason.reason != "before_record") completeness.reasons.push_back(reason);
  }
  return completeness;
}

struct Past {
  std::vector<OutputColumn> columns;
  std::vector<sql::Row> rows;
  std::vector<event::ProcessInfo> processes;  // of a tree
  event::Completeness completeness;
};

Outcome<Past> read_past(Timestamp moment, bool tree, Invocation& invocation) {
  CLI_TRY(const auto connection, invocation.connect());
  const auto compiled = sql::compile(std::string(past_sql));
  if (!compiled) return std::unexpected(Failure(Exit::failed, compiled.error().message));
  Past past;
  for (const auto& column : compiled->columns()) past.columns.push_back({column.name, column.is_time});
  sql::RunOptions options;
  options.parameters = {{"at", moment.ns}};
  options.deadline = invocation.deadline();
  Result<void> read;
  CLI_TRY(const auto ran, connection->run(*compiled, options, [&](const sql::Row& row) {
    past.rows.push_back(row);
    if (!tree) return true;
    auto process = past_process(*compiled, row);
    if (process)
      past.processes.push_back(std::move(*process));
    else
      read = std::unexpected(process.error());
    return process.has_value();
  }));
  if (!read) return std::unexpected(Failure(read.error()));
  CLI_TRY(past.completeness, completeness_of_past(*connection, invocation, moment));
  auto& reasons = past.completeness.reasons;
  reasons.insert(reasons.end(), ran.scan.damage.begin(), ran.scan.damage.end());
  return past;
}

void write_past(const Past& past, bool tree, Invocation& invocation) {
  const auto writer = invocation.row_writer("-");
  auto columns = past.columns;
  if (tree) columns.insert(columns.begin(), {"depth"});
  writer->begin(std::move(columns));
  if (tree) {
    for (const auto& line : draw_tree(past.processes)) {
      Row row = {static_cast<std::int64_t>(line.depth)};
      row.insert(row.end(), past.rows[line.process].begin(), past.rows[line.process].end());
      if (!writer->row(row)) break;
    }
  } else {
    for (const auto& row : past.rows) {
      if (!writer->row(row)) break;
    }
  }
  writer->finish(past.completeness, "");
}

Outcome<Exit> past_processes(const PsOptions& options, Invocation& invocation) {
  const auto now = base::wall_now();
  CLI_TRY(const auto moment, parse_moment(options.at, now));
  if (moment > now) {
    return std::unexpected(
        Failure(Exit::usage, "--at: " + base::to_iso(moment) + " is still to come; it is " + base::to_iso(now)));
  }
  CLI_TRY(const auto past, read_past(moment, options.tree, invocation));
  if (options.tree && invocation.format() == Format::table) {
    write_tree_table(invocation.out(), invocation.render(), {.now = moment, .past = true, .marked = {}, .indent = ""},
                     past.processes);
  } else {
    write_past(past, options.tree, invocation);
  }
  invocation.tell(past.completeness, false);
  return exit_for(past.completeness);
}

Outcome<Exit> run_ps(const PsOptions& options, Invocation& invocation) {
  if (!options.at.empty()) return past_processes(options, invocation);
  CLI_TRY(const auto reader, invocation.reader());
  CLI_TRY(const auto processes, live_processes(*reader));
  const auto now = base::wall_now();
  CLI_TRY(const auto completeness, reader->completeness({now, now}, now));
  if (options.tree) {
    write_tree(invocation, processes, completeness, std::nullopt);
    return exit_for(completeness);
  }
  const auto writer = invocation.row_writer("-");
  std::vector<OutputColumn> columns;
  for (const auto column : shown)
    columns.push_back({std::string(event::info(column).name), event::info(column).is_time});
  const bool for_people = invocation.format() == Format::table && !invocation.render().raw;
  if (for_people) {
    for (auto& column : columns) {
      if (column.name == "cpu_usage") column = {"cpu %", false, true};
      if (column.name == "memory_usage") column = {"MiB", false, true};
    }
  }
  writer->begin(std::move(columns));
  for (const auto& process : processes) {
    Row row;
    append_columns(row, process, shown);
    if (for_people) round_for_people(row);
    if (!writer->row(row)) break;
  }
  writer->finish(completeness, "");
  invocation.tell(completeness, false);
  return exit_for(completeness);
}

// The live instance of this pid, else the one that ended last.
Outcome<std::optional<event::ProcessKey>> find_instance(sql::Connection& connection, Invocation& invocation,
                                                        event::Pid pid) {
  std::optional<event::ProcessKey> key;
  const auto live = connection.reader().live(std::nullopt, pid, [&](const event::ProcessEvent& event) {
    key = event.process.key;
    return false;
  });
  if (!live) return std::unexpected(Failure(live.error()));
  if (key) return key;
  const auto compiled = sql::compile("SELECT process_key FROM processes WHERE pid = :pid ORDER BY start_time DESC");
  if (!compiled) return std::unexpected(Failure(Exit::failed, compiled.error().message));
  sql::RunOptions options;
  options.parameters["pid"] = static_cast<std::int64_t>(pid);
  options.deadline = invocation.deadline();
  options.row_limit = 1;
  const auto ran = connection.run(*compiled, options, [&](const sql::Row& row) {
    if (const auto* text = std::get_if<std::string>(&row.front())) {
      if (const auto parsed = event::parse_process_key(*text)) key = *parsed;
    }
    return false;
  });
  if (!ran) return std::unexpected(Failure(ran.error()));
  return key;
}

struct TreeOptions {
  event::Pid pid = 0;
  bool ended_too = false;
};

Outcome<Exit> run_tree(const TreeOptions& options, Invocation& invocation) {
  const auto pid = options.pid;
  CLI_TRY(const auto connection, invocation.connect());
  CLI_TRY(const auto key, find_instance(*connection, invocation, pid));
  if (!key) return std::unexpected(Failure(Exit::failed, "no process with pid " + std::to_string(pid) + " is known"));
  CLI_TRY(const auto family, find_family(*connection, invocation, *key, options.ended_too));
  write_tree(invocation, family.processes, family.completeness, key);
  if (family.left_out > 0) {
    invocation.err() << "note: " << family.left_out << " more that ended, older than these, are not shown\n";
  }
  return exit_for(family.completeness);
}

}  // namespace

void add_processes(CLI::App& app, Action& chosen) {
  auto* ps = add_verb(app, "ps", "List the processes that live, or lived at a past moment");
  const auto options = std::make_shared<PsOptions>();  // shared: the parser fills what the actions read
  ps->add_flag("--tree", options->tree, "Draw who started whom");
  ps->add_option("--at", options->at, "At this moment: a span ago (5m, 2h) or ISO 8601")->type_name("TIME");
  ps->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return run_ps(*options, invocation); }; });

  auto* tree = add_verb(app, "tree", "Draw a process with its ancestors and what it started");
  const auto wanted = std::make_shared<TreeOptions>();
  constexpr std::uint64_t most_pids = 4'194'304;  // the kernel's own bound
  tree->add_option("PID", wanted->pid, "A process, living or ended")->required()->check(whole_number(1, most_pids));
  tree->add_flag("--ended", wanted->ended_too, "What it started and has ended, too");
  tree->callback(
      [wanted, &chosen] { chosen = [wanted](Invocation& invocation) { return run_tree(*wanted, invocation); }; });
}

}  // namespace daemoneye::cli
