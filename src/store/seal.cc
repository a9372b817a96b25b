// From the tail to a block.
#include <algorithm>
#include <utility>

#include "observe/log.h"
#include "store/ingest.h"

namespace daemoneye::store {

Result<Ingest::SealStep> Ingest::seal_step() {
  if (!sealing_) {
    if (!builder_) DE_CHECK(rebuild_block());
    if (builder_->batches() == 0) return SealStep::nothing_to_seal;
    sealing_.emplace(builder_->finish(), tail_bytes_);
    // What a rebuilt one had no room for is rebuilt again.
    builder_ = std::exchange(rebuilt_all_, true) ? std::make_unique<BlockBuilder>() : nullptr;
    return SealStep::more;
  }
  if (sealing_->chunks.empty()) {
    DE_CHECK(compress(*sealing_));
    return SealStep::more;
  }
  const auto sealing = *std::exchange(sealing_, std::nullopt);
  auto written = write_block(sealing);
  if (!written) {
    builder_.reset();  // the next block starts from what the tail holds then
    return std::unexpected(std::move(written).error());
  }
  return SealStep::sealed;
}

Result<bool> Ingest::seal() {
  bool any = false;
  while (true) {
    DE_TRY(const auto step, seal_step());
    if (step == SealStep::nothing_to_seal) return any;
    any = any || step == SealStep::sealed;
  }
}

// Which batches wait in the tail, without their bytes: of a row whose other pages are damaged this much can be read.
Result<std::vector<Ingest::TailBatch>> Ingest::list_tail() {
  DE_TRY(auto* select, statements_.get("SELECT batch_no, epoch_id, sequence, digest, events FROM tail WHERE batch_no>? "
                                       "ORDER BY batch_no"));
  const db::StatementReset reset(*select);
  select->bind(1, left_out_);
  std::vector<TailBatch> batches;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return batches;
    TailBatch batch{select->integer(0), {select->integer(1), static_cast<std::uint64_t>(select->integer(2)), 0, {}}};
    const auto digest = select->blob(3);
    batch.is_well_formed = digest.size() == batch.entry.digest.size() && select->integer(4) >= 0;
    if (batch.is_well_formed) std::copy(digest.begin(), digest.end(), batch.entry.digest.begin());
    batch.entry.events = static_cast<std::uint32_t>(select->integer(4));
    batches.push_back(batch);
  }
}

