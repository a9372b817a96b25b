// ps, tree: processes now or at a past moment, and who started whom.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>

#include "base/text.h"
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

// Who lived at that moment, as it was then: of those that became something else later, what was last told of them
// before. Nothing was told: they had been forked and not executed anything yet, or it is no longer kept.
constexpr std::string_view past_sql =
    "WITH later AS (SELECT DISTINCT process_key FROM process_events WHERE kind IN ('exec', 'change') AND time > :at), "
    "past AS (SELECT p.pid, p.ppid, p.user, p.start_time, p.exit_time, p.name, p.command_line, p.process_key, "
    "p.parent_key, CASE WHEN l.process_key IS NOT NULL THEN (SELECT max(e.event_id) FROM process_events e WHERE "
    "e.process_key = p.process_key AND e.time <= :at) END AS told, l.process_key IS NULL AS same FROM processes p "
    "LEFT JOIN later l ON l.process_key = p.process_key "
    "WHERE p.start_time <= :at AND (p.exit_time IS NULL OR p.exit_time > :at)) "
    "SELECT a.pid, a.ppid, CASE WHEN a.same THEN a.user ELSE t.user END AS user, a.start_time, a.exit_time, "
    "CASE WHEN a.same THEN a.name ELSE t.name END AS name, "
    "CASE WHEN a.same THEN a.command_line ELSE t.command_line END AS command_line, a.process_key, a.parent_key "
    "FROM past a LEFT JOIN process_events t ON t.event_id = a.told ORDER BY a.pid";

std::vector<OutputColumn> tree_columns() {
  auto columns = std::vector<OutputColumn>{{"depth"}};
  for (const auto* list : {&shown, &of_the_ended}) {
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
    writer->begin(tree_columns());
    for (const auto& line : draw_tree(processes)) {
      Row row = {static_cast<std::int64_t>(line.depth)};
      append_columns(row, processes[line.process], shown);
      append_columns(row, processes[line.process], of_the_ended);
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

Outcome<Exit> past_tree(Timestamp moment, Invocation& invocation) {
  CLI_TRY(const auto connection, invocation.connect());
  const auto compiled = sql::compile(std::string(past_sql));
  if (!compiled) return std::unexpected(Failure(Exit::failed, compiled.error().message));
  sql::RunOptions options;
  options.parameters = {{"at", moment.ns}};
  options.deadline = invocation.deadline();
  std::vector<sql::Row> rows;
  std::vector<event::ProcessInfo> processes;
  Result<void> read;
  const auto ran = connection->run(*compiled, options, [&](const sql::Row& row) {
    auto process = past_process(*compiled, row);
    if (!process) {
      read = std::unexpected(process.error());
      return false;
    }
    processes.push_back(std::move(*process));
    rows.push_back(row);
    return true;
  });
  if (!ran) return std::unexpected(Failure(ran.error()));
  if (!read) return std::unexpected(Failure(read.error()));
  if (invocation.format() == Format::table) {
    write_tree_table(invocation.out(), invocation.render(), {.now = moment, .past = true, .marked = {}, .indent = ""},
                     processes);
  } else {
    const auto writer = invocation.row_writer("-");
    std::vector<OutputColumn> columns = {{"depth"}};
    for (const auto& column : compiled->columns()) columns.push_back({column.name, column.is_time});
    writer->begin(std::move(columns));
    for (const auto& line : draw_tree(processes)) {
      Row row = {static_cast<std::int64_t>(line.depth)};
      row.insert(row.end(), rows[line.process].begin(), rows[line.process].end());
      if (!writer->row(row)) break;
    }
    writer->finish(ran->completeness, "");
  }
  invocation.tell(ran->completeness, false);
  return exit_for(ran->completeness);
}

Outcome<Exit> past_processes(const PsOptions& options, Invocation& invocation) {
  CLI_TRY(const auto moment, parse_moment(options.at, base::wall_now()));
  if (options.tree) return past_tree(moment, invocation);
  return invocation.run_sql(std::string(past_sql), {{"at", moment.ns}});
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

// The process, its ancestors, and what it started.
Outcome<event::Completeness> collect_family(sql::Connection& connection, Invocation& invocation,
                                            const event::ProcessKey& key, bool ended_too,
                                            std::vector<event::ProcessInfo>& processes) {
  CLI_TRY(const auto lineage, connection.lineage(key));
  for (const auto& event : lineage) processes.push_back(event.process);
  // Of an ended process everything it started is shown; of a living one what lives, which is what matters now.
  const bool ended = !lineage.empty() && lineage.front().process.status == event::ProcessStatus::exited;
  const auto compiled = sql::compile("SELECT process_key FROM descendants(:key)");
  if (!compiled) return std::unexpected(Failure(Exit::failed, compiled.error().message));
  std::vector<event::ProcessKey> keys;
  sql::RunOptions options;
  options.parameters["key"] = to_string(key);
  options.deadline = invocation.deadline();
  const auto ran = connection.run(*compiled, options, [&](const sql::Row& row) {
    if (const auto* text = std::get_if<std::string>(&row.front())) {
      if (const auto parsed = event::parse_process_key(*text)) keys.push_back(*parsed);
    }
    return true;
  });
  if (!ran) return std::unexpected(Failure(ran.error()));
  for (const auto& each : keys) {
    CLI_TRY(const auto event, connection.reader().find_process(each));
    const bool there = std::ranges::find(processes, each, &event::ProcessInfo::key) != processes.end();
    if (!event || there) continue;
    if (ended || ended_too || event->process.status != event::ProcessStatus::exited)
      processes.push_back(event->process);
  }
  return ran->completeness;
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
  std::vector<event::ProcessInfo> processes;
  CLI_TRY(const auto completeness, collect_family(*connection, invocation, *key, options.ended_too, processes));
  write_tree(invocation, processes, completeness, key);
  return exit_for(completeness);
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
  tree->add_option("PID", wanted->pid, "A process, living or ended")->required()->check(CLI::PositiveNumber);
  tree->add_flag("--ended", wanted->ended_too, "What it started and has ended, too");
  tree->callback(
      [wanted, &chosen] { chosen = [wanted](Invocation& invocation) { return run_tree(*wanted, invocation); }; });
}

}  // namespace daemoneye::cli
