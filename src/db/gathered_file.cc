#include "db/gathered_file.h"

namespace daemoneye::db {

int GatheredFile::flush() {
  if (held_.empty()) return SQLITE_OK;
  const int code = VfsFile::write(held_.data(), static_cast<int>(held_.size()), held_at_);
  // After an error SQLite gives the transaction up, and with it what was to be written.
  held_.clear();
  return code;
}

int GatheredFile::write(const void* bytes, int amount, sqlite3_int64 offset) {
  const auto size = static_cast<std::size_t>(amount);
  const bool follows = offset == held_at_ + static_cast<sqlite3_int64>(held_.size());
  if (!held_.empty() && (!follows || held_.size() + size > max_held)) {
    if (const int code = flush(); code != SQLITE_OK) return code;
  }
  if (size > max_held) return VfsFile::write(bytes, amount, offset);
  if (held_.empty()) held_at_ = offset;
  const auto* first = static_cast<const std::byte*>(bytes);
  try {
    held_.insert(held_.end(), first, first + size);
  } catch (const std::bad_alloc&) {
    return SQLITE_NOMEM;
  }
  return SQLITE_OK;
}

int GatheredFile::read(void* out, int amount, sqlite3_int64 offset) {
  const int code = flush();
  return code == SQLITE_OK ? VfsFile::read(out, amount, offset) : code;
}
int GatheredFile::truncate(sqlite3_int64 size) {
  const int code = flush();
  return code == SQLITE_OK ? VfsFile::truncate(size) : code;
}
int GatheredFile::sync(int flags) {
  const int code = flush();
  return code == SQLITE_OK ? VfsFile::sync(flags) : code;
}
int GatheredFile::size(sqlite3_int64* out) {
  const int code = flush();
  return code == SQLITE_OK ? VfsFile::size(out) : code;
}
int GatheredFile::control(int operation, void* argument) {
  const int code = flush();
  return code == SQLITE_OK ? VfsFile::control(operation, argument) : code;
}
int GatheredFile::close() {
  const int flushed = flush();
  const int code = VfsFile::close();
  return flushed == SQLITE_OK ? code : flushed;
}

}  // namespace daemoneye::db
