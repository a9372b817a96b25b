#include "db/account.h"

#include <sqlite3.h>

#include <algorithm>

#include "db/vfs.h"

namespace daemoneye::db {
namespace {

thread_local Account* current_account = nullptr;

sqlite3_mem_methods base{};  // SQLite's own

// `more` bytes: refused before they are taken.
void* allocate(int bytes) {
  auto* const account = current_account;
  if (account == nullptr) return base.xMalloc(bytes);
  if (account->refuses(bytes) || !account->take(bytes)) return nullptr;
  void* const memory = base.xMalloc(bytes);
  account->take((memory == nullptr ? 0 : base.xSize(memory)) - bytes);
  return memory;
}

void release(void* memory) {
  if (current_account != nullptr) current_account->take(-static_cast<std::int64_t>(base.xSize(memory)));
  base.xFree(memory);
}

void* reallocate(void* memory, int bytes) {
  auto* const account = current_account;
  if (account == nullptr) return base.xRealloc(memory, bytes);
  const std::int64_t before = base.xSize(memory);
  if (account->refuses(bytes - before) || !account->take(bytes - before)) return nullptr;
  void* const moved = base.xRealloc(memory, bytes);
  account->take((moved == nullptr ? before : base.xSize(moved)) - bytes);
  return moved;
}

bool install() {
  if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &base) != SQLITE_OK || base.xMalloc == nullptr) return false;
  sqlite3_mem_methods counting = base;
  counting.xMalloc = allocate;
  counting.xFree = release;
  counting.xRealloc = reallocate;
  return sqlite3_config(SQLITE_CONFIG_MALLOC, &counting) == SQLITE_OK;
}

const bool installed = install();

class TemporaryFile final : public VfsFile {
 public:
  using VfsFile::VfsFile;
  ~TemporaryFile() override { give_back(); }

  int close() override {
    give_back();
    return VfsFile::close();
  }
  int write(const void* bytes, int amount, sqlite3_int64 offset) override {
    const auto end = offset + amount;
    if (end > size_) {
      auto* const account = Account::current();
      if (account != nullptr && !account->take_temporary(end - size_)) return SQLITE_FULL;
      size_ = end;
    }
    return VfsFile::write(bytes, amount, offset);
  }

 private:
  void give_back() {
    if (auto* const account = Account::current(); account != nullptr && size_ > 0) account->take_temporary(-size_);
    size_ = 0;
  }
  sqlite3_int64 size_ = 0;
};

}  // namespace

Account::Account(std::uint64_t memory_limit, std::uint64_t temporary_limit)
    : outer_(current_account), memory_limit_(memory_limit), temporary_limit_(temporary_limit) {
  current_account = this;
}

Account::~Account() { current_account = outer_; }

Account* Account::current() { return current_account; }

bool Account::take(std::int64_t bytes) {
  if (bytes > 0 && memory_limit_ != 0 && used_ + bytes > static_cast<std::int64_t>(memory_limit_)) {
    reached_ = Limit::memory;
    return false;
  }
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  return true;
}

bool Account::take_temporary(std::int64_t bytes) {
  if (bytes > 0 && temporary_limit_ != 0 && temporary_ + bytes > static_cast<std::int64_t>(temporary_limit_)) {
    reached_ = Limit::temporary;
    return false;
  }
  temporary_ += bytes;
  if (bytes > 0) temporary_written_ += static_cast<std::uint64_t>(bytes);
  return true;
}

bool accounts_installed() { return installed; }

std::unique_ptr<VfsFile> make_temporary_file(std::unique_ptr<std::byte[]> storage) {
  return std::make_unique<TemporaryFile>(std::move(storage));
}

}  // namespace daemoneye::db
