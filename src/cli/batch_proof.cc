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
constexpr std::string_view collector_source = "procmond";

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::uint64_t number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

bool by_agent(const std::string& actor) { return actor == "agent" || actor.starts_with("uid:"); }

std::string name_of(const event::Epoch& epoch, std::uint64_t first, std::uint64_t last) {
  return "batch" +
         (first == last ? " " + std::to_string(first) : "es " + std::to_string(first) + " to " + std::to_string(last)) +
         " of epoch " + event::to_string(epoch);
}

}  // namespace

void BatchProof::on_entry(const ledger::Entry& entry) {
  if (entry.actor == "procmond" && entry.action == "batches") return on_batches(entry);
  const bool own = entry.actor == "procmond";
  if (own && (entry.action == "crash_recovery" || entry.action == "stop" || entry.action == "gap")) {
    const auto payload = json::parse(entry.payload, nullptr, false);
    if (!payload.is_object()) return;
    if (entry.action == "crash_recovery") {
      on_end_of_epoch(entry, true, text_of(payload, "machine") != "went on");
    } else if (entry.action == "stop") {
      on_end_of_epoch(entry, number_of(payload, "unacknowledged_batches") > 0, false);
    } else if (text_of(payload, "reason") == "store_rolled_back") {
      removals_.push_back({entry.sequence, entry.time});
    }
    return;
  }
  if (!by_agent(entry.actor)) return;
  if (entry.action == "agent.store_set_aside") {
    removals_.push_back({entry.sequence, entry.time});
  } else if (entry.action == "agent.store_purge" || entry.action == "agent.retention") {
    const auto payload = json::parse(entry.payload, nullptr, false);
    if (!payload.is_object()) return;
    const auto before = base::parse_iso(text_of(payload, "before"));
    removals_.push_back({entry.sequence, before ? *before : entry.time});
  }
}

void BatchProof::on_batches(const ledger::Entry& entry) {
  const auto sealed = ledger::SealedBatches::parse(entry.payload);
  if (!sealed) return;  // verification of the ledger names what is no entry of ours
  auto& epoch = epochs_[sealed->epoch];
  epoch.ranges.push_back({.entry = entry.sequence,
                          .first = sealed->first,
                          .count = sealed->count,
                          .time = entry.time,
                          .root = sealed->root,
                          .late = store_ended_});
  epoch.last_entry = entry.sequence;
  epoch.ended_by.reset();  // what a crash left comes before the record of the crash
  newest_epoch_ = sealed->epoch;
  any_epoch_ = true;
}

void BatchProof::on_end_of_epoch(const ledger::Entry& entry, bool may_miss, bool may_lack_root) {
  machine_crashed_ = machine_crashed_ || may_lack_root;
  if (!any_epoch_) return;
  auto& epoch = epochs_[newest_epoch_];
  if (epoch.ended_by) return;
  epoch.ended_by = entry.sequence;
  epoch.may_miss = may_miss;
  epoch.may_lack_root = may_lack_root;
}

void BatchProof::on_journal(const std::vector<ledger::Ledger::BatchDigest>& journaled) {
  for (const auto& batch : journaled) journal_[{batch.epoch, batch.sequence}] = batch.digest;
}

void BatchProof::wrong(std::uint64_t batches, std::string what) {
  counts_.wrong += batches;
  if (wrong_.size() < max_told) wrong_.push_back(std::move(what));
}

bool BatchProof::removed(const Range& range) const {
  return std::ranges::any_of(removals_, [&](const Removal& removal) {
    return removal.entry > range.entry && range.time.ns <= removal.before.ns + seal_lag_ns;
  });
}

void BatchProof::on_batch(const store::Reader::BatchRow& batch, const std::optional<base::Sha256Digest>& recomputed,
                          const std::string& problem) {
  const auto& [source, epoch_id, sequence] = batch.id;
  const std::string name = name_of(epoch_id, sequence, sequence) + " (events " + std::to_string(batch.first_event) +
                           " to " + std::to_string(batch.last_event) + ")";
  const auto epoch = epochs_.find(epoch_id);
  Range* range = nullptr;
  if (epoch != epochs_.end()) {
    epoch->second.newest_stored = std::max(epoch->second.newest_stored, sequence);
    auto& ranges = epoch->second.ranges;
    const auto after = std::ranges::upper_bound(ranges, sequence, {}, &Range::first);
    if (after != ranges.begin() && (after - 1)->last() >= sequence) range = &*(after - 1);
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
  const bool known = epoch != epochs_.end() && !epoch->second.ranges.empty();
  if (known ? sequence > epoch->second.ranges.back().last() && epoch->second.may_lack_root : machine_crashed_) {
    ++counts_.explained;  // sent in the last second before the machine crashed
    return;
  }
  // It may have been journaled after the journal was read.
  if (unknown_.size() < max_unknown)
    unknown_.push_back({epoch_id, sequence, *recomputed, name});
  else
    ++more_unknown_;
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

void BatchProof::account(const Epoch& epoch, const event::Epoch& id, const Range& range) {
  // Those after the newest that is stored are at the epoch's end; a hole before it is another matter.
  const std::uint64_t until = std::min(range.last(), epoch.newest_stored);
  const std::uint64_t wanted = until < range.first ? 0 : until - range.first + 1;
  const std::uint64_t hole = wanted - std::min(wanted, range.found), end = range.count - std::max(wanted, range.found);
  const bool explained = removed(range);
  const auto because = " missing, and neither retention, a purge nor a crash is recorded that would explain it";
  const std::string of = name_of(id, range.first, range.last()) + ": ";
  if (hole > 0 && !explained) wrong(hole, of + std::to_string(hole) + " of " + std::to_string(range.count) + because);
  if (end > 0 && !explained && epoch.ended_by && !epoch.may_miss) {
    wrong(end, of + "the last " + std::to_string(end) + because);
  } else if (end > 0 && !explained && !epoch.ended_by) {
    counts_.pending += end;  // sent, and not acknowledged yet
  } else {
    counts_.explained += end;
  }
  if (explained) counts_.explained += hole;
  // Without all of a root's batches nothing can be shown of the others; those that are altered were named.
  const std::uint64_t others = range.found - std::min(range.found, range.altered);
  (end > 0 && !epoch.ended_by && !explained ? counts_.pending : counts_.explained) += others;
}

void BatchProof::finish() {
  for (const auto& [id, epoch] : epochs_) {
    for (const auto& range : epoch.ranges) {
      if (range.late || (range.found == range.count && range.altered == 0)) continue;
      account(epoch, id, range);
    }
  }
  for (const auto& batch : unknown_) {
    const auto journaled = journal_.find({batch.epoch, batch.sequence});
    const auto epoch = epochs_.find(batch.epoch);
    const bool sealed = epoch != epochs_.end() && std::ranges::any_of(epoch->second.ranges, [&](const Range& range) {
                          return range.late && range.first <= batch.sequence && batch.sequence <= range.last();
                        });
    if ((journaled != journal_.end() && journaled->second == batch.digest) || sealed) {
      ++counts_.pending;  // it came while we read; the next look proves it
    } else {
      wrong(1, batch.name + ": added: the ledger knows nothing of it");
    }
  }
  if (more_unknown_ > 0) wrong(more_unknown_, std::to_string(more_unknown_) + " more batches the ledger does not know");
}

}  // namespace daemoneye::cli
