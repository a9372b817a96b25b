// The layout of a sealed block, shared by its writer (block_builder) and its reader (block_reader).
// docs/formats/store.md says the same in words. A change here is a new format version.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "event/batch.h"
#include "event/columns.h"

namespace daemoneye::store {

// A chunk's row id is the block's number and the chunk's place in it.
inline constexpr unsigned chunk_bits = 6;
inline constexpr std::uint8_t header_chunk = 62;   // BlockHeader
inline constexpr std::uint8_t batches_chunk = 63;  // which batches the block's events came in
inline constexpr std::int64_t chunk_id(std::int64_t block, std::uint8_t chunk) { return block << chunk_bits | chunk; }

// Bounds of the decoder, all checked before memory is taken.
inline constexpr std::size_t max_chunk_bytes = 96 * 1024 * 1024;  // uncompressed
inline constexpr std::size_t max_block_events = 1024 * 1024;
inline constexpr std::size_t max_block_batches = 1024 * 1024;
// The tail is sealed at the latest when it holds this much, whatever block_events says: compilers' command lines are
// long, and what is not sealed lies in memory, too, most of it twice for a moment when it is.
inline constexpr std::size_t max_tail_bytes = 6 * 1024 * 1024;  // uncompressed; of a block as well, and one batch more
inline constexpr std::size_t max_rebuilt_events = 64 * 1024;  // in one block of a tail that could not be sealed before
inline constexpr std::size_t max_tail_batches = 4096;

// How a column's values are laid out in its chunk.
enum class Encoding : std::uint8_t {
  none,        // not stored: derived from another column
  integer,     // presence, then differences from the value before
  time_based,  // presence, then differences from the row's `time`
  enumerator,  // as integer; the number of the enumerator
  real,        // presence, then 8 bytes each
  text,        // dictionary and codes
  key,         // dictionary of process keys and codes
};
constexpr Encoding encoding_of(event::Column column) {
  using event::Column;
  switch (column) {
    case Column::event_id:
    case Column::pid:                                  // in process_key
    case Column::command_line: return Encoding::none;  // from arguments
    case Column::collection_time:
    case Column::start_time:
    case Column::exit_time: return Encoding::time_based;
    case Column::time:
    case Column::ppid:
    case Column::uid:
    case Column::gid:
    case Column::euid:
    case Column::loginuid:
    case Column::session_id:
    case Column::exit_code:
    case Column::exit_signal:
    case Column::memory_usage:
    case Column::scan_id: return Encoding::integer;
    case Column::kind:
    case Column::source:
    case Column::status:
    case Column::executable_state: return Encoding::enumerator;
    case Column::cpu_usage: return Encoding::real;
    case Column::process_key:
    case Column::parent_key: return Encoding::key;
    default: return Encoding::text;
  }
}
constexpr bool has_number(Encoding encoding) {
  return encoding == Encoding::integer || encoding == Encoding::time_based;
}

// The first byte of an integer or real chunk.
enum class Presence : std::uint8_t { none = 0, all = 1, bitmap = 2 };
// Codes of a dictionary chunk, one varint a row: the next entry for the first time, NULL, or 2 + the entry's number.
inline constexpr std::uint64_t code_next = 0, code_null = 1, code_first = 2;

// Columns with a membership filter in the block header.
constexpr bool is_filtered(event::Column column) {
  using event::Column;
  switch (column) {
    case Column::kind:
    case Column::pid:
    case Column::ppid:
    case Column::process_key:
    case Column::parent_key:
    case Column::name:
    case Column::comm:
    case Column::executable_path:
    case Column::executable_hash:
    case Column::parent_name: return true;
    default: return false;
  }
}
inline constexpr std::size_t filter_bits_per_value = 10;
inline constexpr unsigned filter_probes = 7;

// A chunk as stored: codec, uncompressed size, checksum, payload.
enum class Codec : std::uint8_t { stored = 0, lz4 = 1 };
inline constexpr std::size_t chunk_frame_bytes = 1 + 4 + 8;
// `acceleration` is LZ4's: more is faster and bigger. What soon goes again is not worth the time.
inline constexpr int fast_acceleration = 8;
std::string seal_chunk(std::string_view body, std::int64_t id, int acceleration = 1);
// corrupt when the checksum (which covers the id: a chunk in another's place is found out), a size or LZ4 disagrees.
enum class Checksum : std::uint8_t { unknown, known_good };
Result<std::string> open_chunk(std::string_view chunk, std::int64_t id, Checksum checked = Checksum::unknown);
// Whether it would be opened, as far as the checksum tells.
Result<void> check_chunk(std::string_view chunk, std::int64_t id);

std::uint64_t filter_hash(std::string_view value);
std::uint64_t filter_hash(std::int64_t value);
std::uint64_t filter_hash(const event::ProcessKey& key);

// One batch of a block, in order of commit.
struct BatchEntry {
  std::int64_t epoch = 0;  // row of `epochs`
  std::uint64_t sequence = 0;
  std::uint32_t events = 0;
  base::Sha256Digest digest{};
};
std::string encode_batches(const std::vector<BatchEntry>& batches);
Result<std::vector<BatchEntry>> decode_batches(std::string_view body);

}  // namespace daemoneye::store
