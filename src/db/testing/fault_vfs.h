// A disk that fails and loses power, for tests. While it lives it is SQLite's default VFS, so that everything opened
// through db::Database in this process goes through it. Its model of a disk:
// - what was written and not synced may be there after a power loss, or not, or in part (sectors of 512 bytes);
// - what was written when a sync failed may be gone for good, though reads still show it;
// - -shm files are memory and always gone.
// Folders and names are taken to be durable at once. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "db/vfs.h"

namespace daemoneye::db::testing {

class FaultVfs final : public Vfs {
 public:
  enum class Fault { write_full, write_error, read_only, sync_error, open_error };

  explicit FaultVfs(std::uint64_t seed);

  // From the call after the next `after` ones of its kind on, `count` calls fail.
  void fail(Fault fault, std::uint64_t after, std::uint64_t count);
  void heal();
  // After this many more writes and syncs the power is gone: every call fails, until restore_power().
  void cut_power_after(std::uint64_t operations);
  void cut_power();
  [[nodiscard]] bool powerless() const;
  [[nodiscard]] std::uint64_t operations() const;
  // Puts on the real disk what a power loss at that moment may have left, chosen at random. All files closed.
  void restore_power();

  std::unique_ptr<VfsFile> wrap(const char* name, int flags, std::unique_ptr<std::byte[]> storage) override;
  int before_open(const char* name, int flags) override;
  int before_delete(const char* name) override;

  // What a file does; for the file's own class.
  int on_write(const std::string& name, std::string_view bytes, std::uint64_t offset);
  int on_truncate(const std::string& name, std::uint64_t size);
  int on_sync(const std::string& name);
  int on_read() const;

 private:
  struct Change {
    std::uint64_t offset = 0;
    std::string bytes;
    bool truncates = false;  // to `offset`
  };
  struct Disk {
    std::string durable;
    std::vector<Change> pending;
  };
  int fault_of(Fault fault, int code);
  int spend();  // one operation of what is left before the power is cut
  std::string after_power_loss(const Disk& disk);

  mutable std::mutex mutex_;
  std::mt19937_64 random_;
  std::map<std::string, Disk> disks_;
  std::map<Fault, std::pair<std::uint64_t, std::uint64_t>> faults_;  // calls before it, calls that fail
  std::uint64_t operations_ = 0, cut_at_ = UINT64_MAX;
  bool powerless_ = false;
};

}  // namespace daemoneye::db::testing
