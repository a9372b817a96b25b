#include "store/ingest.h"

#include <algorithm>

#include "base/bytes.h"
#include "observe/log.h"
#include "store/schema.h"

namespace daemoneye::store {
namespace {

std::string_view bytes_of(const event::Epoch& epoch) {
  return {reinterpret_cast<const char*>(epoch.data()), epoch.size()};
}

std::string hashes_of_ended(const std::vector<event::EventView>& events) {
  std::string hashes;
  base::ByteWriter out(hashes);
  for (const auto& event : events) {
    if (event.kind == event::EventKind::exit) out.u64(filter_hash(event.process.key));
  }
  return hashes;
}

// One that cannot be read still says that something is missing.
event::Gap gap_of(const event::EventView& event) {
  if (auto gap = event::parse_gap(event.detail)) return std::move(*gap);
  return {"unknown", event.time, event.time, std::nullopt};
}

}  // namespace

Result<void> decode(IncomingBatch& batch) {
  const auto decoded = event::decode_batch(batch.canonical, batch.decoded);
  if (!decoded) return fail(Errc::invalid_input, decoded.error().message);
  if (batch.decoded.id != batch.id) {
    return fail(Errc::invalid_input, "batch: its bytes carry another id than it came with");
  }
  if (batch.scan.empty()) return {};
  auto summary = event::decode_scan(batch.scan);
  if (!summary) return fail(Errc::invalid_input, summary.error().message);
  batch.summary = std::move(*summary);
  return {};
}

Ingest::Ingest(db::StatementCache& statements) : statements_(statements), live_(statements) {}

Result<void> Ingest::load() {
  loaded_ = false;
  sealing_.reset();
  epochs_.clear();
  tail_events_ = tail_batches_ = tail_bytes_ = 0;
  next_event_ = next_batch_ = 1;
  {
    DE_TRY(auto* select,
           statements_.get("SELECT source, epoch, epoch_id, last_sequence, (SELECT max(sequence) FROM tail "
                           "WHERE tail.epoch_id=epochs.epoch_id) FROM epochs"));
    const db::StatementReset reset(*select);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) break;
      EpochKey key{std::string(select->text(0)), {}};
      const auto epoch = select->blob(1);
      if (epoch.size() != key.second.size()) return fail(Errc::corrupt, "epochs: an epoch of the wrong size");
      std::copy(epoch.begin(), epoch.end(), key.second.begin());
      epochs_[key] = {select->integer(2), static_cast<std::uint64_t>(std::max(select->integer(3), select->integer(4)))};
    }
  }
  DE_TRY(auto* select,
         statements_.get("SELECT (SELECT value FROM meta WHERE key='next_event'), "
                         "(SELECT max(last_event) + 1 FROM blocks), max(first_event + events), max(batch_no) + 1, "
                         "sum(events) FILTER (WHERE batch_no>?1), count(*) FILTER (WHERE batch_no>?1), "
                         "sum(length(canonical)) FILTER (WHERE batch_no>?1) FROM tail"));
  const db::StatementReset reset(*select);
  DE_CHECK(select->bind(1, left_out_).step());
  next_event_ = std::max({std::int64_t{1}, select->integer(0), select->integer(1), select->integer(2)});
  next_batch_ = std::max<std::int64_t>(1, select->integer(3));
  tail_events_ = static_cast<std::size_t>(select->integer(4));
  tail_batches_ = static_cast<std::size_t>(select->integer(5));
  tail_bytes_ = static_cast<std::size_t>(select->integer(6));
  builder_ = tail_batches_ == 0 ? std::make_unique<BlockBuilder>() : nullptr;
  DE_CHECK(live_.load());
  loaded_ = true;
  return {};
}

Result<Ingest::EpochState*> Ingest::epoch(const EpochKey& key) {
  const auto found = epochs_.find(key);
  if (found != epochs_.end()) return &found->second;
  DE_TRY(auto* insert, statements_.get("INSERT INTO epochs(source, epoch, last_sequence) VALUES(?,?,0)"));
  DE_CHECK(insert->bind_text(1, key.first).bind_blob(2, bytes_of(key.second)).run());
  return &(epochs_[key] = {statements_.database().last_insert_rowid(), 0});
}

