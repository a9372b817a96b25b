// report: an alert as one page that can be kept, sent and printed.
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <ostream>

#include "base/file.h"
#include "base/text.h"
#include "cli/alerts.h"
#include "cli/report_page.h"
#include "cli/verbs.h"

namespace daemoneye::cli {
namespace {

constexpr std::size_t max_key_file_bytes = 4096;
constexpr unsigned page_mode = 0600;  // command lines of all users: the maker decides who else reads them

struct Request {
  std::string alert, file;
  bool yes = false;
};

// The asked question must be meant: what is there may be the copy of another alert.
Outcome<bool> may_write(const Request& request, Invocation& invocation) {
  struct stat status{};
  if (::lstat(request.file.c_str(), &status) != 0) return true;
  if (!S_ISREG(status.st_mode)) {
    return std::unexpected(
        Failure(Exit::usage, base::printable(request.file) + " is there and no file; - writes to the output"));
  }
  return invocation.confirmed("Replace " + base::printable(request.file) + '?', request.yes);
}

std::string user_name() {
  const auto uid = ::geteuid();
  const auto* entry = ::getpwuid(uid);  // NOLINT(concurrency-mt-unsafe): there is one thread
  return entry != nullptr ? std::string(entry->pw_name) : "uid " + std::to_string(uid);
}

void check_signatures(ReportProofs& proofs, const std::string& key_path) {
  const auto text = base::read_file(key_path, max_key_file_bytes);
  if (!text) return;
  const auto key = ledger::PublicKey::parse(base::trim(*text));
  if (!key) return;
  proofs.key = key->text();
  for (const auto& [sequence, proof] : proofs.inclusion->proofs) {
    proofs.signatures_hold = proofs.signatures_hold.value_or(true) && ledger::verify_proof(proof, *key).has_value();
  }
}

Outcome<ReportProofs> find_proofs(const AlertCase& found, store::Reader& store, Invocation& invocation) {
  ReportProofs proofs;
  CLI_TRY(const auto* loaded, invocation.loaded());
  const auto& audit = loaded->settings.audit;
  const auto ledger = ledger::LedgerReader::open(audit.path);
  if (!ledger) {
    proofs.why = "The ledger cannot be read here: " + ledger.error().message;
    return proofs;
  }
  std::vector<AskedEvent> asked;
  for (const auto& each : found.events) {
    if (each.evidence) asked.push_back({each.id, each.event.time});
  }
  auto inclusion = prove_inclusion(store, **ledger, asked,
                                   [&] { return invocation.deadline().expired() || invocation.interrupted(); });
  if (!inclusion) {
    if (invocation.interrupted()) return std::unexpected(Failure(inclusion.error()));
    proofs.why = "The proofs could not be found: " + inclusion.error().message;
    return proofs;
  }
  proofs.inclusion = std::move(*inclusion);
  check_signatures(proofs, audit.key_path + ".pub");
  return proofs;
}

Outcome<Report> make_report(const std::string& alert, Invocation& invocation) {
  CLI_TRY(const auto connection, invocation.connect());
  Report report;
  CLI_TRY(const auto id, find_alert(*connection, alert, invocation.deadline()));
  CLI_TRY(report.found, collect_case(*connection, invocation, id));
  CLI_TRY(report.rule, collect_rule(*connection, invocation, report.found.alert));
  CLI_TRY(report.proofs, find_proofs(report.found, connection->reader(), invocation));
  report.made = base::wall_now();
  report.version = DAEMONEYE_VERSION;
  report.made_by = user_name();
  return report;
}

// The page is there whatever it says; the exit code says it too.
Outcome<Exit> verdict(const Report& report, Invocation& invocation) {
  const auto& proofs = report.proofs;
  if ((proofs.inclusion && proofs.inclusion->altered()) || proofs.signatures_hold == false) {
    Failure failure(Exit::integrity, "evidence of this alert is not what the ledger says");
    if (proofs.inclusion) {
      for (const auto& batch : proofs.inclusion->batches) {
        if (batch.state != BatchInclusion::State::altered) continue;
        failure.details.push_back("batch " + std::to_string(batch.id.sequence) + ": " + base::printable(batch.why));
      }
    }
    return std::unexpected(std::move(failure));
  }
  const auto completeness = completeness_of(report.found);
  invocation.tell(completeness, false);
  return exit_for(completeness);
}

Outcome<Exit> run_report(const Request& request, Invocation& invocation) {
  const bool to_output = request.file == "-";
  // Asked before the work, so that nobody waits for a question.
  if (!to_output) {
    CLI_TRY([[maybe_unused]] const bool replace, may_write(request, invocation));
  }
  CLI_TRY(const auto report, make_report(request.alert, invocation));
  const auto page = report_page(report);
  if (to_output) {
    invocation.out() << page;
    invocation.out().flush();
    return verdict(report, invocation);
  }
  if (auto written = base::write_file_atomic(request.file, page, page_mode); !written) {
    return std::unexpected(Failure(written.error()));
  }
  const auto count = [](std::size_t number) { return static_cast<std::int64_t>(number); };
  std::int64_t proven = 0, batches = 0;
  if (report.proofs.inclusion) {
    for (const auto& batch : report.proofs.inclusion->batches) {
      ++batches;
      proven += batch.state == BatchInclusion::State::proven ? 1 : 0;
    }
  }
  write_record(invocation, {{"path"}, {"bytes"}, {"processes"}, {"events"}, {"batches"}, {"proven"}},
               {request.file, count(page.size()), count(report.found.family.size()), count(report.found.events.size()),
                batches, proven});
  invocation.out().flush();
  return verdict(report, invocation);
}

}  // namespace

void add_report(CLI::App& app, Action& chosen) {
  auto* verb = add_verb(app, "report", "Write one alert as a page: its tree, timeline, rule, evidence and proofs");
  const auto request = std::make_shared<Request>();  // shared: the parser fills what the action reads
  verb->add_option("ALERT", request->alert, "The alert's id, or its beginning")->required();
  verb->add_option("--html", request->file, "File to write, - for the output")->required()->type_name("FILE");
  verb->add_flag("--yes", request->yes, "Replace the file when it is there");
  verb->footer(
      "The page needs nothing else: no network, no script. Exit code 5: its evidence was altered; 3: something "
      "is missing; the page says what.");
  verb->callback(
      [request, &chosen] { chosen = [request](Invocation& invocation) { return run_report(*request, invocation); }; });
}

}  // namespace daemoneye::cli
