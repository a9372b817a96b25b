// A database with one writer, which holds a lock of its own that nobody else can take.
#pragma once

struct sqlite3;

namespace daemoneye::db {

// What this thread opens for writing while one of these lives does not ask for the locks that only writers of a
// write-ahead log take (to write, to copy it back, to rebuild its index): whoever may read the log's shared memory
// could hold them with a read lock, for as long as it likes, and nothing could be written. Only for who is the sole
// writer by other means; readers keep their locks, and the writer respects those.
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
