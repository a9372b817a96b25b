#include "cli/batch_inclusion.h"

#include <algorithm>

#include "ledger/merkle.h"

namespace daemoneye::cli {
namespace {

using State = BatchInclusion::State;

// A root is written within a second of its batches; clocks that were set and busy machines may make that more.
constexpr std::int64_t look_before_ns = 60'000'000'000;
// The batches of one root lie near each other: so many events back the walk begins, then at the beginning.
constexpr event::EventId events_before = 65'536;

struct Found {
  store::Reader::BatchRow row;
  BatchInclusion inclusion;
  Timestamp time;  // of one of its events
};

class Prover {
 public:
  Prover(store::Reader& store, const ledger::LedgerReader& ledger, const std::function<bool()>& stop)
      : store_(store), ledger_(ledger), stop_(stop) {}

  Result<Inclusion> run(std::span<const AskedEvent> events) {
    DE_CHECK(find_batches(events));
    for (auto& found : found_) DE_CHECK(recompute(found));
    DE_CHECK(find_roots());
    DE_CHECK(find_siblings());
    for (auto& found : found_) lead_to_root(found.inclusion);
    DE_CHECK(prove_entries());
    for (auto& found : found_) out_.batches.push_back(std::move(found.inclusion));
    return std::move(out_);
  }

 private:
  Result<void> stopped() const {
    if (stop_()) return fail(Errc::cancelled, "stopped before the proofs were found");
    return {};
  }

  Result<void> find_batches(std::span<const AskedEvent> events) {
    std::vector<AskedEvent> asked(events.begin(), events.end());
    std::ranges::sort(asked, {}, &AskedEvent::id);
    if (asked.empty()) return {};
    std::size_t next = 0;
    DE_CHECK(store_.batches(
        [&](const store::Reader::BatchRow& row) {
          while (next < asked.size() && asked[next].id < row.first_event) ++next;  // not kept
          if (next >= asked.size()) return false;
          if (asked[next].id > row.last_event) return !stop_();
          if (found_.size() >= max_included_batches) {
            ++out_.more_batches;
          } else {
            found_.push_back({row, {}, asked[next].time});
            found_.back().inclusion.id = row.id;
          }
          for (; next < asked.size() && asked[next].id <= row.last_event; ++next) {
            if (out_.more_batches == 0) found_.back().inclusion.events.push_back(asked[next].id);
          }
          return next < asked.size() && !stop_();
        },
        asked.front().id));
    return stopped();
  }

  Result<void> recompute(Found& found) {
    const auto canonical = store_.reconstruct_batch(found.row);
    if (!canonical) {
      if (canonical.error().code == Errc::not_found) {
        found.inclusion.why = "retention removed it meanwhile";
        return {};
      }
      found.inclusion.state = State::altered;
      found.inclusion.why = "its events cannot be read: " + canonical.error().message;
      return {};
    }
    found.inclusion.digest = event::batch_digest(*canonical);
    if (found.inclusion.digest != found.row.digest) {
      found.inclusion.state = State::altered;
      found.inclusion.why = "its events do not give the digest that was stored with them";
    }
    return {};
  }

