// Private to the reader's files.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "db/statement_cache.h"
#include "store/block.h"
#include "store/filter_cache.h"
#include "store/reader.h"

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
  static constexpr std::size_t max_cached_bytes = 8 * 1024 * 1024;
  std::deque<Cached> cache;
  FilterCache filters;
  std::optional<std::vector<BlockRow>> snapshot_blocks;  // newest first; once asked for, as long as the snapshot

  Result<std::unique_ptr<Block>> open_block(const BlockRow& row);
  Result<std::string> load_chunk(std::int64_t id);
  // Nothing when no event of it can meet the predicate.
  Result<std::optional<event::Batch>> load_tail(std::int64_t batch_no, const predicate::Predicate* predicate = nullptr);
  // Null when no row of the block can meet `condition`; such a block is not kept.
  Result<Block*> cached_block(const BlockRow& row, const predicate::Condition* condition = nullptr);
  Result<std::vector<BlockRow>> rows(std::string_view sql);  // of id, first_event, events, first_time, last_time
  Result<std::optional<event::ProcessEvent>> find_ended(const event::ProcessKey& key);
  Result<std::string> reconstruct(const BatchRow& batch);
};

BlockRow read_block_row(const db::Statement& statement);

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
