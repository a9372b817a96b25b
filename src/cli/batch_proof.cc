#include "cli/batch_proof.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "ledger/format.h"

namespace daemoneye::cli {
namespace {

using nlohmann::json;

// A root is written at most a second after its batches were sent, and a busy machine may be late.
constexpr std::int64_t seal_lag_ns = 10'000'000'000;
constexpr std::ptrdiff_t max_removals = 1000;
constexpr std::string_view collector_source = "procmond";

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<std::uint64_t> number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<std::uint64_t>();
}

std::optional<event::Epoch> epoch_of(const json& object) {
  const auto bytes = base::from_hex(text_of(object, "epoch"));
  event::Epoch epoch{};
  if (!bytes || bytes->size() != epoch.size()) return std::nullopt;
  std::ranges::copy(*bytes, epoch.begin());
  return epoch;
}

bool by_agent(const std::string& actor) { return actor == "agent" || actor.starts_with("uid:"); }

std::string name_of(const event::Epoch& epoch, std::uint64_t first, std::uint64_t last) {
  return "batch" +
         (first == last ? " " + std::to_string(first) : "es " + std::to_string(first) + " to " + std::to_string(last)) +
         " of epoch " + event::to_string(epoch);
}

}  // namespace

BatchProof::Epoch& BatchProof::begin_epoch(const event::Epoch& id) {
  newest_epoch_ = id;
  any_epoch_ = true;
  return epochs_[id];
}

void BatchProof::on_entry(const ledger::Entry& entry) {
  if (entry.actor == ledger::own_actor)
    entry.action == ledger::batches_action ? on_batches(entry) : on_own(entry);
  else if (by_agent(entry.actor))
    on_agents(entry);
}

void BatchProof::on_own(const ledger::Entry& entry) {
  constexpr std::string_view known[] = {ledger::epoch_action, ledger::acknowledged_action, ledger::crash_action, "stop",
                                        "gap"};
  if (std::ranges::find(known, entry.action) == std::end(known)) return;
  const auto payload = json::parse(entry.payload, nullptr, false);
  if (!payload.is_object()) return;
  if (entry.action == "gap") {
    const auto from = base::parse_iso(text_of(payload, "from")), to = base::parse_iso(text_of(payload, "to"));
    if (text_of(payload, "reason") == "store_rolled_back" && from && to) {
      removals_.push_back(
          {.cause = Cause::rolled_back, .entry = entry.sequence, .from = *from, .to = *to, .oldest = {}});
    }
    return;
  }
  const auto named = epoch_of(payload);
  if (entry.action == ledger::epoch_action) {
    if (!named) return;
    auto& epoch = begin_epoch(*named);
    epoch.named = epoch.tells_acknowledged = true;
    return;
  }
  // What ends or is acknowledged while the store is read may be stored after it was.
  if (!any_epoch_ || store_ended_) return;
  auto& epoch = epochs_[newest_epoch_];
  const auto acknowledged = number_of(payload, "acknowledged");
  if (acknowledged && named == newest_epoch_) epoch.acknowledged = std::max(epoch.acknowledged, *acknowledged);
  if (entry.action == ledger::acknowledged_action || epoch.ended) return;
  epoch.ended = true;
  epoch.ended_at = entry.time;
  if (entry.action == "stop") {
    epoch.ended_whole = number_of(payload, "unacknowledged_batches").value_or(0) == 0;
  } else if (text_of(payload, "machine") == "was started anew") {
    epoch.lost_second_entry = entry.sequence;
  }
}

void BatchProof::on_agents(const ledger::Entry& entry) {
  Removal removal{.entry = entry.sequence, .to = entry.time, .oldest = {}};
  if (entry.action == "agent.store_set_aside")
    removal.cause = Cause::set_aside;
  else if (entry.action == "agent.store_purge")
    removal.cause = Cause::purged;
  else if (entry.action != "agent.retention")
    return;
  if (removal.cause != Cause::set_aside) {
    const auto payload = json::parse(entry.payload, nullptr, false);
    if (!payload.is_object()) return;
    if (const auto before = base::parse_iso(text_of(payload, "before"))) removal.to = *before;
    const auto oldest = payload.find("oldest");
    if (oldest != payload.end() && oldest->is_object()) {
      const auto epoch = epoch_of(*oldest);
      const auto batch = number_of(*oldest, "batch");
      if (epoch && batch) removal.oldest = {*epoch, *batch};
    }
  }
  removals_.push_back(removal);
}

