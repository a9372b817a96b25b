// RFC 6962 Merkle tree hashes, built leaf by leaf in memory that grows with the logarithm of the tree.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace daemoneye::ledger {

base::Sha256Digest leaf_hash(std::string_view leaf);  // SHA-256(0x00 || leaf)

class MerkleTree {
 public:
  void add(const base::Sha256Digest& leaf_hash);
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] base::Sha256Digest root() const;  // of an empty tree SHA-256 of nothing

 private:
  std::vector<base::Sha256Digest> subtrees_;  // complete ones, largest first: one for each set bit of size_
  std::uint64_t size_ = 0;
};

}  // namespace daemoneye::ledger
