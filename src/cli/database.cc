// db: the store's file. What changes it is in database_maintenance.cc.
#include "cli/database.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "db/backup.h"
#include "store/check.h"
#include "store/store_file.h"

namespace daemoneye::cli {
namespace {

Outcome<Exit> show_stats(Invocation& invocation) {
  CLI_TRY(const auto reader, invocation.reader());
  CLI_TRY(const auto stats, reader->stats());
  const auto count = [](std::uint64_t value) -> event::Value { return static_cast<std::int64_t>(value); };
  const auto time = [](const std::optional<Timestamp>& value) -> event::Value {
    if (value) return value->ns;
    return std::monostate{};
  };
  write_record(invocation,
               {{"path"},
                {"store_id"},
                {"schema_version"},
                {"agent_running"},
                {"events"},
                {"oldest", true},
                {"newest", true},
                {"batches"},
                {"blocks"},
                {"tail_batches"},
                {"tail_events"},
                {"live_processes"},
                {"alerts"},
                {"file_bytes"},
                {"wal_bytes"},
                {"free_bytes"},
                {"chunk_bytes"},
                {"tail_bytes"}},
               {reader->path(), stats.store_id, count(stats.schema_version),
                std::string(stats.agent_running ? "yes" : "no"), count(stats.events), time(stats.oldest),
                time(stats.newest), count(stats.batches), count(stats.blocks), count(stats.tail_batches),
                count(stats.tail_events), count(stats.live_processes), count(stats.alerts), count(stats.file_bytes),
                count(stats.wal_bytes), count(stats.free_bytes), count(stats.chunk_bytes), count(stats.tail_bytes)});
  return Exit::done;
}

event::Value integer(std::uint64_t value) { return static_cast<std::int64_t>(value); }
event::Value optional_integer(const std::optional<std::int64_t>& value) {
  if (value) return *value;
  return std::monostate{};
}
event::Value optional_time(const std::optional<Timestamp>& value) {
  if (value) return value->ns;
  return std::monostate{};
}

const std::vector<OutputColumn>& damage_columns() {
  static const std::vector<OutputColumn> columns = {{"part"},       {"block"},    {"column"}, {"batch"},
                                                    {"from", true}, {"to", true}, {"damage"}};
  return columns;
}

Row damage_row(const store::Damage& damage) {
  return {damage.part,
          optional_integer(damage.block),
          damage.column.empty() ? event::Value() : event::Value(damage.column),
          optional_integer(damage.batch),
          optional_time(damage.from),
          optional_time(damage.to),
          damage.what};
}

void print_check(const Invocation& invocation, const store::CheckReport& report,
                 const event::Completeness& completeness) {
  if (invocation.format() == Format::json) {
    auto document = nlohmann::json::object();
    document["columns"] = nlohmann::json::array();
    document["rows"] = nlohmann::json::array();
    for (const auto& column : damage_columns()) document["columns"].push_back(column.name);
    for (const auto& damage : report.damage) {
      const auto values = damage_row(damage);
      auto row = nlohmann::json::object();
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto& column = damage_columns()[i];
        row[column.name] = nlohmann::json::parse(value_json(values[i], column.is_time, invocation.render().raw));
      }
      document["rows"].push_back(std::move(row));
    }
    document["completeness"] = nlohmann::json::parse(event::to_json(completeness, invocation.render().raw));
    document["checked"] = {{"schema_version", report.schema_version},
                           {"page_checksums", report.page_checksums},
                           {"blocks", report.blocks},
                           {"chunks", report.chunks},
                           {"batches", report.batches},
                           {"events", report.events},
                           {"tail_batches", report.tail_batches},
                           {"live_processes", report.live_processes},
                           {"damages", report.damages}};
    invocation.out() << document.dump() << '\n';
    return;
  }
  if (report.damages > 0 || invocation.format() != Format::table) {
    const auto writer = invocation.row_writer("-");
    writer->begin(damage_columns());
    for (const auto& damage : report.damage) writer->row(damage_row(damage));
    writer->finish(completeness, "");
  }
  if (invocation.format() != Format::table) return;
  invocation.out() << "checked " << report.blocks << " blocks (" << report.chunks << " chunks), " << report.tail_batches
                   << " batches of the tail, " << report.batches << " batches in all, " << report.events << " events, "
                   << report.live_processes << " live processes: "
                   << (report.damages == 0 ? "no damage" : std::to_string(report.damages) + " damages")
                   << (report.page_checksums ? "" : " (a file without page checksums)") << '\n';
}

Outcome<Exit> check(bool quick, Invocation& invocation) {
  CLI_TRY(const auto path, invocation.store_path());
  Progress progress(invocation, "checking");
  auto report = store::check_store(path, {.quick = quick,
                                          .deadline = invocation.deadline(),
                                          .progress = [&](auto done, auto total) { progress.show(done, total); }});
  progress.clear();
  if (!report) return std::unexpected(Failure(report.error()));
  event::Completeness completeness;
  if (!report->not_looked_at.empty()) completeness.reasons.push_back({"limit_reached", {}, {}, {}});
  print_check(invocation, *report, completeness);
  if (!report->not_looked_at.empty()) {
    invocation.out().flush();
    invocation.err() << "not looked at (--timeout gives more time): " << report->not_looked_at << '\n';
  }
  if (report->damages > 0) return Exit::integrity;
  return exit_for(completeness);
}

Outcome<Exit> back_up(const std::string& target, bool yes, Invocation& invocation) {
  CLI_TRY(const auto reader, invocation.reader());
  std::error_code error;
  const bool there = std::filesystem::exists(target, error);
  if (there) {
    if (store::WriterLock::is_held(target)) {
      return std::unexpected(Failure(Exit::usage, base::printable(target) + " is the store of a running agent"));
    }
    CLI_TRY([[maybe_unused]] const bool replace, invocation.confirmed("Replace " + base::printable(target) + '?', yes));
  }
  Progress progress(invocation, "copying");
  const auto copied =
      db::backup(reader->database(), target,
                 {.overwrite = there, .deadline = invocation.deadline(), .progress = [&](auto done, auto total) {
                    progress.show(done, total);
                  }});
  progress.clear();
  if (!copied) return std::unexpected(Failure(copied.error()));
  CLI_TRY(const auto copy, store::Reader::open(target));
  CLI_TRY(const auto stats, copy->stats());
  write_record(invocation, {{"path"}, {"bytes"}, {"events"}, {"oldest", true}, {"newest", true}},
               {target, integer(stats.file_bytes), integer(stats.events), optional_time(stats.oldest),
                optional_time(stats.newest)});
  return Exit::done;
}

}  // namespace

