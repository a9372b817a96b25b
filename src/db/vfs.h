// A SQLite VFS that passes everything on to another one, file by file. What stands between (page checksums; faults, in
// tests) overrides the few calls it cares about.
#pragma once

#include <sqlite3.h>

#include <cstddef>
#include <memory>
#include <string>

namespace daemoneye::db {

// One open file. Lives as long as SQLite has it open; calls give SQLite's result codes.
class VfsFile {
 public:
  // `storage` holds the inner file, already open.
  explicit VfsFile(std::unique_ptr<std::byte[]> storage) : storage_(std::move(storage)) {}
  VfsFile(const VfsFile&) = delete;
  VfsFile& operator=(const VfsFile&) = delete;
  virtual ~VfsFile();  // closes the inner file when close() was not called

  virtual int close();
  virtual int read(void* out, int amount, sqlite3_int64 offset);
  virtual int write(const void* bytes, int amount, sqlite3_int64 offset);
  virtual int truncate(sqlite3_int64 size);
  virtual int sync(int flags);
  virtual int size(sqlite3_int64* out);
  virtual int control(int operation, void* argument);

  [[nodiscard]] sqlite3_file* inner() const { return reinterpret_cast<sqlite3_file*>(storage_.get()); }

 private:
  int noted(int code);

  std::unique_ptr<std::byte[]> storage_;
};

// Why the last write, truncation or sync of this thread failed, 0 if none did since the last call. SQLite does not know
// (sqlite3_system_errno) where it was a COMMIT that failed.
int take_failed_errno();

class Vfs {
 public:
  // Registers itself under `name`. `base` null: whichever is SQLite's default when a file is opened.
  Vfs(const char* name, sqlite3_vfs* base, bool make_default);
  Vfs(const Vfs&) = delete;
  Vfs& operator=(const Vfs&) = delete;
  virtual ~Vfs();  // no file may be open any more

  // `name` is null for a temporary file; `flags` are SQLite's SQLITE_OPEN_*.
  virtual std::unique_ptr<VfsFile> wrap(const char* name, int flags, std::unique_ptr<std::byte[]> storage) = 0;
  virtual int before_open(const char* name, int flags);
  virtual int before_delete(const char* name);

  [[nodiscard]] sqlite3_vfs* base() const;

 private:
  sqlite3_vfs vfs_{};
  sqlite3_vfs* base_;
};

}  // namespace daemoneye::db
