#include "store/reader.h"

#include <sqlite3.h>

#include <algorithm>

#include "base/bytes.h"
#include "event/event_codec.h"
#include "store/reader_impl.h"
#include "store/schema.h"
#include "store/store_file.h"
#include "store/tail_search.h"

namespace daemoneye::store {

BlockRow read_block_row(const db::Statement& statement) {
  BlockRow row{statement.integer(0), statement.integer(1), static_cast<std::uint32_t>(statement.integer(2)), {}, {}};
  if (!statement.is_null(3)) row.first_time = Timestamp{statement.integer(3)};
  if (!statement.is_null(4)) row.last_time = Timestamp{statement.integer(4)};
  return row;
}

Reader::Reader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Reader::~Reader() = default;

Result<std::unique_ptr<Reader>> Reader::open(const std::string& path) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  DE_TRY(impl->database, open_store_for_reading(path));
  impl->statements = std::make_unique<db::StatementCache>(*impl->database);
  return std::unique_ptr<Reader>(new Reader(std::move(impl)));
}

db::Database& Reader::database() { return *impl_->database; }
const std::string& Reader::path() const { return impl_->path; }

Result<void> Reader::begin_snapshot() {
  if (impl_->snapshots == 0) {
    impl_->transaction = false;
    if (sqlite3_get_autocommit(impl_->database->raw()) != 0) {
      DE_CHECK(impl_->database->execute(db::Database::Verb::begin));
      impl_->transaction = true;
    }
  }
  ++impl_->snapshots;
  return {};
}

void Reader::end_snapshot() {
  if (impl_->snapshots == 0 || --impl_->snapshots > 0) return;
  impl_->snapshot_blocks.reset();
  impl_->tail_batches.clear();
  impl_->kept_tail_bytes = 0;
  if (!impl_->transaction) return;
  impl_->transaction = false;
  // A read transaction that cannot end is one SQLite has ended itself.
  if (sqlite3_get_autocommit(impl_->database->raw()) == 0) {
    (void)impl_->database->execute(db::Database::Verb::commit);
  }
}

void Reader::forget_blocks() { impl_->cache.clear(); }

