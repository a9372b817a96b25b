// RFC 6962 / RFC 9162 Merkle trees: hashes, the tree built leaf by leaf in memory that grows with its logarithm, proofs
// and their verification. Nothing here knows where hashes are stored.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace daemoneye::ledger {

// SHA-256 without the allocation that base::sha256 makes: three of these are taken for each entry that is verified.
base::Sha256Digest digest_of(std::string_view bytes);
base::Sha256Digest leaf_hash(std::string_view leaf);  // SHA-256(0x00 || leaf)
base::Sha256Digest node_hash(const base::Sha256Digest& left, const base::Sha256Digest& right);
base::Sha256Digest empty_root();  // SHA-256 of nothing

class MerkleTree {
 public:
  MerkleTree() = default;
  // A tree of `size` leaves from its complete subtrees, largest first: one for each set bit of `size`.
  static Result<MerkleTree> of(std::uint64_t size, std::vector<base::Sha256Digest> peaks);

  void add(const base::Sha256Digest& leaf_hash) {
    add(leaf_hash, [](unsigned, std::uint64_t, const base::Sha256Digest&) {});
  }
  // `completed(level, number, hash)` is told of each subtree of 2^level leaves, level 1 and above, that the leaf
  // completes: the `number`-th of its level.
  template <class Completed>
  void add(const base::Sha256Digest& leaf_hash, const Completed& completed) {
    auto subtree = leaf_hash;
    unsigned level = 0;
    // As in binary addition: each complete subtree of the same size is carried into one of twice that.
    for (std::uint64_t carry = size_; (carry & 1) != 0; carry >>= 1) {
      subtree = node_hash(peaks_.back(), subtree);
      peaks_.pop_back();
      ++level;
      completed(level, size_ >> level, subtree);
    }
    peaks_.push_back(subtree);
    ++size_;
  }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] base::Sha256Digest root() const;
  [[nodiscard]] const std::vector<base::Sha256Digest>& peaks() const { return peaks_; }

 private:
  std::vector<base::Sha256Digest> peaks_;
  std::uint64_t size_ = 0;
};

using Hashes = std::vector<base::Sha256Digest>;
// The hash of the complete subtree of leaves [number << level, (number + 1) << level).
using NodeReader = std::function<Result<base::Sha256Digest>(unsigned level, std::uint64_t number)>;

// Each asks `node` for O(log size) hashes. invalid_input: the numbers do not fit each other.
Result<base::Sha256Digest> root_at(std::uint64_t size, const NodeReader& node);
Result<Hashes> inclusion_proof(std::uint64_t index, std::uint64_t size, const NodeReader& node);
Result<Hashes> consistency_proof(std::uint64_t from, std::uint64_t size, const NodeReader& node);

// RFC 9162, 2.1.3.2 and 2.1.4.2: whether the proof holds. A wrong number of hashes, too, is a proof that does not.
bool proves_inclusion(std::uint64_t index, std::uint64_t size, const base::Sha256Digest& leaf,
                      std::span<const base::Sha256Digest> proof, const base::Sha256Digest& root);
bool proves_consistency(std::uint64_t from, std::uint64_t size, const base::Sha256Digest& from_root,
                        const base::Sha256Digest& root, std::span<const base::Sha256Digest> proof);

}  // namespace daemoneye::ledger
