#include "base/bytes.h"

namespace daemoneye::base {

std::uint64_t ByteReader::long_varint() {
  // Without a look at the end for each byte where ten more are there.
  if (ok_ && remaining() >= 10) {
    const char* at = in_.data() + position_;
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(*at++);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      if (byte == 0 && shift != 0) break;
      position_ = static_cast<std::size_t>(at - in_.data());
      return value;
    }
  }
  std::uint64_t value = 0;
  for (unsigned shift = 0; ok_ && position_ < in_.size() && shift < 64; shift += 7) {
    const auto byte = static_cast<std::uint8_t>(in_[position_++]);
    if (shift == 63 && byte > 1) break;  // more than 64 bits
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) {
      // One encoding a number: a trailing zero byte would be a second one, and digests rest on bytes.
      if (byte == 0 && shift != 0) break;
      return value;
    }
  }
  ok_ = false;
  return 0;
}

}  // namespace daemoneye::base
