// The files of a store: folder, lock, rights.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "db/database.h"

namespace daemoneye::store {

// Held by the only writer as long as it lives: a lock on PATH.writer, which only the owner can open, so that no reader
// can hold it against the writer. What tells readers that there is a writer is a lock on PATH.lock beside it, on which
// the writer depends in nothing. Both end with the process whatever way that ends.
class WriterLock {
 public:
  static Result<WriterLock> take(const std::string& path, const std::string& reader_group);
  // Whether some process (this one included) holds it. Not when a reader keeps the sign from being given.
  static bool is_held(const std::string& path);
  // The lock's files, of a store that is no more.
  static void remove_files(const std::string& path);

 private:
  WriterLock(UniqueFd lock, UniqueFd sign) : lock_(std::move(lock)), sign_(std::move(sign)) {}
  UniqueFd lock_, sign_;
};

// Makes the folder (0750) when it is missing.
Result<void> prepare_folder(const std::string& path, const std::string& reader_group);
// The copy that is kept of a file of an earlier schema version: events.redb -> events.schema-1.redb.
std::string backup_before_migration(const std::string& path, std::int64_t version);
// Opens or creates the file for writing (0640, whatever the umask), sets the group, migrates.
Result<std::unique_ptr<db::Database>> open_store_for_writing(const std::string& path, const std::string& reader_group);
Result<std::unique_ptr<db::Database>> open_store_for_reading(const std::string& path);

// Moves a file that cannot be used, with what lies beside it, out of the way: events.redb ->
// events.damaged-20261122T001500Z.redb. Its new name. unavailable when an agent has it.
Result<std::string> set_aside(const std::string& path);

std::uint64_t file_size(const std::string& path);  // 0 when it is not there

}  // namespace daemoneye::store
