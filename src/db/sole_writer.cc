#include "db/sole_writer.h"

#include <sqlite3.h>

#include <map>
#include <mutex>

namespace daemoneye::db {
namespace {

thread_local bool sole_writer = false;

// WAL_WRITE_LOCK, WAL_CKPT_LOCK and WAL_RECOVER_LOCK of SQLite's file format; readers' slots follow.
constexpr int writers_locks = 3;

// The methods of a file as they were, but for its shared locks. One a kind of file, for ever.
struct Methods {
  sqlite3_io_methods own;  // first: what a file points to is one of these
  const sqlite3_io_methods* inner;
};

int shm_lock(sqlite3_file* file, int offset, int count, int flags) {
  if (offset + count <= writers_locks && (flags & SQLITE_SHM_EXCLUSIVE) != 0) return SQLITE_OK;
  return reinterpret_cast<const Methods*>(file->pMethods)->inner->xShmLock(file, offset, count, flags);
}

const sqlite3_io_methods* methods_over(const sqlite3_io_methods* inner) {
  static std::mutex mutex;
  static std::map<const sqlite3_io_methods*, Methods> all;
  const std::scoped_lock lock(mutex);
  const auto [found, made] = all.try_emplace(inner, Methods{*inner, inner});
  if (made) found->second.own.xShmLock = shm_lock;
  return &found->second.own;
}

}  // namespace

SoleWriter::SoleWriter() : before_(sole_writer) { sole_writer = true; }
SoleWriter::~SoleWriter() { sole_writer = before_; }

void SoleWriter::adopt(sqlite3* handle) {
  if (!sole_writer) return;
  sqlite3_file* file = nullptr;
  sqlite3_file_control(handle, "main", SQLITE_FCNTL_FILE_POINTER, &file);
  if (file == nullptr || file->pMethods == nullptr || file->pMethods->iVersion < 2 ||
      file->pMethods->xShmLock == nullptr || file->pMethods->xShmLock == shm_lock) {
    return;
  }
  file->pMethods = methods_over(file->pMethods);
}

}  // namespace daemoneye::db
