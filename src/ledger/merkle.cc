// The plain functions instead of EVP: an entry costs three short digests, and of each EVP takes as much as SHA-256.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "ledger/merkle.h"

#include <openssl/sha.h>

#include <bit>

#include "ledger/ledger.h"

namespace daemoneye::ledger {
namespace {

using base::Sha256Digest;

class Hash {
 public:
  Hash() { SHA256_Init(&state_); }
  Hash& update(std::string_view bytes) {
    SHA256_Update(&state_, bytes.data(), bytes.size());
    return *this;
  }
  Sha256Digest finish() {
    Sha256Digest digest{};
    SHA256_Final(digest.data(), &state_);
    return digest;
  }

 private:
  SHA256_CTX state_{};
};

// The largest power of two that is smaller than `count`, which is at least 2.
std::uint64_t split_of(std::uint64_t count) { return std::bit_floor(count - 1); }

// MTH(D[begin:end]); `begin` is a multiple of every power of two that is used.
Result<Sha256Digest> range_root(std::uint64_t begin, std::uint64_t end, const NodeReader& node) {
  if (const std::uint64_t count = end - begin; std::has_single_bit(count)) {
    const auto level = static_cast<unsigned>(std::countr_zero(count));
    return node(level, begin >> level);
  }
  const std::uint64_t middle = begin + split_of(end - begin);
  DE_TRY(const auto left, range_root(begin, middle, node));
  DE_TRY(const auto right, range_root(middle, end, node));
  return node_hash(left, right);
}

// The RFC's PATH and SUBPROOF give their hashes from the leaf up; going down, they are collected in reverse.
Result<Hashes> collect(std::vector<std::pair<std::uint64_t, std::uint64_t>>& ranges, const NodeReader& node) {
  Hashes proof;
  proof.reserve(ranges.size());
  for (auto range = ranges.rbegin(); range != ranges.rend(); ++range) {
    DE_TRY(auto hash, range_root(range->first, range->second, node));
    proof.push_back(hash);
  }
  return proof;
}

}  // namespace

Sha256Digest digest_of(std::string_view bytes) { return Hash().update(bytes).finish(); }

Sha256Digest leaf_hash(std::string_view leaf) { return Hash().update(std::string_view("\0", 1)).update(leaf).finish(); }

Sha256Digest node_hash(const Sha256Digest& left, const Sha256Digest& right) {
  return Hash().update(std::string_view("\x01", 1)).update(base::as_bytes(left)).update(base::as_bytes(right)).finish();
}

Sha256Digest empty_root() { return digest_of(""); }

Result<MerkleTree> MerkleTree::of(std::uint64_t size, std::vector<Sha256Digest> peaks) {
  if (static_cast<std::size_t>(std::popcount(size)) != peaks.size()) {
    return fail(Errc::corrupt, "a tree of " + std::to_string(size) + " leaves has " +
                                   std::to_string(std::popcount(size)) + " complete subtrees, not " +
                                   std::to_string(peaks.size()));
  }
  MerkleTree tree;
  tree.size_ = size;
  tree.peaks_ = std::move(peaks);
  return tree;
}

Sha256Digest MerkleTree::root() const {
  if (peaks_.empty()) return empty_root();
  auto root = peaks_.back();
  for (std::size_t i = peaks_.size() - 1; i-- > 0;) root = node_hash(peaks_[i], root);
  return root;
}

Sha256Digest merkle_root(const std::vector<std::string>& leaves) {
  MerkleTree tree;
  for (const auto& leaf : leaves) tree.add(leaf_hash(leaf));
  return tree.root();
}

Result<Sha256Digest> root_at(std::uint64_t size, const NodeReader& node) {
  return size == 0 ? Result<Sha256Digest>(empty_root()) : range_root(0, size, node);
}

Result<Hashes> inclusion_proof(std::uint64_t index, std::uint64_t size, const NodeReader& node) {
  if (index >= size) {
    return fail(Errc::invalid_input,
                "entry " + std::to_string(index) + " is not among the first " + std::to_string(size));
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> siblings;
  for (std::uint64_t begin = 0, end = size; end - begin > 1;) {
    const std::uint64_t middle = begin + split_of(end - begin);
    if (index < middle) {
      siblings.emplace_back(middle, end);
      end = middle;
    } else {
      siblings.emplace_back(begin, middle);
      begin = middle;
    }
  }
  return collect(siblings, node);
}

Result<Hashes> consistency_proof(std::uint64_t from, std::uint64_t size, const NodeReader& node) {
  if (from > size) {
    return fail(Errc::invalid_input,
                "the ledger has " + std::to_string(size) + " entries, fewer than " + std::to_string(from));
  }
  if (from == 0 || from == size) return Hashes{};
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  std::uint64_t begin = 0, end = size;
  while (from != end) {
    const std::uint64_t middle = begin + split_of(end - begin);
    if (from <= middle) {
      ranges.emplace_back(middle, end);
      end = middle;
    } else {
      ranges.emplace_back(begin, middle);
      begin = middle;
    }
  }
  if (begin != 0) ranges.emplace_back(begin, end);  // of a whole subtree from the left edge the verifier has the root
  return collect(ranges, node);
}

bool proves_inclusion(std::uint64_t index, std::uint64_t size, const Sha256Digest& leaf,
                      std::span<const Sha256Digest> proof, const Sha256Digest& root) {
  if (index >= size) return false;
  std::uint64_t node = index, last = size - 1;
  auto hash = leaf;
  for (const auto& sibling : proof) {
    if (last == 0) return false;
    if ((node & 1) != 0 || node == last) {
      hash = node_hash(sibling, hash);
      while ((node & 1) == 0 && node != 0) {
        node >>= 1;
        last >>= 1;
      }
    } else {
      hash = node_hash(hash, sibling);
    }
    node >>= 1;
    last >>= 1;
  }
  return last == 0 && hash == root;
}

bool proves_consistency(std::uint64_t from, std::uint64_t size, const Sha256Digest& from_root, const Sha256Digest& root,
                        std::span<const Sha256Digest> proof) {
  if (from > size) return false;
  if (from == size) return proof.empty() && from_root == root;
  if (from == 0) return proof.empty() && from_root == empty_root();  // every tree goes on from the empty one
  std::uint64_t node = from - 1, last = size - 1;
  while ((node & 1) != 0) {
    node >>= 1;
    last >>= 1;
  }
  auto rest = proof;
  // Of a power of two the old root itself is the first hash, and is left out of the proof.
  Sha256Digest old_hash = from_root;
  if (!std::has_single_bit(from)) {
    if (rest.empty()) return false;
    old_hash = rest.front();
    rest = rest.subspan(1);
  }
  auto new_hash = old_hash;
  for (const auto& sibling : rest) {
    if (last == 0) return false;
    if ((node & 1) != 0 || node == last) {
      old_hash = node_hash(sibling, old_hash);
      new_hash = node_hash(sibling, new_hash);
      while ((node & 1) == 0 && node != 0) {
        node >>= 1;
        last >>= 1;
      }
    } else {
      new_hash = node_hash(new_hash, sibling);
    }
    node >>= 1;
    last >>= 1;
  }
  return last == 0 && old_hash == from_root && new_hash == root;
}

}  // namespace daemoneye::ledger