Result<Commit> Ingest::write(const IncomingBatch& batch, Timestamp now) {
  DE_TRY(auto* epoch_state, epoch({batch.id.source, batch.id.epoch}));
  Commit commit;
  commit.id = batch.id;
  commit.time = now;
  commit.first_event = next_event_;
  commit.last_event = next_event_ - 1;
  // One source numbers its batches in order, so the highest number tells what is here.
  if (batch.id.sequence <= epoch_state->last_sequence) {
    commit.duplicate = true;
    return commit;
  }
  if (batch.missing) DE_CHECK(write_gap(*batch.missing, batch.id.source, std::nullopt));
  DE_CHECK(write_tail(batch, *epoch_state));
  const auto& events = batch.decoded.events;
  event::EventId id = next_event_;
  for (const auto& event : events) {
    live_.stage(event, epoch_state->id);
    if (event.kind == event::EventKind::gap) DE_CHECK(write_gap(gap_of(event), batch.id.source, id));
    ++id;
  }
  if (batch.summary) {
    const auto& scan = *batch.summary;
    DE_TRY(auto* insert, statements_.get("INSERT INTO scans VALUES(?,?,?,?,?,?,?)"));
    insert->bind(1, static_cast<std::int64_t>(scan.scan_id)).bind(2, scan.time.ns);
    insert->bind(3, static_cast<std::int64_t>(scan.duration_ms)).bind_text(4, scan.source);
    insert->bind(5, static_cast<std::int64_t>(scan.processes)).bind(6, static_cast<std::int64_t>(scan.errors));
    insert->bind(7, static_cast<std::int64_t>(scan.lost_events));
    DE_CHECK(insert->run());
    DE_CHECK(live_.apply(scan, batch.id.source, epoch_state->id));
    commit.scan = true;
  }
  epoch_state->last_sequence = batch.id.sequence;
  next_event_ = id;
  ++next_batch_;
  commit.last_event = id - 1;
  pending_.push_back(
      {{epoch_state->id, batch.id.sequence, static_cast<std::uint32_t>(events.size()), batch.digest}, &batch});
  return commit;
}

Result<void> Ingest::write_tail(const IncomingBatch& batch, const EpochState& epoch_state) {
  const auto& events = batch.decoded.events;
  const auto blob = seal_chunk(batch.canonical, next_batch_, fast_acceleration);
  const auto ended = hashes_of_ended(events);
  DE_TRY(auto* insert, statements_.get("INSERT INTO tail VALUES(?,?,?,?,?,?,?,?,?,?)"));
  insert->bind(1, next_batch_).bind(2, epoch_state.id).bind(3, static_cast<std::int64_t>(batch.id.sequence));
  insert->bind_blob(4, base::as_bytes(batch.digest)).bind(5, next_event_);
  insert->bind(6, static_cast<std::int64_t>(events.size()));
  if (!events.empty()) {
    const auto [first, last] =
        std::minmax_element(events.begin(), events.end(), [](const auto& a, const auto& b) { return a.time < b.time; });
    insert->bind(7, first->time.ns).bind(8, last->time.ns);
  }
  insert->bind_blob_static(9, ended).bind_blob_static(10, blob);
  DE_CHECK(insert->run());
  tail_bytes_ += batch.canonical.size();
  return {};
}

Result<void> Ingest::write_gap(const event::Gap& gap, const std::string& source, std::optional<event::EventId> event) {
  // The collector's own event tells again what came with a batch as `missing`: one hole is one row.
  DE_TRY(auto* insert, statements_.get("INSERT INTO gaps(from_time, to_time, reason, count, source, event_id) "
                                       "SELECT ?1,?2,?3,?4,?5,?6 WHERE NOT EXISTS (SELECT 1 FROM gaps WHERE "
                                       "from_time=?1 AND to_time=?2 AND reason=?3 AND count IS ?4 AND source=?5)"));
  const auto [from, to] = std::minmax(gap.from, gap.to);
  insert->bind(1, from.ns).bind(2, to.ns).bind_text(3, gap.reason);
  if (gap.count) insert->bind(4, static_cast<std::int64_t>(*gap.count));
  insert->bind_text(5, source);
  if (event) insert->bind(6, *event);
  return insert->run();
}

Result<void> Ingest::finish_transaction() { return live_.flush(); }

void Ingest::committed() {
  for (const auto& pending : pending_) {
    if (builder_) builder_->add(pending.entry, pending.batch->decoded.events);
    tail_events_ += pending.entry.events;
    ++tail_batches_;
  }
  pending_.clear();
}

void Ingest::rolled_back() {
  pending_.clear();
  live_.discard();
  sealing_.reset();
  loaded_ = false;
}

bool Ingest::wants_seal(std::uint32_t block_events) const {
  return sealing_ || tail_events_ >= block_events || tail_batches_ >= max_tail_batches || tail_bytes_ >= max_tail_bytes;
}

std::map<Ingest::EpochKey, std::uint64_t> Ingest::committed_sequences() const {
  std::map<EpochKey, std::uint64_t> sequences;
  for (const auto& [key, state] : epochs_) sequences[key] = state.last_sequence;
  return sequences;
}

}  // namespace daemoneye::store
