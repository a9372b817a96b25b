#include "db/vfs.h"

#include <new>
#include <utility>

namespace daemoneye::db {
namespace {

// What SQLite allocates for us: the table of calls, and our object.
struct Handle {
  sqlite3_file base;
  VfsFile* file;
};

thread_local int failed_errno = 0;  // read by the same thread right after the call that failed

VfsFile& of(sqlite3_file* file) { return *reinterpret_cast<Handle*>(file)->file; }
sqlite3_file* inner(sqlite3_file* file) { return of(file).inner(); }

int close_file(sqlite3_file* file) {
  auto& handle = *reinterpret_cast<Handle*>(file);
  const int code = handle.file->close();
  delete std::exchange(handle.file, nullptr);
  return code;
}

// Version 2: with shared memory, without memory-mapped pages (which no read() would see).
const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = close_file,
    .xRead = [](sqlite3_file* f, void* out, int amount, sqlite3_int64 at) { return of(f).read(out, amount, at); },
    .xWrite = [](sqlite3_file* f, const void* in, int amount, sqlite3_int64 at) { return of(f).write(in, amount, at); },
    .xTruncate = [](sqlite3_file* f, sqlite3_int64 size) { return of(f).truncate(size); },
    .xSync = [](sqlite3_file* f, int flags) { return of(f).sync(flags); },
    .xFileSize = [](sqlite3_file* f, sqlite3_int64* out) { return of(f).size(out); },
    .xLock = [](sqlite3_file* f, int level) { return inner(f)->pMethods->xLock(inner(f), level); },
    .xUnlock = [](sqlite3_file* f, int level) { return inner(f)->pMethods->xUnlock(inner(f), level); },
    .xCheckReservedLock = [](sqlite3_file* f,
                             int* held) { return inner(f)->pMethods->xCheckReservedLock(inner(f), held); },
    .xFileControl = [](sqlite3_file* f, int operation, void* argument) { return of(f).control(operation, argument); },
    .xSectorSize = [](sqlite3_file* f) { return inner(f)->pMethods->xSectorSize(inner(f)); },
    .xDeviceCharacteristics = [](sqlite3_file* f) { return inner(f)->pMethods->xDeviceCharacteristics(inner(f)); },
    .xShmMap = [](sqlite3_file* f, int region, int size, int extend,
                  void volatile** out) { return inner(f)->pMethods->xShmMap(inner(f), region, size, extend, out); },
    .xShmLock = [](sqlite3_file* f, int offset, int n,
                   int flags) { return inner(f)->pMethods->xShmLock(inner(f), offset, n, flags); },
    .xShmBarrier = [](sqlite3_file* f) { inner(f)->pMethods->xShmBarrier(inner(f)); },
    .xShmUnmap = [](sqlite3_file* f, int remove) { return inner(f)->pMethods->xShmUnmap(inner(f), remove); },
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

Vfs& of(sqlite3_vfs* vfs) { return *static_cast<Vfs*>(vfs->pAppData); }

int open_file(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  auto& ours = of(vfs);
  auto& handle = *reinterpret_cast<Handle*>(file);
  handle.base.pMethods = nullptr;  // SQLite closes nothing that has none
  if (const int refused = ours.before_open(name, flags); refused != SQLITE_OK) return refused;
  auto* base = ours.base();
  try {
    auto storage = std::make_unique<std::byte[]>(static_cast<std::size_t>(base->szOsFile));
    auto* opened = reinterpret_cast<sqlite3_file*>(storage.get());
    const int code = base->xOpen(base, name, opened, flags, out_flags);
    if (code != SQLITE_OK) {
      if (opened->pMethods != nullptr) opened->pMethods->xClose(opened);
      return code;
    }
    handle.file = ours.wrap(name, flags, std::move(storage)).release();
  } catch (const std::bad_alloc&) {
    return SQLITE_NOMEM;
  }
  handle.base.pMethods = &methods;
  return SQLITE_OK;
}

}  // namespace

VfsFile::~VfsFile() {
  if (inner()->pMethods != nullptr) inner()->pMethods->xClose(inner());
}
int VfsFile::close() {
  const int code = inner()->pMethods->xClose(inner());
  inner()->pMethods = nullptr;
  return code;
}
int VfsFile::read(void* out, int amount, sqlite3_int64 offset) {
  return inner()->pMethods->xRead(inner(), out, amount, offset);
}
int VfsFile::write(const void* bytes, int amount, sqlite3_int64 offset) {
  return noted(inner()->pMethods->xWrite(inner(), bytes, amount, offset));
}
int VfsFile::truncate(sqlite3_int64 size) { return noted(inner()->pMethods->xTruncate(inner(), size)); }
int VfsFile::sync(int flags) { return noted(inner()->pMethods->xSync(inner(), flags)); }
int VfsFile::noted(int code) {
  if ((code & 0xff) == SQLITE_IOERR) inner()->pMethods->xFileControl(inner(), SQLITE_FCNTL_LAST_ERRNO, &failed_errno);
  return code;
}
int VfsFile::size(sqlite3_int64* out) { return inner()->pMethods->xFileSize(inner(), out); }
int VfsFile::control(int operation, void* argument) {
  return inner()->pMethods->xFileControl(inner(), operation, argument);
}

int take_failed_errno() { return std::exchange(failed_errno, 0); }

Vfs::Vfs(const char* name, sqlite3_vfs* base, bool make_default) : base_(base) {
  const auto* like = base == nullptr ? sqlite3_vfs_find(nullptr) : base;
  vfs_.iVersion = 2;
  vfs_.szOsFile = sizeof(Handle);
  vfs_.mxPathname = like->mxPathname;
  vfs_.zName = name;
  vfs_.pAppData = this;
  vfs_.xOpen = open_file;
  vfs_.xDelete = [](sqlite3_vfs* vfs, const char* file, int sync) {
    if (const int refused = of(vfs).before_delete(file); refused != SQLITE_OK) return refused;
    return of(vfs).base()->xDelete(of(vfs).base(), file, sync);
  };
  vfs_.xAccess = [](sqlite3_vfs* vfs, const char* file, int flags, int* out) {
    return of(vfs).base()->xAccess(of(vfs).base(), file, flags, out);
  };
  vfs_.xFullPathname = [](sqlite3_vfs* vfs, const char* file, int size, char* out) {
    return of(vfs).base()->xFullPathname(of(vfs).base(), file, size, out);
  };
  vfs_.xRandomness = [](sqlite3_vfs* vfs, int size, char* out) {
    return of(vfs).base()->xRandomness(of(vfs).base(), size, out);
  };
  vfs_.xSleep = [](sqlite3_vfs* vfs, int us) { return of(vfs).base()->xSleep(of(vfs).base(), us); };
  vfs_.xCurrentTime = [](sqlite3_vfs* vfs, double* out) { return of(vfs).base()->xCurrentTime(of(vfs).base(), out); };
  vfs_.xGetLastError = [](sqlite3_vfs* vfs, int size, char* out) {
    return of(vfs).base()->xGetLastError(of(vfs).base(), size, out);
  };
  vfs_.xCurrentTimeInt64 = [](sqlite3_vfs* vfs, sqlite3_int64* out) {
    return of(vfs).base()->xCurrentTimeInt64(of(vfs).base(), out);
  };
  sqlite3_vfs_register(&vfs_, make_default ? 1 : 0);
}

Vfs::~Vfs() {
  const bool was_default = sqlite3_vfs_find(nullptr) == &vfs_;
  sqlite3_vfs_unregister(&vfs_);
  // SQLite takes whichever is next in its list, and that may be one of ours, which leads to the default and so to
  // itself.
  if (was_default && base_ != nullptr) sqlite3_vfs_register(base_, 1);
}

sqlite3_vfs* Vfs::base() const { return base_ == nullptr ? sqlite3_vfs_find(nullptr) : base_; }
int Vfs::before_open(const char*, int) { return SQLITE_OK; }
int Vfs::before_delete(const char*) { return SQLITE_OK; }

}  // namespace daemoneye::db