void BatchProof::on_batches(const ledger::Entry& entry) {
  const auto sealed = ledger::SealedBatches::parse(entry.payload);
  if (!sealed) return;  // verification of the ledger names what is no entry of ours
  auto& epoch = begin_epoch(sealed->epoch);
  epoch.ranges.push_back({.entry = entry.sequence,
                          .first = sealed->first,
                          .count = sealed->count,
                          .time = entry.time,
                          .root = sealed->root,
                          .late = store_ended_});
  epoch.ended = false;  // what a crash left comes before the record of the crash
  if (sealed->acknowledged) {
    epoch.tells_acknowledged = true;
    if (!store_ended_) epoch.acknowledged = std::max(epoch.acknowledged, *sealed->acknowledged);
  }
}

void BatchProof::on_journal(const std::vector<ledger::Ledger::BatchDigest>& journaled) {
  for (const auto& batch : journaled) journal_[{batch.epoch, batch.sequence}] = batch.digest;
}

void BatchProof::wrong(std::uint64_t batches, std::string what) {
  counts_.wrong += batches;
  if (wrong_.size() < max_told) wrong_.push_back(std::move(what));
}

const BatchProof::Range* BatchProof::range_of(const event::Epoch& id, std::uint64_t sequence) const {
  const auto epoch = epochs_.find(id);
  if (epoch == epochs_.end()) return nullptr;
  const auto& ranges = epoch->second.ranges;
  const auto after = std::ranges::upper_bound(ranges, sequence, {}, &Range::first);
  return after != ranges.begin() && (after - 1)->last() >= sequence ? &*(after - 1) : nullptr;
}

bool BatchProof::wants_time(const event::BatchId& id) const {
  return range_of(id.epoch, id.sequence) == nullptr && !journal_.contains({id.epoch, id.sequence});
}

void BatchProof::on_batch(const store::Reader::BatchRow& batch, const std::optional<base::Sha256Digest>& recomputed,
                          const std::string& problem, std::optional<Timestamp> newest) {
  const auto& [source, epoch_id, sequence] = batch.id;
  const std::string name = name_of(epoch_id, sequence, sequence) + " (events " + std::to_string(batch.first_event) +
                           " to " + std::to_string(batch.last_event) + ")";
  auto* range = const_cast<Range*>(range_of(epoch_id, sequence));
  if (const auto epoch = epochs_.find(epoch_id); epoch != epochs_.end()) {
    epoch->second.newest_stored = std::max(epoch->second.newest_stored, sequence);
  }
  const std::string altered = !recomputed                   ? "cannot be read: " + problem
                              : *recomputed != batch.digest ? "altered: its events are not those that were stored"
                              : source != collector_source
                                  ? "added: it is of the source '" + base::printable(source) + "'"
                                  : "";
  if (range != current_) {
    end_range();
    current_ = range;
    current_epoch_ = epoch_id;
    tree_ = {};
    if (range != nullptr) next_ = range->first;
    whole_ = true;
  }
  if (range != nullptr) {
    if (range->found == 0) range->first_found = sequence;
    range->last_found = std::max(range->last_found, sequence);
    oldest_stored_entry_ = std::min(oldest_stored_entry_, range->entry);
    if (!altered.empty()) {
      ++range->altered;
      ++range->found;
      whole_ = false;
      return wrong(1, name + ": " + altered);
    }
    if (sequence < next_) return wrong(1, name + ": stored twice");
    if (sequence != next_) whole_ = false;
    next_ = sequence + 1;
    ++range->found;
    tree_.add(ledger::leaf_hash(base::as_bytes(*recomputed)));
    return;
  }
  if (!altered.empty()) return wrong(1, name + ": " + altered);
  const auto journaled = journal_.find({epoch_id, sequence});
  if (journaled != journal_.end()) {
    if (journaled->second == *recomputed) {
      ++counts_.pending;
      return;
    }
    return wrong(1, name + ": altered: it is not what was journaled before it was sent");
  }
  // It may have been journaled after the journal was read, or sent in a second whose roots a crash took.
  if (unknown_count_ >= max_unknown) {
    ++more_unknown_;
    return;
  }
  ++unknown_count_;
  unknown_[epoch_id].push_back({sequence, *recomputed, name, newest});
}

