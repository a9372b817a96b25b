// A copy of a database that others write to at the same time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/time.h"
#include "db/database.h"

namespace daemoneye::db {

struct BackupOptions {
  bool overwrite = false;
  std::uint32_t pages_per_step = 256;
  Deadline deadline = Deadline::never();
  std::function<void(std::uint64_t done, std::uint64_t total)> progress = {};  // pages
};

// Copies one snapshot of `source` in small steps. Nobody waits for it: in WAL mode a reader blocks no writer; the WAL
// grows for as long as it takes. The copy is one file that needs no other beside it (0640), complete or not there: it
// is written under a temporary name, synced, and renamed. invalid_input when the target is there and not to be
// replaced; timeout; corrupt when a page of the source is damaged.
Result<void> backup(Database& source, const std::string& target, const BackupOptions& options);

}  // namespace daemoneye::db
