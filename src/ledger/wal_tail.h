// The end of a SQLite write-ahead log that a crash left: transactions that were begun and never committed.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace daemoneye::ledger {

struct WalTail {
  std::uint64_t offset = 0, bytes = 0;  // bytes 0: the log ends with a commit
};
// Reads the log before SQLite does, who would write over it. https://sqlite.org/fileformat2.html#walformat
Result<WalTail> find_wal_tail(const std::string& wal_path);

}  // namespace daemoneye::ledger
