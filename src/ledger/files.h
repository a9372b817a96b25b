// The ledger's folder, file and lock, checked before SQLite sees them.
#pragma once

#include <string>

#include "base/unique_fd.h"
#include "ledger/ledger.h"

namespace daemoneye::ledger {

// Creates the folder (0750) and an empty file (0640) where missing, gives both to the reader group where we may, and
// returns the held single-writer lock. permission_denied: the folder or file is not ours alone to write.
// unavailable: another writer holds the lock.
Result<UniqueFd> claim_files(const Ledger::Options& options);

}  // namespace daemoneye::ledger