void add_database(CLI::App& app, Action& chosen) {
  auto* db = add_verb(app, "db", "The event store's file");
  db->require_subcommand(1);
  add_verb(*db, "stats", "Counts, times and sizes")->callback([&chosen] { chosen = show_stats; });
  auto* check_verb =
      add_verb(*db, "check", "Read all of it and name each damage; works while the agent runs, and on copies");
  const auto quick = std::make_shared<bool>(false);  // shared: the parser fills what the action reads
  check_verb->add_flag("--quick", *quick, "Checksums and counts only, neither indexes nor digests");
  check_verb->footer("Exit code 5: damaged; 3: not all was looked at in time; 0: all is well.");
  check_verb->callback(
      [quick, &chosen] { chosen = [quick](Invocation& invocation) { return check(*quick, invocation); }; });
  auto* backup = add_verb(*db, "backup", "Copy it as it is now, also while the agent runs: the only right way to copy");
  const auto target = std::make_shared<std::string>();
  const auto yes = std::make_shared<bool>(false);
  backup->add_option("FILE", *target, "The copy; it is complete or not there")->required();
  backup->add_flag("--yes", *yes, "Replace the file when it is there");
  backup->callback([target, yes, &chosen] {
    chosen = [target, yes](Invocation& invocation) { return back_up(*target, *yes, invocation); };
  });
  add_maintenance(*db, chosen);
}

}  // namespace daemoneye::cli
