// Digests and checksums.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace daemoneye::base {

using Sha256Digest = std::array<std::uint8_t, 32>;

// Streaming SHA-256 (OpenSSL). Not thread-safe; one object a stream.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::string_view bytes);
  // Ends the stream; the object can then begin a new one.
  Sha256Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256Digest sha256(std::string_view bytes);
// CRC-32 (IEEE 802.3, as zlib). `seed` is the checksum of what came before.
std::uint32_t crc32(std::string_view bytes, std::uint32_t seed = 0);

std::string to_hex(std::string_view bytes);
std::string to_hex(const Sha256Digest& digest);
// Bytes from an even number of hex digits, either case.
Result<std::string> from_hex(std::string_view text);
std::string_view as_bytes(const Sha256Digest& digest);

// Cryptographically random bytes from the kernel.
std::string random_bytes(std::size_t count);

}  // namespace daemoneye::base
