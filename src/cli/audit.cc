// audit: the ledger, read and verified.
#include <CLI/CLI.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/verbs.h"
#include "ledger/ledger.h"

namespace daemoneye::cli {
namespace {

Outcome<std::unique_ptr<ledger::LedgerReader>> open_ledger(Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  const auto& path = loaded->settings.audit.path;
  auto reader = ledger::LedgerReader::open(path);
  if (reader) return std::move(*reader);
  Failure failure(reader.error());
  if (reader.error().code == Errc::permission_denied) {
    failure.details = {"members of the group daemoneye may read " + path};
  }
  return std::unexpected(std::move(failure));
}

Outcome<Exit> verify_ledger(Invocation& invocation) {
  CLI_TRY(const auto reader, open_ledger(invocation));
  CLI_TRY(const auto report, reader->verify());
  event::Value bad_sequence, bad_what;
  if (report.first_bad) {
    bad_sequence = static_cast<std::int64_t>(report.first_bad->sequence);
    bad_what = report.first_bad->what;
  }
  write_record(invocation, {{"entries"}, {"root"}, {"verdict"}, {"first_bad_seq"}, {"first_bad"}},
               {static_cast<std::int64_t>(report.entries), base::to_hex(report.root),
                std::string(report.first_bad ? "bad" : "intact"), bad_sequence, bad_what});
  if (!report.first_bad) return Exit::done;
  invocation.out().flush();
  return std::unexpected(
      Failure(Exit::integrity, "entry " + std::to_string(report.first_bad->sequence) +
                                   " of the ledger is bad: " + base::printable(report.first_bad->what)));
}

struct ShowOptions {
  std::int64_t from = -1;  // below zero: the last `limit` entries
  std::uint64_t limit = 20;
};

Outcome<Exit> show_ledger(const ShowOptions& options, Invocation& invocation) {
  CLI_TRY(const auto reader, open_ledger(invocation));
  CLI_TRY(const auto size, reader->size());
  const std::uint64_t from = options.from >= 0      ? static_cast<std::uint64_t>(options.from)
                             : size > options.limit ? size - options.limit
                                                    : 0;
  const bool wide = invocation.format() != Format::table;
  const auto writer = invocation.row_writer("-");
  std::vector<OutputColumn> columns = {{"seq"}, {"time", true}, {"actor"}, {"action"}, {"payload"}};
  if (wide) columns.insert(columns.end(), {{"payload_digest"}, {"previous_hash"}, {"entry_hash"}});
  writer->begin(std::move(columns));
  const auto read = reader->read(from, options.limit, [&](const ledger::Entry& entry) {
    Row row = {static_cast<std::int64_t>(entry.sequence), entry.time.ns, entry.actor, entry.action, entry.payload};
    if (wide) {
      for (const auto& digest : {entry.payload_digest, entry.previous_hash, entry.entry_hash}) {
        row.emplace_back(base::to_hex(digest));
      }
    }
    return writer->row(row);
  });
  writer->finish({}, read ? "" : read.error().message);
  if (!read) return std::unexpected(Failure(read.error()));
  return Exit::done;
}

}  // namespace

void add_audit(CLI::App& app, Action& chosen) {
  auto* audit = add_verb(app, "audit", "The audit ledger");
  audit->require_subcommand(1);
  add_verb(*audit, "verify", "Check every entry: order, digests, chain")->callback([&chosen] {
    chosen = verify_ledger;
  });
  auto* show = add_verb(*audit, "show", "Print entries, the last ones unless told");
  const auto options = std::make_shared<ShowOptions>();  // shared: the parser fills what the action reads
  show->add_option("--from", options->from, "From this sequence number on")
      ->type_name("SEQ")
      ->check(CLI::NonNegativeNumber);
  show->add_option("--limit", options->limit, "So many entries")
      ->type_name("N")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  show->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return show_ledger(*options, invocation); }; });
}

}  // namespace daemoneye::cli
