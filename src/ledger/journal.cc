#include "ledger/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"

namespace daemoneye::ledger {
namespace {

constexpr std::size_t crc_bytes = 4;

// The record's generation when it is whole.
std::optional<std::uint32_t> decode(std::string_view record, Ledger::BatchDigest& batch) {
  base::ByteReader in(record);
  const auto epoch = in.raw(batch.epoch.size());
  batch.sequence = in.u64();
  const auto digest = in.raw(batch.digest.size());
  const auto generation = in.u32();
  if (in.u32() != base::crc32(record.substr(0, Journal::record_bytes - crc_bytes))) return std::nullopt;
  std::ranges::copy(epoch, batch.epoch.begin());
  std::ranges::copy(digest, batch.digest.begin());
  return generation;
}

}  // namespace

Result<Journal> Journal::open(UniqueFd fd, const std::string& path) {
  Journal journal;
  journal.fd_ = std::move(fd);
  journal.path_ = path;
  return journal;
}

Result<Journal::Found> Journal::read(int fd, std::uint64_t generation) {
  Found found;
  std::string bytes(max_records * record_bytes, '\0');
  std::size_t size = 0;
  while (size < bytes.size()) {
    const auto got = ::pread(fd, bytes.data() + size, bytes.size() - size, static_cast<off_t>(size));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("the batch journal", errno);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  for (std::size_t at = 0; at + record_bytes <= size; at += record_bytes) {
    const auto record = std::string_view(bytes).substr(at, record_bytes);
    Ledger::BatchDigest batch;
    const auto of = decode(record, batch);
    if (of == static_cast<std::uint32_t>(generation)) {
      found.batches.push_back(batch);
    } else if (!of && record.find_first_not_of('\0') != std::string_view::npos) {
      ++found.torn;
    }
  }
  return found;
}

Result<void> Journal::append(const std::vector<Ledger::BatchDigest>& batches, std::uint64_t generation) {
  if (records_ + batches.size() > max_records) {
    return fail(Errc::limit_exceeded, path_ + ": " + std::to_string(records_) + " batches wait for their root");
  }
  std::string bytes;
  bytes.reserve(batches.size() * record_bytes);
  for (const auto& batch : batches) {
    const std::size_t begin = bytes.size();
    base::ByteWriter out(bytes);
    out.raw({reinterpret_cast<const char*>(batch.epoch.data()), batch.epoch.size()});
    out.u64(batch.sequence);
    out.raw(base::as_bytes(batch.digest));
    out.u32(static_cast<std::uint32_t>(generation));
    out.u32(base::crc32(std::string_view(bytes).substr(begin)));
  }
  for (std::size_t done = 0; done < bytes.size();) {
    const auto at = static_cast<off_t>(records_ * record_bytes + done);
    const auto written = ::pwrite(fd_.get(), bytes.data() + done, bytes.size() - done, at);
    if (written < 0 && errno != EINTR) return fail_errno(path_, errno);
    if (written > 0) done += static_cast<std::size_t>(written);
  }
  records_ += batches.size();
  return {};
}

Result<void> Journal::clear() {
  records_ = 0;
  if (::ftruncate(fd_.get(), 0) != 0) return fail_errno(path_, errno);
  // Room for a second's batches is taken now, so that a disk that fills up shows at the root that cannot be written and
  // not between two digests. Where the file system cannot, the write says so.
  static_cast<void>(::posix_fallocate(fd_.get(), 0, static_cast<off_t>(max_records * record_bytes)));
  if (::fsync(fd_.get()) != 0) return fail_errno(path_, errno);
  return {};
}

}  // namespace daemoneye::ledger
