#include "db/page_checksum.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "db/account.h"
#include "db/gathered_file.h"
#include "db/vfs.h"

namespace daemoneye::db {
namespace {

constexpr std::string_view magic("SQLite format 3\0", 16);
constexpr std::size_t header_bytes = 100, page_size_at = 16, reserved_at = 20;
constexpr std::size_t checksum_bytes = page_reserved_bytes;

thread_local std::uint64_t damaged_page = 0;  // read by the same thread right after the call that failed

void put(char* out, std::uint64_t value) {
  for (std::size_t i = 0; i < checksum_bytes; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

class ChecksumFile final : public VfsFile {
 public:
  ChecksumFile(std::unique_ptr<std::byte[]> storage, bool is_database)
      : VfsFile(std::move(storage)), is_database_(is_database) {}

  int read(void* out, int amount, sqlite3_int64 offset) override {
    const int code = VfsFile::read(out, amount, offset);
    if (code != SQLITE_OK || !is_database_) return code;
    const std::string_view bytes(static_cast<const char*>(out), static_cast<std::size_t>(amount));
    learn(bytes, offset);
    if (!is_page(bytes.size(), offset)) {
      if (offset != 0 || !says_falsely_that_it_has_none(bytes)) return code;
      damaged_page = 1;
      return SQLITE_IOERR_DATA;
    }
    char wanted[checksum_bytes];
    put(wanted, checksum_of(bytes, offset));
    if (std::memcmp(wanted, bytes.data() + bytes.size() - checksum_bytes, checksum_bytes) == 0) return code;
    // A page that the file was extended over and that was never written.
    if (std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; })) return code;
    damaged_page = number_of(offset);
    return SQLITE_IOERR_DATA;
  }

  int write(const void* bytes, int amount, sqlite3_int64 offset) override {
    const std::string_view page(static_cast<const char*>(bytes), static_cast<std::size_t>(amount));
    if (is_database_) learn(page, offset);
    if (!is_database_ || !is_page(page.size(), offset)) return VfsFile::write(bytes, amount, offset);
    page_.assign(page.begin(), page.end());
    put(page_.data() + page_.size() - checksum_bytes, checksum_of(page, offset));
    return VfsFile::write(page_.data(), amount, offset);
  }

  int control(int operation, void* argument) override {
    if (operation != set_page_size_control) return VfsFile::control(operation, argument);
    page_size_ = static_cast<std::size_t>(*static_cast<int*>(argument));
    return SQLITE_OK;
  }

 private:
  void learn(std::string_view bytes, sqlite3_int64 offset) {
    if (offset != 0 || bytes.size() < header_bytes || bytes.substr(0, magic.size()) != magic) return;
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(bytes[at]); };
    std::size_t size = static_cast<std::size_t>(byte(page_size_at) << 8 | byte(page_size_at + 1));
    if (size == 1) size = 65536;
    page_size_ = byte(reserved_at) == page_reserved_bytes ? size : 0;
  }
  // One flipped bit of this byte would turn the checksums of all pages off.
  [[nodiscard]] static bool says_falsely_that_it_has_none(std::string_view page) {
    if (page.size() < 512 || page.substr(0, magic.size()) != magic || page[reserved_at] == page_reserved_bytes)
      return false;
    std::string restored(page.substr(0, page.size() - checksum_bytes));
    restored[reserved_at] = page_reserved_bytes;
    char wanted[checksum_bytes];
    put(wanted, page_checksum(restored, 1));
    return page.substr(page.size() - checksum_bytes) == std::string_view(wanted, checksum_bytes);
  }
  [[nodiscard]] bool is_page(std::size_t amount, sqlite3_int64 offset) const {
    return page_size_ >= 512 && amount == page_size_ && static_cast<std::uint64_t>(offset) % page_size_ == 0;
  }
  [[nodiscard]] std::uint64_t number_of(sqlite3_int64 offset) const {
    return static_cast<std::uint64_t>(offset) / page_size_ + 1;
  }
  [[nodiscard]] std::uint64_t checksum_of(std::string_view page, sqlite3_int64 offset) const {
    return page_checksum(page.substr(0, page.size() - checksum_bytes), number_of(offset));
  }

  bool is_database_;
  std::size_t page_size_ = 0;  // 0: not known, or pages without checksums
  std::vector<char> page_;
};

class ChecksumVfs final : public Vfs {
 public:
  ChecksumVfs() : Vfs("daemoneye", nullptr, false) {}
  std::unique_ptr<VfsFile> wrap(const char* name, int flags, std::unique_ptr<std::byte[]> storage) override {
    if (name == nullptr) return make_temporary_file(std::move(storage));
    if ((flags & SQLITE_OPEN_WAL) != 0) return std::make_unique<GatheredFile>(std::move(storage));
    return std::make_unique<ChecksumFile>(std::move(storage), (flags & SQLITE_OPEN_MAIN_DB) != 0);
  }
};

}  // namespace

std::uint64_t page_checksum(std::string_view page, std::uint64_t page_number) {
  return XXH3_64bits_withSeed(page.data(), page.size(), page_number);
}

const char* page_checksum_vfs() {
  static ChecksumVfs* const vfs = new ChecksumVfs;  // never taken away: connections may outlive every static object
  (void)vfs;
  return "daemoneye";
}

std::uint64_t take_damaged_page() { return std::exchange(damaged_page, 0); }

}  // namespace daemoneye::db
