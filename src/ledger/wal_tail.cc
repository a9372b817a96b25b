#include "ledger/wal_tail.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/unique_fd.h"

namespace daemoneye::ledger {
namespace {

constexpr std::size_t header_bytes = 32, frame_header_bytes = 24;
constexpr std::uint32_t magic_little = 0x377f0682, magic_big = 0x377f0683;

std::uint32_t big_endian(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return value;
}

struct Sums {
  std::uint32_t first = 0, second = 0;
  bool operator==(const Sums&) const = default;
};

void add(Sums& sums, std::string_view bytes, bool big) {
  const auto word = [&](std::size_t at) {
    const auto value = big_endian(bytes, at);
    return big ? value : __builtin_bswap32(value);
  };
  for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    sums.first += word(at) + sums.second;
    sums.second += word(at + 4) + sums.first;
  }
}

}  // namespace

Result<WalTail> find_wal_tail(const std::string& wal_path) {
  const UniqueFd fd(::open(wal_path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) {
    if (errno == ENOENT) return WalTail{};
    return fail_errno(wal_path, errno);
  }
  DE_TRY(const auto header, base::read_up_to(fd.get(), header_bytes));
  if (header.size() < header_bytes) return WalTail{};
  const auto magic = big_endian(header, 0);
  const std::uint32_t page = big_endian(header, 8);
  const bool big = magic == magic_big;
  Sums sums;
  add(sums, std::string_view(header).substr(0, 24), big);
  // No log of SQLite's: it is ignored by it, too.
  if ((magic != magic_little && !big) || page < 512 || page > 65536 || (page & (page - 1)) != 0 ||
      sums != Sums{big_endian(header, 24), big_endian(header, 28)}) {
    return WalTail{};
  }
  std::uint64_t at = header_bytes, committed = header_bytes, end = header_bytes;
  while (true) {
    DE_TRY(const auto frame, base::read_up_to(fd.get(), frame_header_bytes + page));
    if (frame.size() < frame_header_bytes || frame.compare(8, 8, header, 16, 8) != 0) break;  // of an earlier round
    end = at + frame.size();
    if (frame.size() < frame_header_bytes + page) break;
    add(sums, std::string_view(frame).substr(0, 8), big);
    add(sums, std::string_view(frame).substr(frame_header_bytes), big);
    if (sums != Sums{big_endian(frame, 16), big_endian(frame, 20)}) break;
    at = end;
    if (big_endian(frame, 4) != 0) committed = at;
  }
  return WalTail{committed, end - committed};
}

}  // namespace daemoneye::ledger
