// What the writer knows of its own file: which batches it has, the next event id, the block that is being filled.
// Belongs to the writer's thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "db/statement_cache.h"
#include "event/event_view.h"
#include "store/block_builder.h"
#include "store/live_table.h"
#include "store/writer.h"

namespace daemoneye::store {

// A batch on its way into the file.
struct IncomingBatch {
  event::BatchId id;
  std::string canonical;
  base::Sha256Digest digest{};
  std::string scan;
  std::optional<event::Gap> missing;

  // Decoded once, before its first attempt; looks into `canonical`.
  event::BatchView decoded;
  std::optional<event::ScanSummary> summary;
};
// invalid_input when it is not what its id says; then it can never be stored.
Result<void> decode(IncomingBatch& batch);

class Ingest {
 public:
  explicit Ingest(db::StatementCache& statements);

  // Reads the state from the file. Again after each rollback, before anything else is written.
  Result<void> load();
  [[nodiscard]] bool loaded() const { return loaded_; }

  // Inside the caller's transaction. `batch` must live until committed() or rolled_back().
  Result<Commit> write(const IncomingBatch& batch, Timestamp now);
  // Once, at the end of the caller's transaction.
  Result<void> finish_transaction();
  void committed();
  void rolled_back();

  // The tail has grown to a block's size.
  [[nodiscard]] bool wants_seal(std::uint32_t block_events) const;
  [[nodiscard]] std::size_t tail_batches() const { return tail_batches_; }
  // Batches up to this number are damaged and stay in the tail for ever.
  [[nodiscard]] std::int64_t left_out() const { return left_out_; }
  // Turns what the tail holds into a block, a step at a time, so that batches can be committed in between: the columns,
  // their compression, and the only one that writes, a transaction of its own. What comes in between is for the next.
  enum class SealStep : std::uint8_t { nothing_to_seal, more, sealed };
  Result<SealStep> seal_step();
  // All steps, until the tail is empty. False: there was nothing to seal.
  Result<bool> seal();
  [[nodiscard]] std::uint64_t sealed_blocks() const { return sealed_blocks_; }  // written since it was made

  using EpochKey = std::pair<std::string, event::Epoch>;
  [[nodiscard]] std::map<EpochKey, std::uint64_t> committed_sequences() const;
  [[nodiscard]] std::uint64_t last_sequence(const EpochKey& key) const;

 private:
  struct EpochState {
    std::int64_t id = 0;
    std::uint64_t last_sequence = 0;
  };
  struct Pending {  // of the open transaction
    BatchEntry entry;
    const IncomingBatch* batch;
  };
  Result<EpochState*> epoch(const EpochKey& key);
  Result<void> write_tail(const IncomingBatch& batch, const EpochState& epoch);
  Result<void> write_gap(const event::Gap& gap, const std::string& source, std::optional<event::EventId> event);
  struct Sealing {
    SealedBlock block;
    std::size_t tail_bytes = 0;
    std::int64_t id = 0;
    std::vector<std::pair<std::int64_t, std::string>> chunks;  // compressed, by id
  };
  struct TailBatch {
    std::int64_t number = 0;
    BatchEntry entry;
    bool is_well_formed = false;
  };
  Result<std::vector<TailBatch>> list_tail();
  Result<void> read_tail(const TailBatch& batch, std::string& bytes, event::BatchView& decoded);
  Result<void> rebuild_block();
  Result<void> drop_damaged(std::int64_t batch_no, const std::string& why);
  Result<void> compress(Sealing& sealing);
  Result<void> write_block(const Sealing& sealing);

  db::StatementCache& statements_;
  LiveTable live_;
  std::map<EpochKey, EpochState> epochs_;
  event::EventId next_event_ = 1;
  std::int64_t next_batch_ = 1;
  std::unique_ptr<BlockBuilder> builder_;  // absent: must be rebuilt from the tail
  bool rebuilt_all_ = true;                // builder_ has all that the tail has
  // Batches of the tail up to this number are damaged so that they cannot even be removed.
  std::int64_t left_out_ = 0;
  std::optional<Sealing> sealing_;  // a block whose batches are still in the tail
  std::size_t tail_events_ = 0, tail_batches_ = 0, tail_bytes_ = 0;
  std::vector<Pending> pending_;
  std::uint64_t sealed_blocks_ = 0;
  bool loaded_ = false;
};

}  // namespace daemoneye::store
