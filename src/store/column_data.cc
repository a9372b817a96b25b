#include "store/column_data.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "base/bytes.h"
#include "store/column_codes.h"
#include "store/varints.h"

namespace daemoneye::store {
namespace {

// Calls `each` with `count` zigzag numbers, which must be all there is. Where each of them is a byte, as of columns of
// few values, none has to be looked for.
template <class Each>
bool read_differences(std::string_view in, std::size_t count, Each each) {
  unsigned char all = 0;
  for (const char byte : in) all |= static_cast<unsigned char>(byte);
  if (in.size() == count && (all & 0x80) == 0) {
    for (const char byte : in) each(from_zigzag(static_cast<unsigned char>(byte)));
    return true;
  }
  Varints numbers(in);
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!numbers.next(value)) return false;
    each(from_zigzag(value));
  }
  return numbers.rest().empty();
}

constexpr auto spread_bits = [] {
  std::array<std::array<std::uint8_t, 8>, 256> bytes{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (unsigned bit = 0; bit < 8; ++bit) bytes[byte][bit] = byte >> bit & 1;
  }
  return bytes;
}();

// How many values there are; nothing when it is malformed.
std::optional<std::size_t> read_presence(base::ByteReader& in, std::size_t rows, std::vector<std::uint8_t>& present) {
  const std::uint8_t kind = in.u8();
  if (!in.ok()) return std::nullopt;
  switch (static_cast<Presence>(kind)) {
    case Presence::all: return rows;
    case Presence::none: present.assign(rows, 0); return 0;
    case Presence::bitmap: {
      const auto bits = in.raw((rows + 7) / 8);
      if (!in.ok()) return std::nullopt;
      present.resize((rows + 7) / 8 * 8);
      std::size_t count = 0;
      for (std::size_t i = 0; i < bits.size(); ++i) {
        const auto& spread = spread_bits[static_cast<unsigned char>(bits[i])];
        std::copy(spread.begin(), spread.end(), present.begin() + static_cast<std::ptrdiff_t>(8 * i));
      }
      present.resize(rows);
      for (const std::uint8_t one : present) count += one;
      return count;
    }
  }
  return std::nullopt;
}

bool read_integers(base::ByteReader& in, std::size_t rows, ColumnData& data, const ColumnData* times) {
  const auto count = read_presence(in, rows, data.present);
  // Before memory is taken: each value is a byte at least.
  if (!count || *count > in.remaining()) return false;
  // The values that are there, then each to its row: which rows have one is no pattern that could be guessed.
  std::vector<std::int64_t> values(*count + (data.present.empty() ? 0 : 1));
  std::int64_t* out = values.data();
  std::uint64_t before = 0;
  const std::uint64_t keep_before = times == nullptr ? ~std::uint64_t{0} : 0;
  const bool good = read_differences(in.rest(), *count, [&](std::uint64_t difference) {
    before = (before & keep_before) + difference;
    *out++ = static_cast<std::int64_t>(before);
  });
  if (!good) return false;
  if (data.present.empty()) {
    data.integers = std::move(values);
  } else {
    data.integers.resize(rows);
    std::size_t next = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::uint8_t present = data.present[row];
      data.integers[row] = values[next] & -std::int64_t{present};
      next += present;
    }
  }
  if (times == nullptr) return true;
  for (std::size_t row = 0; row < rows; ++row) {
    const auto mask = data.present.empty() ? ~std::uint64_t{0} : ~std::uint64_t{data.present[row]} + 1;
    data.integers[row] = static_cast<std::int64_t>(static_cast<std::uint64_t>(data.integers[row]) +
                                                   (static_cast<std::uint64_t>(times->integers[row]) & mask));
  }
  return true;
}

std::uint8_t last_enumerator(event::Column column) {
  switch (column) {
    case event::Column::kind: return static_cast<std::uint8_t>(event::EventKind::fork);
    case event::Column::source: return static_cast<std::uint8_t>(event::EventSource::import);
    case event::Column::status: return static_cast<std::uint8_t>(event::ProcessStatus::exited);
    case event::Column::executable_state: return static_cast<std::uint8_t>(event::ExecutableState::kernel);
    default: return 0;
  }
}

// The number of a row's enumerator is its entry.
bool read_enumerators(base::ByteReader& in, std::size_t rows, ColumnData& data, event::Column column) {
  std::vector<std::uint8_t> present;
  const auto count = read_presence(in, rows, present);
  if (!count || *count > in.remaining()) return false;
  if (*count != rows && column != event::Column::executable_state) return false;
  std::vector<std::uint32_t> numbers(*count + 1);
  const std::uint64_t last = last_enumerator(column);
  std::uint32_t* out = numbers.data();
  std::uint64_t before = 0;
  bool known = true;
  const bool good = read_differences(in.rest(), *count, [&](std::uint64_t difference) {
    before += difference;
    known &= before - 1 < last;
    *out++ = static_cast<std::uint32_t>(before);
  });
  if (!good || !known) return false;
  if (*count == rows) {
    numbers.pop_back();
    data.rows = std::move(numbers);
    return true;
  }
  data.rows.resize(rows);
  std::size_t next = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    data.rows[row] = present[row] != 0 ? numbers[next] : null_entry;
    next += present[row];
  }
  return true;
}

bool read_reals(base::ByteReader& in, std::size_t rows, ColumnData& data) {
  if (!read_presence(in, rows, data.present)) return false;
  data.reals.resize(rows);
  for (std::size_t row = 0; row < rows && in.ok(); ++row) {
    if (data.is_present(row)) data.reals[row] = in.f64();
  }
  return in.at_end();
}

