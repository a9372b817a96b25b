// What writer and reader of the ledger's file must agree on; docs/formats/ledger.md says it in words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "db/database.h"
#include "ledger/ledger.h"

namespace daemoneye::ledger {

inline constexpr std::uint32_t application_id = 0x44454c47;  // "DELG"
const std::vector<std::string>& schema_steps();

inline constexpr std::string_view entry_columns =
    "sequence, time, actor, action, payload, payload_digest, previous_hash, entry_hash";
// The current row of a statement over `entry_columns`; corrupt (without the sequence in the text) when it is not an
// entry.
Result<Entry> read_entry(const db::Statement& row);

// What is wrong with `entry` as the successor of `previous` (null: it is the first); empty when nothing is.
std::string fault_of(const Entry& entry, const Entry* previous);

// How many entries there are said to be, and the hash of the last. A tail that was cut off shows here.
struct Head {
  std::uint64_t size = 0;
  base::Sha256Digest last_hash{};
};
Result<Head> read_head(db::Database& database);

}  // namespace daemoneye::ledger
