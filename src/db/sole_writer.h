// A database with one writer, which holds a lock of its own that nobody else can take.
#pragma once

struct sqlite3;

namespace daemoneye::db {

// What this thread opens for writing while one of these lives is not stopped by read locks on the bytes that only
// writers of a write-ahead log lock (to write, to copy it back, to rebuild its index): whoever may read the log's
// shared memory could hold them so, for as long as it likes, and nothing could be written. SQLite itself locks these
// bytes for writing only, which needs the right to write: who holds them so is waited for, as ever. Only for who is the
// sole writer by other means; readers' own slots are respected.
class SoleWriter {
 public:
  SoleWriter();
  ~SoleWriter();
  SoleWriter(const SoleWriter&) = delete;
  SoleWriter& operator=(const SoleWriter&) = delete;

  // For Database::open, before the file is first looked at.
  static void adopt(sqlite3* handle);

 private:
  bool before_;
};

}  // namespace daemoneye::db