Result<void> Reader::Impl::with_chunk(std::int64_t id, const std::function<Result<void>(std::string_view)>& use) {
  DE_TRY(auto* select, statements->get("SELECT data FROM chunks WHERE chunk_id=?"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool found, select->bind(1, id).step());
  if (!found) return fail(Errc::corrupt, "chunk " + std::to_string(id) + " is missing");
  return use(select->blob(0));
}

Result<std::string> Reader::Impl::load_chunk(std::int64_t id) {
  std::string body;
  DE_CHECK(with_chunk(id, [&](std::string_view chunk) -> Result<void> {
    DE_TRY(body, open_chunk(chunk, id));
    return {};
  }));
  return body;
}

Result<Block::Later> Reader::Impl::fetch_chunk(std::int64_t id) {
  std::string raw;
  auto fetched = with_chunk(id, [&](std::string_view chunk) {
    raw = chunk;
    return check_chunk(chunk, id);
  });
  if (!fetched) return std::unexpected(std::move(fetched.error()));
  return [raw = std::move(raw), id] { return open_chunk(raw, id, Checksum::known_good); };
}

Result<std::unique_ptr<Block>> Reader::Impl::open_block(const BlockRow& row) {
  return Block::open([this, block = row.id](std::uint8_t place) { return load_chunk(chunk_id(block, place)); },
                     row.events,
                     [this, block = row.id](std::uint8_t place) { return fetch_chunk(chunk_id(block, place)); });
}

std::unique_ptr<Block> Reader::Impl::open_block(std::int64_t id, BlockHeader header) {
  return Block::open([this, id](std::uint8_t place) { return load_chunk(chunk_id(id, place)); }, std::move(header),
                     [this, id](std::uint8_t place) { return fetch_chunk(chunk_id(id, place)); });
}

Result<std::string> Reader::Impl::tail_bytes(std::int64_t batch_no) {
  DE_TRY(auto* select, statements->get("SELECT canonical FROM tail WHERE batch_no=?"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool found, select->bind(1, batch_no).step());
  if (!found) return fail(Errc::corrupt, "tail: batch " + std::to_string(batch_no) + " is missing");
  return open_chunk(select->blob(0), batch_no);
}

Result<event::Batch> Reader::Impl::load_tail(std::int64_t batch_no) {
  DE_TRY(const auto bytes, tail_bytes(batch_no));
  return event::decode_batch(bytes);
}

Result<std::shared_ptr<TailBatch>> Reader::Impl::tail_batch(std::int64_t batch_no,
                                                            const predicate::Predicate& predicate) {
  auto [known, is_first] = tail_batches.try_emplace(batch_no);
  if (known->second) return known->second;
  const bool keeps = kept_tail_bytes < max_kept_tail_bytes;
  DE_TRY(auto bytes, tail_bytes(batch_no));
  // Asked for again it is the inner side of a join, whose next question it will be looked at for as well.
  if ((is_first || !keeps) && !may_match(bytes, predicate)) return nullptr;
  DE_TRY(auto batch, TailBatch::open(std::move(bytes)));
  if (keeps) {
    known->second = batch;
    kept_tail_bytes += batch->bytes();
  }
  return batch;
}

Result<std::vector<BlockRow>> Reader::Impl::rows(std::string_view sql) {
  DE_TRY(auto* select, statements->get(sql));
  const db::StatementReset reset(*select);
  std::vector<BlockRow> found;
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return found;
    found.push_back(read_block_row(*select));
  }
}

Result<event::EventId> Reader::stream_watermark() {
  DE_TRY(auto* select, impl_->statements->get("SELECT value FROM meta WHERE key='stream_watermark'"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->step());
  return row ? select->integer(0) : 0;
}

Result<event::EventId> Reader::last_event_id() {
  DE_TRY(auto* select, impl_->statements->get(
                           "SELECT max((SELECT value FROM meta WHERE key='next_event'), "
                           "coalesce((SELECT max(last_event) FROM blocks), 0) + 1, "
                           "coalesce((SELECT first_event + events FROM tail ORDER BY batch_no DESC LIMIT 1), 1)) - 1"));
  const db::StatementReset reset(*select);
  DE_TRY(const bool row, select->step());
  return row ? select->integer(0) : 0;
}

Result<void> Reader::batches(const std::function<bool(const BatchRow&)>& each, event::EventId from) {
  DE_TRY(const auto snapshot, Snapshot::open(*this));
  std::unordered_map<std::int64_t, std::pair<std::string, event::Epoch>> epochs;
  {
    DE_TRY(auto* select, impl_->statements->get("SELECT epoch_id, source, epoch FROM epochs"));
    const db::StatementReset reset(*select);
    while (true) {
      DE_TRY(const bool row, select->step());
      if (!row) break;
      auto& entry = epochs[select->integer(0)];
      entry.first = select->text(1);
      const auto epoch = select->blob(2);
      std::copy_n(epoch.begin(), std::min(epoch.size(), entry.second.size()), entry.second.begin());
    }
  }
  const auto give = [&](std::int64_t epoch, std::uint64_t sequence, const base::Sha256Digest& digest,
                        event::EventId first, std::int64_t events) {
    const auto found = epochs.find(epoch);
    BatchRow row;
    if (found != epochs.end()) row.id = {found->second.first, found->second.second, sequence};
    row.digest = digest;
    row.first_event = first;
    row.last_event = first + events - 1;
    return each(row);
  };
  DE_TRY(const auto blocks,
         impl_->rows("SELECT block_id, first_event, events, first_time, last_time FROM blocks ORDER BY block_id"));
  for (const auto& block : blocks) {
    if (block.first_event + block.events - 1 < from) continue;
    DE_TRY(const std::string body, impl_->load_chunk(chunk_id(block.id, batches_chunk)));
    DE_TRY(const auto entries, decode_batches(body));
    event::EventId first = block.first_event;
    for (const auto& entry : entries) {
      if (!give(entry.epoch, entry.sequence, entry.digest, first, entry.events)) return {};
      first += entry.events;
    }
  }
  DE_TRY(auto* select, impl_->statements->get("SELECT epoch_id, sequence, digest, first_event, events FROM tail "
                                              "ORDER BY batch_no"));
  const db::StatementReset reset(*select);
  while (true) {
    DE_TRY(const bool row, select->step());
    if (!row) return {};
    base::Sha256Digest digest{};
    const auto bytes = select->blob(2);
    std::copy_n(bytes.begin(), std::min(bytes.size(), digest.size()), digest.begin());
    if (!give(select->integer(0), static_cast<std::uint64_t>(select->integer(1)), digest, select->integer(3),
              select->integer(4))) {
      return {};
    }
  }
}

Result<std::string> Reader::reconstruct_batch(const BatchRow& batch) {
  DE_TRY(const auto snapshot, Snapshot::open(*this));
  return impl_->reconstruct(batch);
}

Result<std::string> Reader::Impl::reconstruct(const BatchRow& batch) {
  event::Batch whole;
  whole.id = batch.id;
  if (batch.last_event < batch.first_event) return event::encode_batch(whole);
  {
    DE_TRY(auto* select, statements->get("SELECT batch_no, canonical FROM tail WHERE first_event=? AND events>0"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool found, select->bind(1, batch.first_event).step());
    if (found) return open_chunk(select->blob(1), select->integer(0));
  }
  BlockRow row;
  {
    DE_TRY(auto* select, statements->get("SELECT block_id, first_event, events, first_time, last_time FROM blocks "
                                         "WHERE first_event<=? AND last_event>=?"));
    const db::StatementReset reset(*select);
    DE_TRY(const bool found, select->bind(1, batch.first_event).bind(2, batch.last_event).step());
    if (!found) return fail(Errc::not_found, "the store no longer holds this batch");
    row = read_block_row(*select);
  }
  DE_TRY(auto* block, cached_block(row));
  for (auto id = batch.first_event; id <= batch.last_event; ++id) {
    DE_TRY(auto event, block->event(static_cast<std::size_t>(id - row.first_event)));
    whole.events.push_back(std::move(event));
  }
  return event::encode_batch(whole);
}

}  // namespace daemoneye::store
