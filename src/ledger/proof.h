// A proof that stands alone: what it says, the hashes, and the signed checkpoint that they lead to. Verified with the
// public key, far from the host.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "ledger/note.h"

namespace daemoneye::ledger {

struct Entry;

inline constexpr std::size_t max_proof_hashes = 130, max_proof_bytes = 512 * 1024;

struct Proof {
  enum class Kind { inclusion, consistency } kind = Kind::inclusion;
  // Of an inclusion: the entry as it is hashed, with what is needed to see that.
  std::uint64_t index = 0;
  std::int64_t time_ns = 0;
  std::string actor = {}, action = {}, payload = {};
  base::Sha256Digest previous_hash{};
  // Of consistency: the ledger when it was smaller.
  std::uint64_t from = 0;
  base::Sha256Digest from_root{};

  std::vector<base::Sha256Digest> hashes = {};
  std::string checkpoint = {};  // a signed note

  [[nodiscard]] std::string json() const;
  // c2sp.org/tlog-proof, the leaf as its extra data; of consistency in the same manner.
  [[nodiscard]] std::string text() const;
  // Either form. invalid_input: it is none.
  static Result<Proof> parse(std::string_view bytes);
  [[nodiscard]] std::string leaf() const;
  bool operator==(const Proof&) const = default;
};

// What the proof shows when it holds; corrupt when it does not, with the reason.
Result<Checkpoint> verify_proof(const Proof& proof, const PublicKey& key);

}  // namespace daemoneye::ledger