void BatchProof::end_of_store() {
  end_range();
  store_ended_ = true;
}

void BatchProof::end_range() {
  if (current_ == nullptr) return;
  auto& range = *current_;
  current_ = nullptr;
  if (!whole_ || range.found != range.count) return;  // accounted for in the end, when all is known
  if (tree_.root() == range.root) {
    counts_.proven += range.count;
  } else {
    wrong(range.count, name_of(current_epoch_, range.first, range.last()) +
                           ": altered, with their stored digests: their root is not that of the ledger's entry " +
                           std::to_string(range.entry));
  }
}

void BatchProof::tell_claim(std::string what) {
  if (told_claims_.size() < max_told) told_claims_.push_back(std::move(what));
}

// Of retentions the one that reached farthest tells all: a ledger of years holds very many, and more batches.
void BatchProof::merge_removals() {
  std::optional<Removal> by_order, by_time;
  for (auto& removal : removals_) {
    if (removal.cause != Cause::retention) continue;
    const auto* range = removal.oldest ? range_of(removal.oldest->first, removal.oldest->second) : nullptr;
    if (range != nullptr) {
      removal.oldest_entry = range->entry;
      if (!by_order || *by_order->oldest_entry <= range->entry) by_order = removal;
    } else if (!by_time || by_time->to <= removal.to) {
      by_time = removal;
    }
  }
  std::erase_if(removals_, [](const Removal& removal) { return removal.cause == Cause::retention; });
  if (removals_.size() > max_removals) removals_.erase(removals_.begin(), removals_.end() - max_removals);
  for (auto& merged : {by_order, by_time}) {
    if (merged) removals_.push_back(*merged);
  }
}

bool BatchProof::explains(const Removal& removal, const Range& range, bool oldest_of_all) {
  if (removal.entry < range.entry) return false;
  switch (removal.cause) {
    case Cause::rolled_back: return range.time.ns >= removal.from.ns && range.time.ns <= removal.to.ns + seal_lag_ns;
    case Cause::purged: return range.time.ns <= removal.to.ns + seal_lag_ns;
    case Cause::set_aside: return oldest_of_all;
    case Cause::retention:
      // It takes the oldest first: what lies behind something that is still there it has not taken.
      if (!oldest_of_all) return false;
      return removal.oldest_entry ? range.entry <= *removal.oldest_entry : range.time.ns <= removal.to.ns + seal_lag_ns;
  }
  return false;
}

void BatchProof::account_removed(const event::Epoch& id, const Range& range, std::uint64_t missing,
                                 bool oldest_of_all) {
  if (oldest_of_all && range.time < options_.kept_since) {
    counts_.explained += missing;
    return;
  }
  const auto by =
      std::ranges::find_if(removals_, [&](const Removal& removal) { return explains(removal, range, oldest_of_all); });
  if (by == removals_.end()) {
    const bool all = missing == range.count;
    return wrong(missing, name_of(id, range.first, range.last()) + ": " +
                              (all ? "all" : std::to_string(missing) + " of " + std::to_string(range.count)) +
                              " missing, and neither retention, a purge nor a crash is recorded that would explain it");
  }
  counts_.explained += missing;
  counts_.claimed += missing;
  by->claimed += missing;
}

