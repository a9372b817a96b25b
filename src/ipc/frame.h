// Frames: u32 payload length, u64 sequence, u32 CRC-32 of the first 12 bytes and the payload; all little-endian.
// The sequence counts the frames of one direction of one connection from 1, without holes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace daemoneye::ipc {

inline constexpr std::size_t frame_header_bytes = 16;
// The largest message is a batch of max_batch_bytes with a scan of max_scan_bytes, and a little for the envelope.
inline constexpr std::size_t max_frame_payload_bytes = (1 + 8) * 1024 * 1024 + 64 * 1024;

void append_frame(std::string& out, std::uint64_t sequence, std::string_view payload);

// Cuts a byte stream into frames. The length is checked before memory is taken for it.
class FrameReader {
 public:
  explicit FrameReader(std::size_t max_payload = max_frame_payload_bytes);
  // Adds what was received. After an error the reader stays in error.
  void feed(std::string_view bytes);
  // Takes the next whole frame's payload; false: none yet. corrupt: bad length, CRC or sequence (names which).
  Result<bool> next(std::string& payload);
  [[nodiscard]] bool mid_frame() const;  // bytes of an unfinished frame are held

 private:
  std::size_t max_payload_;
  std::string buffer_;
  std::size_t consumed_ = 0;
  std::uint64_t next_sequence_ = 1;
  std::string error_;
};

}  // namespace daemoneye::ipc
