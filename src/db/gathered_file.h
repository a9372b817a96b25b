// A write-ahead log whose writes are gathered. SQLite writes each page of a commit with two calls, one behind the
// other, before the one sync that makes them count: here they become one.
//
// Only for connections with synchronous=FULL: then nobody is told of a frame in the log before it is synced, and what
// was never synced may be lost in any case. Every other call on the file writes first what is held back.
#pragma once

#include <vector>

#include "db/vfs.h"

namespace daemoneye::db {

class GatheredFile final : public VfsFile {
 public:
  explicit GatheredFile(std::unique_ptr<std::byte[]> storage) : VfsFile(std::move(storage)) {}

  int close() override;
  int read(void* out, int amount, sqlite3_int64 offset) override;
  int write(const void* bytes, int amount, sqlite3_int64 offset) override;
  int truncate(sqlite3_int64 size) override;
  int sync(int flags) override;
  int size(sqlite3_int64* out) override;
  int control(int operation, void* argument) override;

 private:
  // SQLite's own file takes less than 128 KiB at a time, and cuts off what is more.
  static constexpr std::size_t max_held = 64 * 1024;
  int flush();

  std::vector<std::byte> held_;
  sqlite3_int64 held_at_ = 0;  // of its first byte in the file
};

}  // namespace daemoneye::db
