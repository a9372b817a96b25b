// What was signed last, kept beside the key: by it a log that was put back, rewritten or taken away is noticed at the
// next start, before it would be signed again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "ledger/merkle.h"
#include "ledger/note.h"

namespace daemoneye::ledger {

std::string signed_head_path(const std::string& key_path);
Result<void> keep_signed_head(const std::string& key_path, const std::string& note);
// Nothing when there is none, or none that one of these keys has signed.
std::optional<Checkpoint> read_signed_head(const std::string& key_path, const std::vector<PublicKey>& keys);

struct SignedPast {
  // The tree over all entries, from the last root that was signed and the entries since, each with its hash.
  std::optional<MerkleTree> tree;
  // How the log is not the one that was signed last: "put_back", "rewritten", "started_anew". Empty: it is that one.
  std::string replaced;
  std::optional<Checkpoint> signed_head;
};
// Of the log at `path` with `size` entries. `key`: that was recorded last, `own`: that signs from now on. corrupt: the
// newest checkpoint in the log, or a hash that was stored, is not that of its entries.
Result<SignedPast> check_signed_past(const std::string& path, std::uint64_t size, const std::string& key_path,
                                     const std::optional<PublicKey>& key, const std::optional<PublicKey>& own);

}  // namespace daemoneye::ledger
