// Private to the reader's files.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "db/statement_cache.h"
#include "store/block.h"
#include "store/filter_cache.h"
#include "store/reader.h"
#include "store/tail_batch.h"

namespace daemoneye::store {

// A row of `blocks` or of `tail`, as far as finding events needs it.
struct BlockRow {
  std::int64_t id = 0;
  event::EventId first_event = 0;
  std::uint32_t events = 0;
  std::optional<Timestamp> first_time, last_time;
};

struct Reader::Impl {
  std::string path;
  std::unique_ptr<db::Database> database;
  std::unique_ptr<db::StatementCache> statements;
  unsigned snapshots = 0;    // begin_snapshot() without their end_snapshot()
  bool transaction = false;  // begun by the outermost of them

  // Blocks opened for the lookup of single processes: the ancestors of one are the ancestors of the next.
  struct Cached {
    std::int64_t id;
    event::EventId first_event;
    std::unique_ptr<Block> block;
  };
  static constexpr std::size_t max_cached_blocks = 4;
  static constexpr std::size_t max_cached_bytes = 4 * 1024 * 1024;  // and the one that was asked for last
  std::deque<Cached> cache;
  std::uint64_t blocks_opened = 0;  // for it
  // Batches of the tail, by number. The inner side of a join reads them again for each outer row, and to decode them is
  // most of what that costs. Shared: a scan may stand in one that is dropped here.
  static constexpr std::size_t max_kept_tail_bytes = 2 * 1024 * 1024;  // encoded; with its views it is three times that
  std::unordered_map<std::int64_t, std::shared_ptr<TailBatch>> tail_batches;  // null: asked for, and not kept
  std::size_t kept_tail_bytes = 0;
  FilterCache filters;
  std::optional<std::vector<BlockRow>> snapshot_blocks;  // newest first; once asked for, as long as the snapshot

  Result<std::unique_ptr<Block>> open_block(const BlockRow& row);
  std::unique_ptr<Block> open_block(std::int64_t id, BlockHeader header);
  Result<void> with_chunk(std::int64_t id, const std::function<Result<void>(std::string_view)>& use);
  Result<std::string> load_chunk(std::int64_t id);
  Result<Block::Later> fetch_chunk(std::int64_t id);
  Result<std::string> tail_bytes(std::int64_t batch_no);
  Result<event::Batch> load_tail(std::int64_t batch_no);
  // Null when no event of it can meet the predicate. Kept as long as the snapshot.
  Result<std::shared_ptr<TailBatch>> tail_batch(std::int64_t batch_no, const predicate::Predicate& predicate);
  // Null when no row of the block can meet the conditions; such a block is not kept.
  Result<Block*> cached_block(const BlockRow& row, const ScanConditions& conditions = {});
  Result<const std::vector<BlockRow>*> all_blocks();         // `snapshot_blocks`
  Result<std::vector<BlockRow>> rows(std::string_view sql);  // of id, first_event, events, first_time, last_time
  Result<std::optional<Instance>> find_ended(const event::ProcessKey& key, const event::TimeRange& range,
                                             ScanStats& stats);
  Result<std::optional<Instance>> find_ended_in_tail(const event::ProcessKey& key, const event::TimeRange& range,
                                                     ScanStats& stats);
  Result<std::string> reconstruct(const BatchRow& batch);
};

BlockRow read_block_row(const db::Statement& statement);

// What was damaged says little to who asks; which time is missing says all.
inline event::Incompleteness damage_of(const BlockRow& row) {
  return {"corrupt_block", row.events, row.first_time, row.last_time};
}

// Holds one snapshot over several statements.
class Snapshot {
 public:
  static Result<std::unique_ptr<Snapshot>> open(Reader& reader) {
    DE_CHECK(reader.begin_snapshot());
    return std::make_unique<Snapshot>(reader);
  }
  explicit Snapshot(Reader& reader) : reader_(reader) {}
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot() { reader_.end_snapshot(); }

 private:
  Reader& reader_;
};

}  // namespace daemoneye::store