// Without branches on what the codes are: whether a row brings a new text or an old one is no pattern that could be
// guessed.
bool read_codes(Varints codes, std::size_t rows, std::size_t entries, ColumnData& data) {
  data.rows.resize(rows);
  std::uint32_t* out = data.rows.data();
  std::uint64_t next = 0;
  bool good = true;
  for (std::size_t row = 0; row < rows; ++row) {
    std::uint64_t code = 0;
    if (!codes.next_short(code)) return false;
    const bool is_next = code == code_next, is_null = code == code_null;
    const std::uint64_t old = code - code_first;
    // An entry is used when it is first met, so a later code names one of those before.
    good = good && (is_next || is_null || old < next);
    const std::uint64_t entry = is_next ? next : old;
    out[row] = is_null ? null_entry : static_cast<std::uint32_t>(entry);
    next += is_next ? 1 : 0;
  }
  return good && codes.rest().empty() && next == entries;
}

// Whether there are as many codes as rows; nothing else is known of them.
bool leave_codes(std::string_view codes, std::size_t rows, ColumnData& data) {
  const bool ends = codes.empty() || static_cast<unsigned char>(codes.back()) < 0x80;
  if (!ends || count_ends(codes) != rows) return false;
  data.codes = codes;
  return true;
}

bool read_texts(base::ByteReader& in, std::size_t rows, ColumnData& data, Codes codes) {
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > rows || count > in.remaining() / 2) return false;
  data.entries.resize(static_cast<std::size_t>(count));
  Varints texts(in.rest());
  for (auto& entry : data.entries) {
    if (!texts.next_text(entry)) return false;
  }
  if (codes == Codes::left) return leave_codes(texts.rest(), rows, data);
  return read_codes(texts, rows, data.entries.size(), data);
}

bool read_keys(const LeftKeys& left, Varints& numbers, std::vector<event::ProcessKey>& keys) {
  keys.resize(left.count);
  std::uint64_t ticks = 0, boot = 0, pid = 0, difference = 0;
  for (auto& key : keys) {
    if (!numbers.next_short(boot) || !numbers.next(pid) || !numbers.next_short(difference)) return false;
    if (boot >= left.boots.size() || pid > std::numeric_limits<event::Pid>::max()) return false;
    ticks += from_zigzag(difference);
    key = {left.boots[static_cast<std::size_t>(boot)], static_cast<event::Pid>(pid), ticks};
  }
  return true;
}

bool read_keys(base::ByteReader& in, std::size_t rows, ColumnData& data, Codes codes) {
  const std::uint64_t boot_count = in.varint();
  if (!in.ok() || boot_count > rows || boot_count > in.remaining() / sizeof(event::BootId)) return false;
  LeftKeys left;
  left.boots.resize(static_cast<std::size_t>(boot_count));
  for (auto& boot : left.boots) {
    const auto bytes = in.raw(boot.size());
    std::copy(bytes.begin(), bytes.end(), boot.begin());
  }
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > rows || count > in.remaining() / 3) return false;
  left.count = static_cast<std::size_t>(count);
  if (codes == Codes::read) {
    Varints numbers(in.rest());
    return read_keys(left, numbers, data.keys) && read_codes(numbers, rows, data.keys.size(), data);
  }
  const auto end = end_of(in.rest(), 3 * left.count);
  if (!end) return false;
  left.bytes = in.rest().substr(0, *end);
  data.left_keys = std::move(left);
  return leave_codes(in.rest().substr(*end), rows, data);
}

}  // namespace

std::size_t ColumnData::bytes() const {
  return present.capacity() + integers.capacity() * sizeof(std::int64_t) + reals.capacity() * sizeof(double) +
         rows.capacity() * sizeof(std::uint32_t) + body.capacity() + entries.capacity() * sizeof(std::string_view) +
         keys.capacity() * sizeof(event::ProcessKey);
}

Result<std::unique_ptr<ColumnData>> decode_column(event::Column column, std::string body, std::size_t rows,
                                                  const ColumnData* times, Codes codes) {
  auto data = std::make_unique<ColumnData>();
  data->body = std::move(body);
  base::ByteReader in(data->body);
  bool good = false;
  const auto encoding = encoding_of(column);
  switch (encoding) {
    case Encoding::none: return fail(Errc::internal, "column without a chunk");
    case Encoding::time_based: good = times != nullptr && read_integers(in, rows, *data, times); break;
    case Encoding::integer:
      // Every event has a time: others count on it.
      good = read_integers(in, rows, *data, nullptr) && (column != event::Column::time || data->present.empty());
      break;
    case Encoding::enumerator: good = read_enumerators(in, rows, *data, column); break;
    case Encoding::real: good = read_reals(in, rows, *data); break;
    case Encoding::text: good = read_texts(in, rows, *data, codes); break;
    case Encoding::key: good = read_keys(in, rows, *data, codes); break;
  }
  if (!good) {
    return fail(Errc::corrupt,
                "column " + std::string(event::info(column).name) + ": short, malformed or out of range");
  }
  if (encoding != Encoding::text && data->is_whole()) {
    data->body.clear();
    data->body.shrink_to_fit();
  }
  return data;
}

Result<void> read_left_codes(event::Column column, ColumnData& data, std::size_t rows) {
  if (data.is_whole()) return {};
  const auto read_left = [&] {
    Varints keys(data.left_keys.bytes);
    return read_keys(data.left_keys, keys, data.keys) && keys.rest().empty() &&
           read_codes(Varints(data.codes), rows, data.count(), data);
  };
  if (!read_left())
    return fail(Errc::corrupt, "column " + std::string(event::info(column).name) + ": malformed entries or codes");
  data.codes = {};
  data.left_keys = {};
  if (encoding_of(column) == Encoding::key) {
    data.body.clear();
    data.body.shrink_to_fit();
  }
  return {};
}

}  // namespace daemoneye::store
