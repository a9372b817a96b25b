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

}  // namespace
}  // namespace daemoneye::ledger
