#include "sensor/linux/ring.h"

#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace daemoneye::sensor {
namespace {

constexpr std::size_t kHeaderBytes = BPF_RINGBUF_HDR_SZ;
constexpr std::uint32_t kStateBits = BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT;
// So much is read before the kernel is told that its place is free: each time costs the programs on other CPUs a look
// into memory. Of the ring, and never more than so many bytes.
constexpr std::size_t kToldFraction = 16;
constexpr std::size_t kToldBytes = 32 * 1024;

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

// Header and record, as they lie in the ring.
constexpr std::uint64_t taken(std::size_t size) { return (size + kHeaderBytes + 7) / 8 * 8; }

}  // namespace

Result<std::unique_ptr<Ring>> Ring::open(int fd, std::size_t bytes) {
  std::unique_ptr<Ring> ring(new Ring(fd, bytes));
  const auto page = page_bytes();
  // The pages in their order: our position, the kernel's, the data (which the kernel itself has twice).
  void* const position = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (position == MAP_FAILED) return fail_errno("mapping the eBPF ring buffer's position", errno);
  ring->consumed_ = static_cast<std::uint64_t*>(position);
  void* const data = ::mmap(nullptr, page + bytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(page));
  if (data == MAP_FAILED) return fail_errno("mapping the eBPF ring buffer", errno);
  ring->produced_ = static_cast<const std::uint64_t*>(data);
  ring->data_ = static_cast<const char*>(data) + page;
  return ring;
}

Ring::~Ring() {
  const auto page = page_bytes();
  if (consumed_ != nullptr) ::munmap(consumed_, page);
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_) - page, page + bytes_);
}

std::string_view Ring::record(std::uint64_t position, std::size_t size) {
  const auto at = static_cast<std::size_t>((position + kHeaderBytes) & (bytes_ - 1));
  const auto before_end = std::min(size, bytes_ - at);
  if (before_end == size) return {data_ + at, size};
  joined_.assign(data_ + at, before_end);
  joined_.append(data_, size - before_end);
  return joined_;
}

int Ring::consume(const Take& take) {
  const auto told_every = std::min(kToldBytes, bytes_ / kToldFraction);
  auto at = __atomic_load_n(consumed_, __ATOMIC_RELAXED);  // nobody else writes it
  auto told = at;
  int outcome = 0;
  for (bool more = true; more;) {
    const auto end = __atomic_load_n(produced_, __ATOMIC_ACQUIRE);
    more = at != end;
    while (at != end) {
      // Aligned as the records are: it never reaches over the end.
      const auto header =
          __atomic_load_n(reinterpret_cast<const std::uint32_t*>(data_ + (at & (bytes_ - 1))), __ATOMIC_ACQUIRE);
      more = (header & BPF_RINGBUF_BUSY_BIT) == 0;
      if (!more) break;
      const std::size_t size = header & ~kStateBits;
      if (taken(size) > end - at) outcome = EIO;
      more = outcome == 0 && ((header & BPF_RINGBUF_DISCARD_BIT) != 0 || take(record(at, size)));
      if (outcome == 0) at += taken(size);
      if (!more) break;
      if (at - told < told_every) continue;
      __atomic_store_n(consumed_, at, __ATOMIC_RELEASE);
      told = at;
    }
  }
  if (at != told) __atomic_store_n(consumed_, at, __ATOMIC_SEQ_CST);
  return outcome;
}

}  // namespace daemoneye::sensor
