#include "cli/audit_events.h"

#include "base/text.h"
#include "cli/batch_proof.h"
#include "cli/progress.h"

namespace daemoneye::cli {
namespace {

std::unexpected<Failure> interrupted() {
  return std::unexpected(Failure(Exit::failed, "stopped before the end", {"--timeout gives it more time"}));
}

class Look {
 public:
  Look(const ledger::LedgerReader& ledger, store::Reader& store, Invocation& invocation)
      : ledger_(ledger), store_(store), invocation_(invocation) {}

  Outcome<BatchProof> run() {
    if (auto read = ledger_until_now(); !read) return std::unexpected(read.error());
    CLI_TRY(const auto stats, store_.stats());
    Progress progress(invocation_, "holding events against the ledger");
    std::uint64_t done = 0;
    const auto read = store_.batches([&](const store::Reader::BatchRow& batch) {
      const auto canonical = store_.reconstruct_batch(batch);
      if (!canonical && canonical.error().code == Errc::not_found) return true;  // retention was faster
      std::optional<base::Sha256Digest> digest;
      if (canonical) digest = event::batch_digest(*canonical);
      proof_.on_batch(batch, digest, canonical ? "" : canonical.error().message);
      progress.show(++done, stats.batches);
      return done % 64 != 0 || !stop();
    });
    progress.clear();
    if (!read) return std::unexpected(Failure(read.error()));
    if (stop()) return interrupted();
    proof_.end_of_store();
    if (auto again = ledger_until_now(); !again) return std::unexpected(again.error());
    proof_.finish();
    return std::move(proof_);
  }

 private:
  bool stop() { return invocation_.interrupted() || invocation_.deadline().expired(); }
  // The journal before the entries: what is sealed in between is in one of the two.
  std::expected<void, Failure> ledger_until_now() {
    const auto journaled = ledger_.journaled();
    if (!journaled) return std::unexpected(Failure(journaled.error()));
    const auto read = ledger_.read(entries_, UINT64_MAX, [&](const ledger::Entry& entry) {
      proof_.on_entry(entry);
      return ++entries_ % 1024 != 0 || !stop();
    });
    if (!read) return std::unexpected(Failure(read.error()));
    if (stop()) return interrupted();
    proof_.on_journal(*journaled);
    return {};
  }

  const ledger::LedgerReader& ledger_;
  store::Reader& store_;
  Invocation& invocation_;
  BatchProof proof_;
  std::uint64_t entries_ = 0;
};

}  // namespace

Outcome<Exit> verify_events(const ledger::LedgerReader& ledger, Invocation& invocation) {
  CLI_TRY(const auto store, invocation.reader());
  CLI_TRY(const auto proof, Look(ledger, *store, invocation).run());
  const auto& counts = proof.counts();
  const bool good = counts.wrong == 0;
  event::Value first_wrong;
  if (!good) first_wrong = proof.wrong().front();
  write_record(invocation, {{"verdict"}, {"proven"}, {"pending"}, {"explained"}, {"wrong"}, {"first_wrong"}},
               {std::string(good ? "intact" : "bad"), static_cast<std::int64_t>(counts.proven),
                static_cast<std::int64_t>(counts.pending), static_cast<std::int64_t>(counts.explained),
                static_cast<std::int64_t>(counts.wrong), first_wrong});
  if (good) return Exit::done;
  invocation.out().flush();
  Failure failure(Exit::integrity, std::to_string(counts.wrong) + " batches of events are not what the ledger says");
  for (const auto& what : proof.wrong()) failure.details.push_back(base::printable(what));
  return std::unexpected(std::move(failure));
}

}  // namespace daemoneye::cli
