// db: the store's file.
#include <CLI/CLI.hpp>

#include "cli/verbs.h"

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

}  // namespace

void add_database(CLI::App& app, Action& chosen) {
  auto* db = add_verb(app, "db", "The event store's file");
  db->require_subcommand(1);
  add_verb(*db, "stats", "Counts, times and sizes")->callback([&chosen] { chosen = show_stats; });
}

}  // namespace daemoneye::cli
