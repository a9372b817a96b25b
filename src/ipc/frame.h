// Frames: u32 payload length, u64 sequence, u32 CRC-32 of the first 12 bytes and the payload; all little-endian.
// The sequence counts the frames of one direction of one connection from 1, without holes. docs/formats/ipc.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace daemoneye::ipc {

inline constexpr std::size_t frame_header_bytes = 16;
// The largest message is a batch of max_batch_bytes with a scan of max_scan_bytes, and a little for the envelope.
inline constexpr std::size_t max_frame_payload_bytes = (1 + 8) * 1024 * 1024 + 64 * 1024;

// `payload` is at most max_frame_payload_bytes.
void append_frame(std::string& out, std::uint64_t sequence, std::string_view payload);
// The same for a payload that is made in place: what is appended to `out` between the two calls. The second is given
// what the first gave.
std::size_t begin_frame(std::string& out);
void end_frame(std::string& out, std::size_t begin, std::uint64_t sequence);

// Cuts a byte stream into frames. The length is checked before memory is taken for it: the reader never holds more
// than it was fed, and is fed no more after a bad length.
class FrameReader {
 public:
  explicit FrameReader(std::size_t max_payload = max_frame_payload_bytes);
  // Adds what was received; then next() is to be called until it says false. After an error bytes are dropped.
  void feed(std::string_view bytes);
  // The next whole frame's payload, valid until the next call of feed() or next(); false: none yet.
  // corrupt: bad length, CRC or sequence (names which); from then on the same error for good.
  Result<bool> next(std::string_view& payload);
  [[nodiscard]] bool mid_frame() const;  // bytes of an unfinished frame are held
  [[nodiscard]] std::size_t held_bytes() const { return buffer_.capacity(); }

 private:
  std::unexpected<Error> refuse(std::string why);

  std::size_t max_payload_;
  std::string buffer_;
  std::size_t consumed_ = 0;
  std::uint64_t next_sequence_ = 1;
  std::string error_;
};

}  // namespace daemoneye::ipc
