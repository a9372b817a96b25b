#include "ledger/merkle.h"

#include <gtest/gtest.h>

#include "ledger/ledger.h"

namespace daemoneye::ledger {
namespace {

// The leaves and roots that Certificate Transparency's implementations are tested with.
const std::vector<std::string>& known_leaves() {
  static const std::vector<std::string> leaves = [] {
    std::vector<std::string> bytes;
    for (const auto* hex :
         {"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}) {
      bytes.push_back(base::from_hex(hex).value());
    }
    return bytes;
  }();
  return leaves;
}

const std::vector<std::string> known_roots = {
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

TEST(Merkle, RootsAreThoseOfRfc6962) {
  for (std::size_t n = 0; n < known_roots.size(); ++n) {
    const std::vector<std::string> leaves(known_leaves().begin(),
                                          known_leaves().begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_EQ(base::to_hex(merkle_root(leaves)), known_roots[n]) << n;
  }
}

// The definition in the RFC, word for word: split at the largest power of two below n.
base::Sha256Digest defined_root(const std::vector<std::string>& leaves, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return leaf_hash(leaves[begin]);
  std::size_t k = 1;
  while (k * 2 < end - begin) k *= 2;
  const auto left = defined_root(leaves, begin, begin + k), right = defined_root(leaves, begin + k, end);
  return base::sha256(std::string("\x01") + std::string(base::as_bytes(left)) + std::string(base::as_bytes(right)));
}

TEST(Merkle, LeafByLeafIsTheDefinition) {
  std::vector<std::string> leaves;
  MerkleTree tree;
  for (std::size_t n = 1; n <= 130; ++n) {
    leaves.push_back(std::to_string(n));
    tree.add(leaf_hash(leaves.back()));
    ASSERT_EQ(tree.root(), defined_root(leaves, 0, leaves.size())) << n;
    ASSERT_EQ(tree.size(), n);
  }
}

// Node by node from the leaves of Certificate Transparency's test tree.
NodeReader known_nodes() {
  return [](unsigned level, std::uint64_t number) -> Result<base::Sha256Digest> {
    const std::uint64_t begin = number << level;
    const auto first = known_leaves().begin() + static_cast<std::ptrdiff_t>(begin);
    return merkle_root(std::vector<std::string>(first, first + (std::ptrdiff_t{1} << level)));
  };
}

std::vector<std::string> hex_of(const Hashes& hashes) {
  std::vector<std::string> all;
  for (const auto& hash : hashes) all.push_back(base::to_hex(hash));
  return all;
}

// The paths and proofs that Certificate Transparency's own tests expect (merkletree/merkle_tree_test.cc there; numbers
// of leaves count from 1 in it).
TEST(Merkle, InclusionProofsAreThoseOfCertificateTransparency) {
  struct Known {
    std::uint64_t leaf, size;
    std::vector<std::string> path;
  };
  const std::vector<Known> known = {
      {1, 1, {}},
      {1,
       8,
       {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
      {6,
       8,
       {"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
      {3, 3, {"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}},
      {2,
       5,
       {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
  };
  for (const auto& [leaf, size, path] : known) {
    const auto proof = inclusion_proof(leaf - 1, size, known_nodes());
    ASSERT_TRUE(proof);
    EXPECT_EQ(hex_of(*proof), path) << leaf << " of " << size;
    const auto root = root_at(size, known_nodes()).value();
    EXPECT_EQ(base::to_hex(root), known_roots[size]);
    EXPECT_TRUE(proves_inclusion(leaf - 1, size, leaf_hash(known_leaves()[leaf - 1]), *proof, root));
  }
}

TEST(Merkle, ConsistencyProofsAreThoseOfCertificateTransparency) {
  struct Known {
    std::uint64_t from, size;
    std::vector<std::string> proof;
  };
  const std::vector<Known> known = {
      {1, 1, {}},
      {1,
       8,
       {"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"}},
      {6,
       8,
       {"0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"}},
      {2,
       5,
       {"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"}},
  };
  for (const auto& [from, size, wanted] : known) {
    const auto proof = consistency_proof(from, size, known_nodes());
    ASSERT_TRUE(proof);
    EXPECT_EQ(hex_of(*proof), wanted) << from << " to " << size;
    EXPECT_TRUE(proves_consistency(from, size, root_at(from, known_nodes()).value(),
                                   root_at(size, known_nodes()).value(), *proof));
  }
}

// Every proof of every tree up to 70 leaves holds; with anything changed in it, it does not.
TEST(Merkle, ProofsHoldAndNothingElseDoes) {
  constexpr std::uint64_t most = 70;
  std::vector<base::Sha256Digest> leaves, roots = {empty_root()};
  MerkleTree tree;
  for (std::uint64_t i = 0; i < most; ++i) {
    leaves.push_back(leaf_hash(std::to_string(i)));
    tree.add(leaves.back());
    roots.push_back(tree.root());
  }
  const NodeReader node = [&](unsigned level, std::uint64_t number) -> Result<base::Sha256Digest> {
    MerkleTree part;
    for (std::uint64_t i = number << level; i < (number + 1) << level; ++i) part.add(leaves[i]);
    return part.root();
  };
  const base::Sha256Digest other = digest_of("other");
  for (std::uint64_t size = 1; size <= most; ++size) {
    for (std::uint64_t index = 0; index < size; ++index) {
      auto proof = inclusion_proof(index, size, node).value();
      ASSERT_TRUE(proves_inclusion(index, size, leaves[index], proof, roots[size])) << index << " of " << size;
      ASSERT_FALSE(proves_inclusion(index, size, other, proof, roots[size]));
      ASSERT_FALSE(proves_inclusion(index, size, leaves[index], proof, other));
      if (size > 1) {
        ASSERT_FALSE(proves_inclusion((index + 1) % size, size, leaves[index], proof, roots[size]));
      }
      proof.push_back(other);
      ASSERT_FALSE(proves_inclusion(index, size, leaves[index], proof, roots[size]));
      proof.pop_back();
      for (auto& hash : proof) {
        hash[0] ^= 1;
        ASSERT_FALSE(proves_inclusion(index, size, leaves[index], proof, roots[size]));
        hash[0] ^= 1;
      }
    }
    for (std::uint64_t from = 0; from <= size; ++from) {
      auto proof = consistency_proof(from, size, node).value();
      ASSERT_TRUE(proves_consistency(from, size, roots[from], roots[size], proof)) << from << " to " << size;
      ASSERT_FALSE(proves_consistency(from, size, other, roots[size], proof));
      if (from > 0) {
        ASSERT_FALSE(proves_consistency(from, size, roots[from], other, proof));
      }
      proof.push_back(other);
      ASSERT_FALSE(proves_consistency(from, size, roots[from], roots[size], proof));
      proof.pop_back();
      for (auto& hash : proof) {
        hash[31] ^= 1;
        ASSERT_FALSE(proves_consistency(from, size, roots[from], roots[size], proof)) << from << " to " << size;
        hash[31] ^= 1;
      }
    }
  }
  EXPECT_FALSE(inclusion_proof(5, 5, node));
  EXPECT_FALSE(consistency_proof(6, 5, node));
  EXPECT_FALSE(proves_inclusion(5, 5, other, {}, other));
  EXPECT_FALSE(proves_consistency(6, 5, other, other, {}));
}

TEST(Merkle, ATreeGoesOnFromItsPeaks) {
  MerkleTree whole;
  for (int i = 0; i < 300; ++i) {
    auto again = MerkleTree::of(whole.size(), whole.peaks());
    ASSERT_TRUE(again);
    const auto leaf = leaf_hash(std::to_string(i));
    again->add(leaf);
    whole.add(leaf);
    ASSERT_EQ(again->root(), whole.root());
  }
  EXPECT_FALSE(MerkleTree::of(3, {empty_root()}));
}

}  // namespace
}  // namespace daemoneye::ledger
