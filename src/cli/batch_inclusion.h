// That single events are what was recorded: their batches, each from its digest up to the root that the ledger has for
// it, and from that entry of the ledger to a signed checkpoint.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ledger/format.h"
#include "ledger/proof.h"
#include "ledger/reader.h"
#include "store/reader.h"

namespace daemoneye::cli {

struct BatchInclusion {
  enum class State : std::uint8_t {
    proven,     // the batch's events give its digest, the digest leads to the root, the entry to a checkpoint
    unsigned_,  // the same, and no checkpoint covers the entry yet
    pending,    // journaled before it was sent; its root comes within a second or so
    unproven,   // nothing is wrong, and nothing shown: `why`
    altered,    // not what was recorded: `why`
  };
  State state = State::unproven;
  std::string why;
  event::BatchId id;
  base::Sha256Digest digest{};                  // as recomputed from its events
  std::vector<event::EventId> events;           // those that were asked about
  std::optional<ledger::SealedBatches> sealed;  // the root's entry, when there is one
  std::uint64_t entry = 0;                      // its sequence
  Timestamp entry_time;
  ledger::Hashes path;  // RFC 6962, from the digest's leaf to sealed->root
};
std::string_view to_string(BatchInclusion::State state);

struct Inclusion {
  std::vector<BatchInclusion> batches;            // in order of commit
  std::map<std::uint64_t, ledger::Proof> proofs;  // by the entry's sequence
  std::size_t more_batches = 0;                   // of events asked about, beyond max_included_batches
  std::string origin;                             // of the checkpoints
  bool altered() const;
};

inline constexpr std::size_t max_included_batches = 32;

struct AskedEvent {
  event::EventId id = 0;
  Timestamp time;  // where to look in the ledger first
};

// `stop`: asked now and then; then cancelled.
Result<Inclusion> prove_inclusion(store::Reader& store, const ledger::LedgerReader& ledger,
                                  std::span<const AskedEvent> events, const std::function<bool()>& stop);

}  // namespace daemoneye::cli
