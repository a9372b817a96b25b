#include "ipc/frame.h"

#include "base/bytes.h"
#include "base/hash.h"

namespace daemoneye::ipc {

namespace {

constexpr std::size_t checked_header_bytes = 12;  // length and sequence, without the CRC itself
// A buffer that grew beyond this for a large frame is given back once it is empty.
constexpr std::size_t kept_buffer_bytes = 512 * 1024;

}  // namespace

void append_frame(std::string& out, std::uint64_t sequence, std::string_view payload) {
  out.reserve(out.size() + frame_header_bytes + payload.size());
  const std::size_t begin = begin_frame(out);
  out.append(payload);
  end_frame(out, begin, sequence);
}

std::size_t begin_frame(std::string& out) {
  const std::size_t begin = out.size();
  out.append(frame_header_bytes, '\0');
  return begin;
}

void end_frame(std::string& out, std::size_t begin, std::uint64_t sequence) {
  const auto payload = std::string_view(out).substr(begin + frame_header_bytes);
  std::string header;
  base::ByteWriter writer(header);
  writer.u32(static_cast<std::uint32_t>(payload.size()));
  writer.u64(sequence);
  writer.u32(base::crc32(payload, base::crc32(header)));
  out.replace(begin, frame_header_bytes, header);
}

FrameReader::FrameReader(std::size_t max_payload) : max_payload_(max_payload) {}

std::unexpected<Error> FrameReader::refuse(std::string why) {
  error_ = std::move(why);
  std::string().swap(buffer_);
  consumed_ = 0;
  return fail(Errc::corrupt, error_);
}

void FrameReader::feed(std::string_view bytes) {
  if (!error_.empty()) return;
  if (consumed_ == buffer_.size()) {
    buffer_.clear();
    if (buffer_.capacity() > kept_buffer_bytes) std::string().swap(buffer_);
    consumed_ = 0;
  } else if (consumed_ > 0) {
    buffer_.erase(0, consumed_);
    consumed_ = 0;
  }
  buffer_.append(bytes);
}

Result<bool> FrameReader::next(std::string_view& payload) {
  if (!error_.empty()) return fail(Errc::corrupt, error_);
  const auto rest = std::string_view(buffer_).substr(consumed_);
  base::ByteReader header(rest);
  const std::uint32_t length = header.u32();
  if (!header.ok()) return false;
  // As soon as the length is here, so that nothing is gathered for a frame that will be refused.
  if (length > max_payload_) {
    return refuse("frame: length " + std::to_string(length) + ", at most " + std::to_string(max_payload_) +
                  " are allowed");
  }
  const std::uint64_t sequence = header.u64();
  const std::uint32_t crc = header.u32();
  if (!header.ok() || header.remaining() < length) return false;
  const auto body = header.raw(length);
  // The CRC first: a flipped bit in the sequence is damage, not a wrong sequence.
  if (base::crc32(body, base::crc32(rest.substr(0, checked_header_bytes))) != crc) {
    return refuse("frame: CRC does not match at frame " + std::to_string(next_sequence_));
  }
  if (sequence != next_sequence_) {
    return refuse("frame: sequence " + std::to_string(sequence) + ", expected " + std::to_string(next_sequence_));
  }
  ++next_sequence_;
  consumed_ += frame_header_bytes + length;
  payload = body;
  return true;
}

bool FrameReader::mid_frame() const { return consumed_ < buffer_.size(); }

}  // namespace daemoneye::ipc
