// Reads a BPF ring buffer as libbpf's reader does, but maps its data once. libbpf maps it twice in a row, so that a
// record that reaches over the end lies in one piece; the kernel counts what is mapped as resident from the start, and
// twice. Here such a record, one in thousands, is copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace daemoneye::sensor {

class Ring {
 public:
  // `fd`: of the map, which has room for `bytes`, a power of two and of whole pages. It stays the caller's.
  static Result<std::unique_ptr<Ring>> open(int fd, std::size_t bytes);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // For EPOLLIN: whether there is a record.
  [[nodiscard]] int fd() const { return fd_; }
  // A record, as it was written: lives for the call. False: no more for now.
  using Take = std::function<bool(std::string_view)>;
  // Hands over what was written whole, the oldest first, until there is nothing, or a record that is still being
  // written. 0, or an errno: a length that cannot be.
  int consume(const Take& take);

 private:
  Ring(int fd, std::size_t bytes) : fd_(fd), bytes_(bytes) {}
  std::string_view record(std::uint64_t position, std::size_t size);

  const int fd_;
  const std::size_t bytes_;
  std::uint64_t* consumed_ = nullptr;        // where we are, in a page that the kernel reads
  const std::uint64_t* produced_ = nullptr;  // where the kernel is, in the page before the data
  const char* data_ = nullptr;
  std::string joined_;  // a record that reaches over the end
};

}  // namespace daemoneye::sensor