  // Entries are in order of time.
  Result<std::uint64_t> first_entry_at(Timestamp time) {
    DE_TRY(const auto size, ledger_.size());
    std::uint64_t low = 0, high = size;
    while (low < high) {
      const auto middle = low + (high - low) / 2;
      bool before = false;
      DE_CHECK(ledger_.read(middle, 1, [&](const ledger::Entry& entry) {
        before = entry.time < time;
        return false;
      }));
      if (before)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

  Result<void> find_roots() {
    DE_TRY(const auto journaled, ledger_.journaled());
    std::optional<Timestamp> first;
    for (const auto& found : found_) first = std::min(first.value_or(found.time), found.time);
    if (!first) return {};
    DE_TRY(const auto from, first_entry_at(Timestamp{first->ns - look_before_ns}));
    DE_CHECK(read_roots(from, UINT64_MAX));
    // A clock that was set back between: the root lies before where it was looked for.
    if (without_root() > 0) DE_CHECK(read_roots(0, from));
    for (auto& found : found_) {
      auto& inclusion = found.inclusion;
      if (inclusion.sealed || inclusion.state == State::altered || !inclusion.why.empty()) continue;
      const auto known = std::ranges::find_if(journaled, [&](const ledger::Ledger::BatchDigest& each) {
        return each.epoch == inclusion.id.epoch && each.sequence == inclusion.id.sequence;
      });
      if (known == journaled.end()) {
        inclusion.why =
            "this ledger has no root for it: it is of another collector or was imported, or a crash of the "
            "machine took the root; audit verify --events tells which";
      } else if (known->digest == inclusion.digest) {
        inclusion.state = State::pending;
        inclusion.why = "journaled before it was sent; its root is written within a second";
      } else {
        inclusion.state = State::altered;
        inclusion.why = "it is not what was journaled before it was sent";
      }
    }
    return {};
  }

  [[nodiscard]] std::size_t without_root() const {
    return static_cast<std::size_t>(std::ranges::count_if(found_, [](const Found& found) {
      return !found.inclusion.sealed && (found.inclusion.why.empty() || found.inclusion.state == State::altered);
    }));
  }

  Result<void> read_roots(std::uint64_t from, std::uint64_t until) {
    std::size_t left = without_root();
    std::uint64_t read = 0;
    DE_CHECK(ledger_.read(from, until - from, [&](const ledger::Entry& entry) {
      if (++read % 1024 == 0 && stop_()) return false;
      if (entry.actor != ledger::own_actor || entry.action != ledger::batches_action) return left > 0;
      const auto sealed = ledger::SealedBatches::parse(entry.payload);
      if (!sealed) return left > 0;
      for (auto& found : found_) {
        auto& inclusion = found.inclusion;
        const auto sequence = inclusion.id.sequence;
        if (inclusion.sealed || inclusion.id.epoch != sealed->epoch) continue;
        if (sequence < sealed->first || sequence > sealed->last()) continue;
        inclusion.sealed = *sealed;
        inclusion.entry = entry.sequence;
        inclusion.entry_time = entry.time;
        left -= std::min<std::size_t>(left, 1);
      }
      return left > 0;
    }));
    return stopped();
  }

  using Key = std::pair<event::Epoch, std::uint64_t>;

  // The digests of all batches that share a root with one of ours, as the store has them: whether they lead to the root
  // shows whether they are right.
  Result<void> find_siblings() {
    std::vector<const ledger::SealedBatches*> wanted;
    std::size_t missing = 0;
    for (const auto& found : found_) {
      const auto& sealed = found.inclusion.sealed;
      if (!sealed) continue;
      const bool there = std::ranges::any_of(
          wanted, [&](const auto* each) { return each->epoch == sealed->epoch && each->first == sealed->first; });
      if (there) continue;
      wanted.push_back(&*sealed);
      missing += sealed->count;
    }
    if (wanted.empty()) return {};
    const event::EventId first = found_.front().row.first_event;
    for (const event::EventId from : {std::max<event::EventId>(first - events_before, 0), event::EventId{0}}) {
      DE_CHECK(store_.batches(
          [&](const store::Reader::BatchRow& row) {
            for (const auto* sealed : wanted) {
              if (row.id.epoch != sealed->epoch || row.id.sequence < sealed->first || row.id.sequence > sealed->last())
                continue;
              if (digests_.emplace(Key{row.id.epoch, row.id.sequence}, row.digest).second) --missing;
            }
            return missing > 0 && !stop_();
          },
          from));
      DE_CHECK(stopped());
      if (missing == 0 || from == 0) break;
    }
    return {};
  }

  void lead_to_root(BatchInclusion& inclusion) {
    if (!inclusion.sealed || inclusion.state == State::altered) return;
    const auto& sealed = *inclusion.sealed;
    const std::uint64_t index = inclusion.id.sequence - sealed.first;
    ledger::Hashes leaves;
    for (std::uint64_t n = sealed.first; n <= sealed.last(); ++n) {
      const auto found = digests_.find({sealed.epoch, n});
      if (found == digests_.end()) {
        inclusion.why = "batch " + std::to_string(n) + ", which its root covers too, is no longer kept";
        return;
      }
      leaves.push_back(ledger::leaf_hash(base::as_bytes(found->second)));
    }
    const auto node = [&](unsigned level, std::uint64_t number) -> Result<base::Sha256Digest> {
      ledger::MerkleTree tree;
      for (auto n = number << level; n < (number + 1) << level && n < leaves.size(); ++n) tree.add(leaves[n]);
      return tree.root();
    };
    const auto path = ledger::inclusion_proof(index, sealed.count, node);
    const auto leaf = ledger::leaf_hash(base::as_bytes(inclusion.digest));
    if (!path || !ledger::proves_inclusion(index, sealed.count, leaf, *path, sealed.root)) {
      inclusion.state = State::altered;
      inclusion.why = "it does not lead to the root that entry " + std::to_string(inclusion.entry) +
                      " has for it: it was altered with its digest, or a batch beside it was";
      return;
    }
    inclusion.path = *path;
    inclusion.state = State::unsigned_;
  }

  Result<void> prove_entries() {
    for (auto& found : found_) {
      auto& inclusion = found.inclusion;
      if (inclusion.state != State::unsigned_) continue;
      if (!out_.proofs.contains(inclusion.entry)) {
        auto proof = ledger_.prove_entry(inclusion.entry);
        if (!proof) {
          if (proof.error().code != Errc::unavailable) return std::unexpected(proof.error());
          inclusion.why = proof.error().message;
          continue;
        }
        DE_TRY(const auto note, ledger::Note::parse(proof->checkpoint));
        DE_TRY(const auto checkpoint, ledger::Checkpoint::parse(note.text));
        out_.origin = checkpoint.origin;
        out_.proofs.emplace(inclusion.entry, std::move(*proof));
      }
      inclusion.state = State::proven;
    }
    return {};
  }

  store::Reader& store_;
  const ledger::LedgerReader& ledger_;
  const std::function<bool()>& stop_;
  std::vector<Found> found_;
  std::map<Key, base::Sha256Digest> digests_;
  Inclusion out_;
};

}  // namespace

std::string_view to_string(BatchInclusion::State state) {
  switch (state) {
    case State::proven: return "proven";
    case State::unsigned_: return "not signed yet";
    case State::pending: return "pending";
    case State::unproven: return "not proven";
    case State::altered: return "altered";
  }
  return "unknown";
}

bool Inclusion::altered() const {
  return std::ranges::any_of(batches, [](const BatchInclusion& each) { return each.state == State::altered; });
}

Result<Inclusion> prove_inclusion(store::Reader& store, const ledger::LedgerReader& ledger,
                                  std::span<const AskedEvent> events, const std::function<bool()>& stop) {
  return Prover(store, ledger, stop).run(events);
}

}  // namespace daemoneye::cli
