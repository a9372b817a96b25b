#include "ledger/merkle.h"

#include "ledger/ledger.h"

namespace daemoneye::ledger {
namespace {

base::Sha256Digest node_hash(const base::Sha256Digest& left, const base::Sha256Digest& right) {
  base::Sha256 hash;
  hash.update(std::string_view("\x01", 1));
  hash.update(base::as_bytes(left));
  hash.update(base::as_bytes(right));
  return hash.finish();
}

}  // namespace

base::Sha256Digest leaf_hash(std::string_view leaf) {
  base::Sha256 hash;
  hash.update(std::string_view("\0", 1));
  hash.update(leaf);
  return hash.finish();
}

void MerkleTree::add(const base::Sha256Digest& leaf_hash) {
  auto subtree = leaf_hash;
  // As in binary addition: each complete subtree of the same size is carried into one of twice that.
  for (std::uint64_t carry = size_; (carry & 1) != 0; carry >>= 1) {
    subtree = node_hash(subtrees_.back(), subtree);
    subtrees_.pop_back();
  }
  subtrees_.push_back(subtree);
  ++size_;
}

base::Sha256Digest MerkleTree::root() const {
  if (subtrees_.empty()) return base::sha256("");
  auto root = subtrees_.back();
  for (std::size_t i = subtrees_.size() - 1; i-- > 0;) root = node_hash(subtrees_[i], root);
  return root;
}

base::Sha256Digest merkle_root(const std::vector<std::string>& leaves) {
  MerkleTree tree;
  for (const auto& leaf : leaves) tree.add(leaf_hash(leaf));
  return tree.root();
}

}  // namespace daemoneye::ledger
