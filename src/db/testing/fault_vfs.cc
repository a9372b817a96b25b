#include "db/testing/fault_vfs.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace daemoneye::db::testing {
namespace {

constexpr std::size_t sector = 512;

std::string content_of(const std::string& path) {
  const std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

void place(std::string& image, std::uint64_t offset, std::string_view bytes) {
  if (image.size() < offset + bytes.size()) image.resize(offset + bytes.size());
  image.replace(offset, bytes.size(), bytes);
}

class FaultFile final : public VfsFile {
 public:
  FaultFile(std::unique_ptr<std::byte[]> storage, FaultVfs& vfs, std::string name)
      : VfsFile(std::move(storage)), vfs_(vfs), name_(std::move(name)) {}
  int read(void* out, int amount, sqlite3_int64 offset) override {
    if (const int code = vfs_.on_read(); code != SQLITE_OK) return code;
    return VfsFile::read(out, amount, offset);
  }
  int write(const void* bytes, int amount, sqlite3_int64 offset) override {
    const std::string_view view(static_cast<const char*>(bytes), static_cast<std::size_t>(amount));
    if (const int code = vfs_.on_write(name_, view, static_cast<std::uint64_t>(offset)); code != SQLITE_OK) return code;
    return VfsFile::write(bytes, amount, offset);
  }
  int truncate(sqlite3_int64 size) override {
    if (const int code = vfs_.on_truncate(name_, static_cast<std::uint64_t>(size)); code != SQLITE_OK) return code;
    return VfsFile::truncate(size);
  }
  int sync(int flags) override {
    // The model is the disk; the real one need not be waited for.
    (void)flags;
    return vfs_.on_sync(name_);
  }

 private:
  FaultVfs& vfs_;
  std::string name_;
};

}  // namespace

FaultVfs::FaultVfs(std::uint64_t seed) : Vfs("daemoneye-faults", sqlite3_vfs_find("unix"), true), random_(seed) {}

void FaultVfs::fail(Fault fault, std::uint64_t after, std::uint64_t count) {
  const std::scoped_lock held(mutex_);
  faults_[fault] = {after, count};
}
void FaultVfs::heal() {
  const std::scoped_lock held(mutex_);
  faults_.clear();
}
void FaultVfs::cut_power_after(std::uint64_t operations) {
  const std::scoped_lock held(mutex_);
  cut_at_ = operations_ + operations;
}
void FaultVfs::cut_power() {
  const std::scoped_lock held(mutex_);
  powerless_ = true;
}
bool FaultVfs::powerless() const {
  const std::scoped_lock held(mutex_);
  return powerless_;
}
std::uint64_t FaultVfs::operations() const {
  const std::scoped_lock held(mutex_);
  return operations_;
}

int FaultVfs::fault_of(Fault fault, int code) {
  const auto found = faults_.find(fault);
  if (found == faults_.end()) return SQLITE_OK;
  auto& [before, failing] = found->second;
  if (before > 0) {
    --before;
    return SQLITE_OK;
  }
  if (failing == 0) return SQLITE_OK;
  --failing;
  return code;
}

int FaultVfs::spend() {
  if (!powerless_ && ++operations_ > cut_at_) powerless_ = true;
  return powerless_ ? SQLITE_IOERR : SQLITE_OK;
}

int FaultVfs::on_read() const {
  const std::scoped_lock held(mutex_);
  return powerless_ ? SQLITE_IOERR_READ : SQLITE_OK;
}

int FaultVfs::on_write(const std::string& name, std::string_view bytes, std::uint64_t offset) {
  const std::scoped_lock held(mutex_);
  if (spend() != SQLITE_OK) {
    // The write that the cut came upon may have begun.
    if (operations_ == cut_at_ + 1) disks_[name].pending.push_back({offset, std::string(bytes), false});
    return SQLITE_IOERR_WRITE;
  }
  if (const int code = fault_of(Fault::write_full, SQLITE_FULL); code != SQLITE_OK) return code;
  if (const int code = fault_of(Fault::write_error, SQLITE_IOERR_WRITE); code != SQLITE_OK) return code;
  if (const int code = fault_of(Fault::read_only, SQLITE_READONLY); code != SQLITE_OK) return code;
  disks_[name].pending.push_back({offset, std::string(bytes), false});
  return SQLITE_OK;
}

int FaultVfs::on_truncate(const std::string& name, std::uint64_t size) {
  const std::scoped_lock held(mutex_);
  if (spend() != SQLITE_OK) return SQLITE_IOERR_TRUNCATE;
  disks_[name].pending.push_back({size, {}, true});
  return SQLITE_OK;
}

int FaultVfs::on_sync(const std::string& name) {
  const std::scoped_lock held(mutex_);
  if (spend() != SQLITE_OK) return SQLITE_IOERR_FSYNC;
  auto& disk = disks_[name];
  if (const int code = fault_of(Fault::sync_error, SQLITE_IOERR_FSYNC); code != SQLITE_OK) {
    // As Linux does it: the pages count as clean now, whether they reached the disk or not, and are not written again.
    disk.durable = after_power_loss(disk);
    disk.pending.clear();
    return code;
  }
  for (const auto& change : disk.pending) {
    if (change.truncates)
      disk.durable.resize(change.offset);
    else
      place(disk.durable, change.offset, change.bytes);
  }
  disk.pending.clear();
  return SQLITE_OK;
}

std::string FaultVfs::after_power_loss(const Disk& disk) {
  std::string image = disk.durable;
  // Sometimes the whole of it made it, or nothing; mostly some.
  const auto mood = random_() % 4;
  for (const auto& change : disk.pending) {
    const auto fate = mood == 0 ? 0 : mood == 1 ? 1 : random_() % 3;  // there, gone, in part
    if (fate == 1) continue;
    if (change.truncates) {
      if (fate == 0) image.resize(change.offset);
      continue;
    }
    for (std::size_t at = 0; at < change.bytes.size();) {
      const auto size = std::min(change.bytes.size() - at, sector - (change.offset + at) % sector);
      if (fate == 0 || random_() % 2 == 0) {
        place(image, change.offset + at, std::string_view(change.bytes).substr(at, size));
      }
      at += size;
    }
  }
  return image;
}

void FaultVfs::restore_power() {
  const std::scoped_lock held(mutex_);
  for (auto& [name, disk] : disks_) {
    disk.durable = after_power_loss(disk);
    disk.pending.clear();
    std::ofstream out(name, std::ios::binary | std::ios::trunc);
    out << disk.durable;
  }
  for (const auto& [name, disk] : disks_) {
    if (name.ends_with("-wal")) std::filesystem::remove(name.substr(0, name.size() - 4) + "-shm");
  }
  disks_.clear();
  faults_.clear();
  powerless_ = false;
  cut_at_ = UINT64_MAX;
}

int FaultVfs::before_open(const char* name, int flags) {
  (void)name;
  const std::scoped_lock held(mutex_);
  if (powerless_) return SQLITE_CANTOPEN;
  if ((flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) == 0) return SQLITE_OK;
  return fault_of(Fault::open_error, SQLITE_CANTOPEN);
}

int FaultVfs::before_delete(const char* name) {
  const std::scoped_lock held(mutex_);
  if (powerless_) return SQLITE_IOERR_DELETE;
  disks_.erase(name);
  return SQLITE_OK;
}

std::unique_ptr<VfsFile> FaultVfs::wrap(const char* name, int flags, std::unique_ptr<std::byte[]> storage) {
  constexpr int kept = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL;
  if (name == nullptr || (flags & kept) == 0) return std::make_unique<VfsFile>(std::move(storage));
  const std::scoped_lock held(mutex_);
  if (!disks_.contains(name)) disks_[name].durable = content_of(name);  // what was there before is durable
  return std::make_unique<FaultFile>(std::move(storage), *this, name);
}

}  // namespace daemoneye::db::testing
