// One database file of the ledger, as a reader sees it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "db/database.h"
#include "ledger/format.h"

namespace daemoneye::ledger {

class Segment {
 public:
  // Nothing: it is not there, or its writer has not begun it.
  static Result<std::optional<Segment>> open(const std::string& path, std::uint64_t number);

  [[nodiscard]] const SegmentStart& start() const { return start_; }
  [[nodiscard]] db::Database& database() const { return *database_; }
  // Hashes of the entries [from, to); those just before the segment begins (its tail) are here as well.
  Result<std::vector<base::Sha256Digest>> leaf_hashes(std::uint64_t from, std::uint64_t to) const;
  // Of a subtree of stored_level or above that an entry of this segment completes.
  Result<base::Sha256Digest> subtree(unsigned level, std::uint64_t number) const;

 private:
  Segment(std::unique_ptr<db::Database> database, SegmentStart start)
      : database_(std::move(database)), start_(std::move(start)) {}
  std::unique_ptr<db::Database> database_;
  SegmentStart start_;
};

// The state of the tree where the segment begins, and the nodes that its file alone tells.
Result<MerkleTree> tree_at_start(const SegmentStart& start);
// The tree over `size` entries, with the stored subtrees of the segment's file. O(log size) reads.
Result<MerkleTree> tree_of(db::Database& database, const SegmentStart& start, std::uint64_t size);

Result<std::vector<base::Sha256Digest>> read_leaf_hashes(db::Database& database, const SegmentStart& start,
                                                         std::uint64_t from, std::uint64_t to);
Result<base::Sha256Digest> read_subtree(db::Database& database, unsigned level, std::uint64_t number);

}  // namespace daemoneye::ledger
