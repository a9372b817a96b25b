#include <lz4.h>
#define XXH_INLINE_ALL  // most of what is hashed is shorter than a call is dear
#include <xxhash.h>

#include "base/bytes.h"
#include "store/block_format.h"

namespace daemoneye::store {
namespace {

std::uint64_t checksum(std::string_view payload, std::uint32_t raw_size, std::int64_t id) {
  return XXH64(payload.data(), payload.size(), static_cast<std::uint64_t>(id) ^ std::uint64_t{raw_size} << 32);
}

struct Frame {
  std::uint8_t codec = 0;
  std::uint32_t raw_size = 0;
  std::string_view payload;
};

std::unexpected<Error> bad(std::int64_t id, std::string_view what) {
  return fail(Errc::corrupt, "chunk " + std::to_string(id) + ": " + std::string(what));
}

Result<Frame> read_frame(std::string_view chunk, std::int64_t id, Checksum checked) {
  base::ByteReader in(chunk);
  Frame frame;
  frame.codec = in.u8();
  frame.raw_size = in.u32();
  const std::uint64_t wanted = in.u64();
  frame.payload = in.raw(in.remaining());
  if (!in.ok()) return bad(id, "short");
  if (frame.raw_size > max_chunk_bytes) return bad(id, "size above the bound");
  if (checked == Checksum::unknown && checksum(frame.payload, frame.raw_size, id) != wanted)
    return bad(id, "checksum differs");
  return frame;
}

}  // namespace

std::string seal_chunk(std::string_view body, std::int64_t id, int acceleration) {
  const int size = static_cast<int>(body.size());
  const auto bound = static_cast<std::size_t>(LZ4_compressBound(size));
  std::string chunk;
  bool smaller = false;
  // Not filled with zeros first, and without a copy after.
  chunk.resize_and_overwrite(chunk_frame_bytes + bound, [&](char* out, std::size_t) {
    char* payload = out + chunk_frame_bytes;
    const int written = LZ4_compress_fast(body.data(), payload, size, static_cast<int>(bound), acceleration);
    smaller = written > 0 && written < size;
    if (!smaller) std::copy(body.begin(), body.end(), payload);
    return chunk_frame_bytes + (smaller ? static_cast<std::size_t>(written) : body.size());
  });
  const auto raw_size = static_cast<std::uint32_t>(body.size());
  std::string frame;
  base::ByteWriter out(frame);
  out.u8(static_cast<std::uint8_t>(smaller ? Codec::lz4 : Codec::stored));
  out.u32(raw_size);
  out.u64(checksum(std::string_view(chunk).substr(chunk_frame_bytes), raw_size, id));
  std::copy(frame.begin(), frame.end(), chunk.begin());
  return chunk;
}

Result<void> check_chunk(std::string_view chunk, std::int64_t id) {
  DE_CHECK(read_frame(chunk, id, Checksum::unknown));
  return {};
}

Result<std::string> open_chunk(std::string_view chunk, std::int64_t id, Checksum checked) {
  DE_TRY(const auto frame, read_frame(chunk, id, checked));
  const auto& [codec, raw_size, payload] = frame;
  if (codec == static_cast<std::uint8_t>(Codec::stored)) {
    if (payload.size() != raw_size) return bad(id, "wrong size");
    return std::string(payload);
  }
  if (codec != static_cast<std::uint8_t>(Codec::lz4)) return bad(id, "unknown codec");
  // LZ4 cannot give more than 255 bytes for one: a size beyond that is a lie, found before memory is taken.
  if (raw_size / 255 > payload.size()) return bad(id, "wrong size");
  std::string body;
  int read = -1;
  body.resize_and_overwrite(raw_size, [&, from = payload, size = raw_size](char* out, std::size_t) {
    // g++ 12 gives the capacity here
    read = LZ4_decompress_safe(from.data(), out, static_cast<int>(from.size()), static_cast<int>(size));
    return size;
  });
  if (read < 0 || static_cast<std::uint32_t>(read) != raw_size) return bad(id, "LZ4 data damaged");
  return body;
}

std::uint64_t filter_hash(std::string_view value) { return XXH3_64bits(value.data(), value.size()); }

std::uint64_t filter_hash(std::int64_t value) {
  char bytes[8];
  for (unsigned i = 0; i < sizeof bytes; ++i)
    bytes[i] = static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
  return filter_hash(std::string_view(bytes, sizeof bytes));
}

std::uint64_t filter_hash(const event::ProcessKey& key) {
  char bytes[sizeof key.boot + 4 + 8];
  std::copy(key.boot.begin(), key.boot.end(), bytes);
  char* at = bytes + key.boot.size();
  for (unsigned i = 0; i < 4; ++i) *at++ = static_cast<char>(key.pid >> (8 * i));
  for (unsigned i = 0; i < 8; ++i) *at++ = static_cast<char>(key.start_ticks >> (8 * i));
  return filter_hash(std::string_view(bytes, sizeof bytes));
}

std::string encode_batches(const std::vector<BatchEntry>& batches) {
  std::string body;
  base::ByteWriter out(body);
  out.varint(batches.size());
  std::int64_t epoch = 0;
  std::uint64_t sequence = 0;
  for (const auto& batch : batches) {
    out.zigzag(batch.epoch - epoch);
    out.zigzag(static_cast<std::int64_t>(batch.sequence - sequence));
    out.varint(batch.events);
    out.raw(base::as_bytes(batch.digest));
    epoch = batch.epoch;
    sequence = batch.sequence;
  }
  return body;
}

Result<std::vector<BatchEntry>> decode_batches(std::string_view body) {
  base::ByteReader in(body);
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > max_block_batches || count > in.remaining() / sizeof(base::Sha256Digest)) {
    return fail(Errc::corrupt, "batch list: wrong count");
  }
  std::vector<BatchEntry> batches(static_cast<std::size_t>(count));
  std::uint64_t epoch = 0, sequence = 0;
  for (auto& batch : batches) {
    epoch += static_cast<std::uint64_t>(in.zigzag());
    sequence += static_cast<std::uint64_t>(in.zigzag());
    batch.epoch = static_cast<std::int64_t>(epoch);
    batch.sequence = sequence;
    const std::uint64_t events = in.varint();
    const auto digest = in.raw(batch.digest.size());
    if (!in.ok() || events > event::max_batch_events) return fail(Errc::corrupt, "batch list: short or malformed");
    batch.events = static_cast<std::uint32_t>(events);
    std::copy(digest.begin(), digest.end(), batch.digest.begin());
  }
  if (!in.at_end()) return fail(Errc::corrupt, "batch list: bytes after the end");
  return batches;
}

}  // namespace daemoneye::store
