#include "cli/audit_events.h"

#include <algorithm>

#include "base/text.h"
#include "cli/batch_proof.h"
#include "cli/progress.h"

namespace daemoneye::cli {
namespace {

std::unexpected<Failure> interrupted() {
  return std::unexpected(Failure(Exit::failed, "stopped before the end", {"--timeout gives it more time"}));
}

std::optional<Timestamp> newest_event(const std::string& canonical) {
  const auto batch = event::decode_batch(canonical);
  if (!batch || batch->events.empty()) return std::nullopt;
  return std::ranges::max(batch->events, {}, &event::ProcessEvent::time).time;
}

// What retention removes as too old. Events a little younger than that are in the batches of the same root.
Timestamp kept_since(std::uint32_t retention_days) {
  if (retention_days == 0) return Timestamp{INT64_MIN};
  constexpr std::int64_t ns_per_day = 86'400'000'000'000;
  return Timestamp{base::wall_now().ns - std::int64_t{retention_days} * ns_per_day};
}

class Look {
 public:
  Look(const ledger::LedgerReader& ledger, store::Reader& store, Invocation& invocation, Timestamp kept_since)
      : ledger_(ledger), store_(store), invocation_(invocation), proof_({.kept_since = kept_since}) {}

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
      std::optional<Timestamp> newest;
      if (canonical && proof_.wants_time(batch.id)) newest = newest_event(*canonical);
      proof_.on_batch(batch, digest, canonical ? "" : canonical.error().message, newest);
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
  CLI_TRY(const auto* loaded, invocation.loaded());
  const auto days = loaded->settings.database.retention_days;
  CLI_TRY(const auto proof, Look(ledger, *store, invocation, kept_since(days)).run());
  const auto& counts = proof.counts();
  const bool good = counts.wrong == 0;
  event::Value first_wrong;
  if (!good) first_wrong = proof.wrong().front();
  const auto* verdict = !good ? "bad" : counts.claimed > 0 ? "claimed" : "intact";
  write_record(invocation,
               {{"verdict"}, {"proven"}, {"pending"}, {"explained"}, {"claimed"}, {"wrong"}, {"first_wrong"}},
               {std::string(verdict), static_cast<std::int64_t>(counts.proven),
                static_cast<std::int64_t>(counts.pending), static_cast<std::int64_t>(counts.explained),
                static_cast<std::int64_t>(counts.claimed), static_cast<std::int64_t>(counts.wrong), first_wrong});
  if (good && counts.claimed == 0) return Exit::done;
  invocation.out().flush();
  const auto failure_of = [](Exit exit, const std::string& what, const std::vector<std::string>& details) {
    Failure failure(exit, what);
    for (const auto& detail : details) failure.details.push_back(base::printable(detail));
    return std::unexpected(std::move(failure));
  };
  if (good) {
    return failure_of(Exit::degraded,
                      std::to_string(counts.claimed) +
                          " batches of events are explained by nothing that the agent could not have made up",
                      proof.claims());
  }
  return failure_of(Exit::integrity, std::to_string(counts.wrong) + " batches of events are not what the ledger says",
                    proof.wrong());
}

}  // namespace daemoneye::cli