// `decoded` looks into `bytes`.
Result<void> Ingest::read_tail(const TailBatch& batch, std::string& bytes, event::BatchView& decoded) {
  DE_TRY(auto* select, statements_.get("SELECT canonical FROM tail WHERE batch_no=?"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->bind(1, batch.number).step());
  if (!row) return fail(Errc::corrupt, "the row is not there");
  DE_TRY(bytes, open_chunk(select->blob(0), batch.number));
  const auto result = event::decode_batch(bytes, decoded);
  if (!result) return fail(Errc::corrupt, result.error().message);
  if (!batch.is_well_formed || decoded.events.size() != batch.entry.events) {
    return fail(Errc::corrupt, "the row disagrees with the batch");
  }
  return {};
}

// After a restart or a failed seal: the next block out of what the tail holds, or as much of that as a block takes. A
// batch that cannot be read is left out, and the hole becomes a gap: what comes before it is sealed first, since the
// events of a block are numbered without holes.
Result<void> Ingest::rebuild_block() {
  rebuilt_all_ = false;
  auto builder = std::make_unique<BlockBuilder>();
  std::size_t bytes_taken = 0;
  DE_TRY(const auto batches, list_tail());
  for (const auto& batch : batches) {
    if (builder->events() >= max_rebuilt_events || builder->batches() >= max_tail_batches ||
        bytes_taken >= max_tail_bytes) {
      builder_ = std::move(builder);
      return {};
    }
    std::string bytes;
    event::BatchView decoded;
    if (const auto read = read_tail(batch, bytes, decoded); !read) {
      if (read.error().code != Errc::corrupt) return std::unexpected(read.error());
      if (builder->batches() > 0) {
        Sealing sealing{builder->finish(), bytes_taken, 0, {}};
        DE_CHECK(compress(sealing));
        DE_CHECK(write_block(sealing));
        builder = std::make_unique<BlockBuilder>();
        bytes_taken = 0;
      }
      DE_CHECK(drop_damaged(batch.number, read.error().message));
      continue;
    }
    builder->add(batch.entry, decoded.events);
    bytes_taken += bytes.size();
  }
  rebuilt_all_ = true;
  builder_ = std::move(builder);
  return {};
}

Result<void> Ingest::drop_damaged(std::int64_t batch_no, const std::string& why) {
  observe::log(observe::Level::error, "store", "a batch of the tail is damaged and left out",
               {{"batch", batch_no}, {"reason", why}});
  DE_TRY(auto transaction, db::Transaction::begin(statements_.database()));
  event::Gap gap{"corrupt_block", {}, {}, 0};
  std::string source;
  {
    DE_TRY(auto* select, statements_.get("SELECT first_time, last_time, events, source FROM tail "
                                         "JOIN epochs USING(epoch_id) WHERE batch_no=?"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool row, select->bind(1, batch_no).step());
    if (row) {
      gap.from = Timestamp{select->integer(0)};
      gap.to = Timestamp{select->integer(1)};
      gap.count = static_cast<std::uint64_t>(select->integer(2));
      source = select->text(3);
    }
  }
  if (gap.count != 0) DE_CHECK(write_gap(gap, source, std::nullopt));
  DE_TRY(auto* keep,
         statements_.get("UPDATE epochs SET last_sequence=max(last_sequence, coalesce((SELECT sequence FROM "
                         "tail WHERE batch_no=?1 AND tail.epoch_id=epochs.epoch_id), 0))"));
  DE_CHECK(keep->bind(1, batch_no).run());
  DE_TRY(auto* next, statements_.get("UPDATE meta SET value=max(value, ?) WHERE key='next_event'"));
  DE_CHECK(next->bind(1, next_event_).run());
  DE_CHECK(transaction.commit());
  // Of its own, since it cannot be removed where a page of the row itself is damaged: then it stays, and is passed
  // over.
  DE_TRY(auto* remove, statements_.get("DELETE FROM tail WHERE batch_no=?"));
  if (const auto removed = remove->bind(1, batch_no).run(); !removed) {
    if (removed.error().code != Errc::corrupt) return std::unexpected(removed.error());
    left_out_ = batch_no;
  }
  tail_events_ -= std::min<std::size_t>(tail_events_, gap.count.value_or(0));
  tail_batches_ -= std::min<std::size_t>(tail_batches_, 1);
  if (tail_batches_ == 0) tail_bytes_ = 0;
  return {};
}

// Nobody else adds blocks, so that the number is still free when it is written.
Result<void> Ingest::compress(Sealing& sealing) {
  // Nothing is taken from the tail for a block that readers would refuse.
  const auto& block = sealing.block;
  if (block.events > max_block_events || block.batches.size() > max_block_batches ||
      std::ranges::any_of(block.chunks, [](const auto& chunk) { return chunk.second.size() > max_chunk_bytes; })) {
    return fail(Errc::internal, "seal: a block larger than may be read");
  }
  {
    // Beyond the chunks as well: a damaged block may have left some.
    DE_TRY(auto* select, statements_.get("SELECT max((SELECT coalesce(max(block_id), 0) FROM blocks), "
                                         "(SELECT coalesce(max(chunk_id), 0) FROM chunks)>>6) + 1"));
    static_assert(chunk_bits == 6);
    const db::StatementReset reset(*select);
    DE_CHECK(select->step());
    sealing.id = select->integer(0);
  }
  for (auto& [place, body] : sealing.block.chunks) {
    const auto id = chunk_id(sealing.id, place);
    auto& chunk = sealing.chunks.emplace_back(id, seal_chunk(body, id)).second;
    chunk.shrink_to_fit();  // it was made as long as its body
    body = {};
  }
  return {};
}

Result<void> Ingest::write_block(const Sealing& sealing) {
  const auto& block = sealing.block;
  DE_TRY(auto transaction, db::Transaction::begin(statements_.database()));
  std::int64_t first_batch = 0, first_event = 0;
  {
    DE_TRY(auto* select, statements_.get("SELECT batch_no, first_event FROM tail WHERE batch_no>? ORDER BY batch_no "
                                         "LIMIT 1"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool row, select->bind(1, left_out_).step());
    if (!row) return fail(Errc::internal, "seal: the tail is empty");
    first_batch = select->integer(0);
    first_event = select->integer(1);
  }
  std::int64_t bytes = 0;
  for (const auto& [id, chunk] : sealing.chunks) {
    bytes += static_cast<std::int64_t>(chunk.size());
    DE_TRY(auto* insert, statements_.get("INSERT INTO chunks VALUES(?,?)"));
    DE_CHECK(insert->bind(1, id).bind_blob_static(2, chunk).run());
  }
  DE_TRY(auto* insert, statements_.get("INSERT INTO blocks VALUES(?,?,?,?,?,?,?,?)"));
  insert->bind(1, sealing.id).bind(2, first_event).bind(3, first_event + block.events - 1);
  insert->bind(4, std::int64_t{block.events}).bind(5, static_cast<std::int64_t>(block.batches.size()));
  if (block.first_time) insert->bind(6, block.first_time->ns).bind(7, block.last_time->ns);
  DE_CHECK(insert->bind(8, bytes).run());

  const auto last_batch = first_batch + static_cast<std::int64_t>(block.batches.size()) - 1;
  DE_TRY(auto* remove, statements_.get("DELETE FROM tail WHERE batch_no>=? AND batch_no<=?"));
  DE_CHECK(remove->bind(1, first_batch).bind(2, last_batch).run());
  if (statements_.database().changes() != static_cast<std::int64_t>(block.batches.size())) {
    return fail(Errc::internal, "seal: the tail does not hold the batches of the block");
  }
  for (const auto& batch : block.batches) {
    DE_TRY(auto* keep, statements_.get("UPDATE epochs SET last_sequence=max(last_sequence, ?) WHERE epoch_id=?"));
    DE_CHECK(keep->bind(1, static_cast<std::int64_t>(batch.sequence)).bind(2, batch.epoch).run());
  }
  DE_TRY(auto* next, statements_.get("UPDATE meta SET value=max(value, ?) WHERE key='next_event'"));
  DE_CHECK(next->bind(1, first_event + block.events).run());
  DE_CHECK(transaction.commit());
  ++sealed_blocks_;
  tail_events_ -= std::min<std::size_t>(tail_events_, block.events);
  tail_batches_ -= std::min(tail_batches_, block.batches.size());
  tail_bytes_ = tail_batches_ == 0 ? 0 : tail_bytes_ - std::min(tail_bytes_, sealing.tail_bytes);
  return {};
}

}  // namespace daemoneye::store