void BatchProof::account(const Epoch& epoch, const event::Epoch& id, const Range& range) {
  // What was acknowledged, or lies before something that is stored, had been stored. The rest may never have been.
  const std::uint64_t stored_until = std::min(range.last(), std::max(epoch.acknowledged, epoch.newest_stored));
  const std::uint64_t had = stored_until < range.first ? 0 : stored_until - range.first + 1;
  const std::uint64_t missing = had - std::min(had, range.found), open = range.count - std::max(had, range.found);
  if (missing > 0) {
    // Those in front of all that is stored, and no others?
    const bool front = range.found == 0 || missing == range.first_found - range.first;
    const bool oldest_of_all = range.entry < oldest_stored_entry_ || (range.entry == oldest_stored_entry_ && front);
    account_removed(id, range, missing, oldest_of_all);
  }
  const bool running = !epoch.ended && id == newest_epoch_;
  if (open > 0 && running) {
    counts_.pending += open;  // sent, and not acknowledged yet
  } else if (open > 0 && epoch.ended_whole) {
    wrong(open, name_of(id, range.first, range.last()) + ": the last " + std::to_string(open) +
                    " missing, and the collector stopped when all of them were acknowledged");
  } else if (open > 0) {
    counts_.explained += open;
    // A ledger of before acknowledgements were recorded: how many may be missing is not known.
    if (!epoch.tells_acknowledged) {
      counts_.claimed += open;
      tell_claim(name_of(id, range.first, range.last()) + ": the last " + std::to_string(open) +
                 " missing at a crash, and what had been acknowledged is not recorded");
    }
  }
  // Without all of a root's batches nothing can be shown of the others; those that are altered were named.
  const std::uint64_t others = range.found - std::min(range.found, range.altered);
  (open > 0 && running ? counts_.pending : counts_.explained) += others;
}

// No root, no journal: those that were sent in the last second before the machine crashed, and no others, may be so.
bool BatchProof::is_lost_second(const Epoch& epoch, const std::vector<Unknown>& batches) const {
  if (!epoch.lost_second_entry || batches.size() > ledger::max_journaled_batches) return false;
  std::uint64_t expected = epoch.ranges.empty() ? 1 : epoch.ranges.back().last() + 1;
  std::optional<Timestamp> from, to;
  for (const auto& batch : batches) {
    if (batch.sequence != expected++) return false;
    if (!batch.newest) continue;
    from = std::min(from.value_or(*batch.newest), *batch.newest);
    to = std::max(to.value_or(*batch.newest), *batch.newest);
  }
  return !from || (to->ns - from->ns <= seal_lag_ns && to->ns <= epoch.ended_at.ns);
}

void BatchProof::account_unknown(const event::Epoch& id, const std::vector<Unknown>& batches) {
  const auto epoch = epochs_.find(id);
  std::vector<Unknown> rest;
  for (const auto& batch : batches) {
    const auto journaled = journal_.find({id, batch.sequence});
    const auto* range = range_of(id, batch.sequence);
    if ((journaled != journal_.end() && journaled->second == batch.digest) || (range != nullptr && range->late)) {
      ++counts_.pending;  // it came while we read; the next look proves it
    } else {
      rest.push_back(batch);
    }
  }
  if (rest.empty()) return;
  if (epoch != epochs_.end() && is_lost_second(epoch->second, rest)) {
    counts_.explained += rest.size();
    counts_.claimed += rest.size();
    tell_claim(name_of(id, rest.front().sequence, rest.back().sequence) +
               ": sent in the last second before the machine crashed (entry " +
               std::to_string(*epoch->second.lost_second_entry) + "), which took their root");
    return;
  }
  for (const auto& batch : rest) wrong(1, batch.name + ": added: the ledger knows nothing of it");
}

void BatchProof::finish() {
  merge_removals();
  for (const auto& [id, epoch] : epochs_) {
    for (const auto& range : epoch.ranges) {
      if (range.late || (range.found == range.count && range.altered == 0)) continue;
      account(epoch, id, range);
    }
  }
  for (const auto& [id, batches] : unknown_) account_unknown(id, batches);
  if (more_unknown_ > 0) wrong(more_unknown_, std::to_string(more_unknown_) + " more batches the ledger does not know");
  for (const auto& removal : removals_) {
    if (removal.claimed == 0) continue;
    constexpr std::string_view causes[] = {"a store that was put back", "a purge", "a store that was set aside",
                                           "retention"};
    tell_claim(std::to_string(removal.claimed) + " batches missing by " +
               std::string(causes[static_cast<std::size_t>(removal.cause)]) + ", which entry " +
               std::to_string(removal.entry) + " records as the agent told it");
  }
}

}  // namespace daemoneye::cli
