#include "db/sole_writer.h"

#include <sqlite3.h>

#include <memory>
#include <string>

#include "db/shm_locks.h"

namespace daemoneye::db {
namespace {

thread_local bool sole_writer = false;

// The methods of one file as they were, but for its shared locks; gone with its close.
struct Methods {
  sqlite3_io_methods own;  // first: what a file points to is one of these
  const sqlite3_io_methods* inner;
  std::string shm;
};

const Methods& methods_of(const sqlite3_file* file) { return *reinterpret_cast<const Methods*>(file->pMethods); }

enum class Held { for_reading, for_writing, by_nobody };

Held held(const std::string& shm, unsigned first, unsigned count) {
  const auto locks = shm_locks_of(shm);
  // Without /proc there is no telling, and the lock that makes us the sole writer is held.
  if (!locks) return Held::for_reading;
  auto held = Held::by_nobody;
  for (const auto& lock : *locks) {
    for (unsigned byte = first; byte < first + count; ++byte) {
      if (!lock.covers(byte)) continue;
      if (lock.is_write) return Held::for_writing;
      held = Held::for_reading;
    }
  }
  return held;
}

int shm_lock(sqlite3_file* file, int offset, int count, int flags) {
  const auto& methods = methods_of(file);
  const int code = methods.inner->xShmLock(file, offset, count, flags);
  const bool writers = (flags & SQLITE_SHM_EXCLUSIVE) != 0 && offset >= 0 && count > 0 &&
                       offset + count <= static_cast<int>(writers_shm_locks);
  if (code != SQLITE_BUSY || !writers) return code;
  // While it is locked for reading, nobody can lock it for writing. Whoever had it for writing and is gone by now is
  // met by SQLite's next try. To unlock what was not locked does nothing.
  const auto now = held(methods.shm, first_shm_lock + static_cast<unsigned>(offset), static_cast<unsigned>(count));
  return now == Held::for_reading ? SQLITE_OK : code;
}

int close_file(sqlite3_file* file) {
  const std::unique_ptr<const Methods> methods(&methods_of(file));
  file->pMethods = methods->inner;
  return methods->inner->xClose(file);
}

}  // namespace

SoleWriter::SoleWriter() : before_(sole_writer) { sole_writer = true; }
SoleWriter::~SoleWriter() { sole_writer = before_; }

void SoleWriter::adopt(sqlite3* handle) {
  if (!sole_writer) return;
  sqlite3_file* file = nullptr;
  sqlite3_file_control(handle, "main", SQLITE_FCNTL_FILE_POINTER, &file);
  const char* const path = sqlite3_db_filename(handle, "main");
  if (file == nullptr || file->pMethods == nullptr || file->pMethods->iVersion < 2 || path == nullptr ||
      file->pMethods->xShmLock == nullptr || file->pMethods->xShmLock == shm_lock) {
    return;
  }
  auto methods = std::make_unique<Methods>(Methods{*file->pMethods, file->pMethods, std::string(path) + "-shm"});
  methods->own.xShmLock = shm_lock;
  methods->own.xClose = close_file;
  file->pMethods = &methods.release()->own;
}

}  // namespace daemoneye::db
