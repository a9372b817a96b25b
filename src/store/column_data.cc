#include "store/column_data.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include "base/bytes.h"

namespace daemoneye::store {
namespace {

// As ByteReader::varint(), with the place in a register: a column is thousands of them, and most are short.
class Varints {
 public:
  explicit Varints(std::string_view in) : at_(in.data()), end_(in.data() + in.size()) {}

  bool next(std::uint64_t& value) {
    if constexpr (std::endian::native == std::endian::little) {
      // Whatever its length: to guess that of the next one wrong costs more than all of this.
      std::uint64_t word = 0;
      if (end_ - at_ >= static_cast<std::ptrdiff_t>(sizeof word)) {
        std::memcpy(&word, at_, sizeof word);
        if (const std::uint64_t stop = ~word & 0x8080808080808080; stop != 0) {
          const int bits_before = std::countr_zero(stop) - 7;  // of the byte that ends it
          word &= (stop ^ (stop - 1)) & 0x7f7f7f7f7f7f7f7f;
          const bool is_shortest = word >> bits_before != 0 || bits_before == 0;
          word = (word & 0x007f007f007f007f) | (word & 0x7f007f007f007f00) >> 1;
          word = (word & 0x00003fff00003fff) | (word & 0x3fff00003fff0000) >> 2;
          value = (word & 0x000000000fffffff) | (word & 0x0fffffff00000000) >> 4;
          at_ += bits_before / 8 + 1;
          return is_shortest;
        }
      }
    }
    base::ByteReader in(rest());
    value = in.varint();
    at_ += in.position();
    return in.ok();
  }
  // The same, sooner where one or two bytes are what is met.
  bool next_short(std::uint64_t& value) {
    if (end_ - at_ >= 2) {
      const unsigned first = static_cast<unsigned char>(at_[0]), second = static_cast<unsigned char>(at_[1]);
      const unsigned has_second = first >> 7;
      if ((second & has_second << 7) == 0) {
        value = (first & 0x7f) | (second & -has_second) << 7;
        at_ += 1 + has_second;
        return second != 0 || has_second == 0;
      }
    }
    return next(value);
  }
  // A length, so many bytes and a NUL.
  bool next_text(std::string_view& text) {
    std::uint64_t size = 0;
    if (!next_short(size) || size >= static_cast<std::uint64_t>(end_ - at_)) return false;
    text = {at_, static_cast<std::size_t>(size)};
    at_ += size + 1;
    return at_[-1] == 0;
  }
  [[nodiscard]] std::string_view rest() const { return {at_, static_cast<std::size_t>(end_ - at_)}; }

 private:
  const char *at_, *end_;
};

std::uint64_t from_zigzag(std::uint64_t value) { return value >> 1 ^ (~(value & 1) + 1); }

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

// Of eight bytes at a time: a bit in the place of each that ends a varint, and of each that is 0.
constexpr std::uint64_t top_bits = 0x8080808080808080, low_bits = 0x7f7f7f7f7f7f7f7f;
std::uint64_t load_word(const char* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}
std::uint64_t ends_in(std::uint64_t word) { return ~word & top_bits; }
std::uint64_t zeros_in(std::uint64_t word) { return ~(((word & low_bits) + low_bits) | word) & top_bits; }
std::size_t count_bits(std::uint64_t of_bytes) {
  return static_cast<std::size_t>((of_bytes >> 7) * 0x0101010101010101 >> 56);
}

std::size_t count_ends(std::string_view codes) {
  std::size_t count = 0, at = 0;
  for (; codes.size() - at >= sizeof(std::uint64_t); at += sizeof(std::uint64_t))
    count += count_bits(ends_in(load_word(codes.data() + at)));
  for (; at < codes.size(); ++at) count += static_cast<unsigned char>(codes[at]) < 0x80 ? 1 : 0;
  return count;
}

// Goes through codes forwards, counting the rows that end and the new entries that are passed.
class CodeWalk {
 public:
  explicit CodeWalk(std::string_view codes) : codes_(codes) {}
  [[nodiscard]] std::size_t row() const { return row_; }
  [[nodiscard]] std::size_t at() const { return at_; }
  // To the beginning of the row's code.
  void to_row(std::size_t row) {
    while (codes_.size() - at_ >= sizeof(std::uint64_t)) {
      const auto word = load_word(codes_.data() + at_);
      const auto ends = count_bits(ends_in(word));
      if (row_ + ends >= row) break;
      row_ += ends;
      entries_ += count_bits(zeros_in(word));
      at_ += sizeof(std::uint64_t);
    }
    while (row_ < row && at_ < codes_.size()) step();
  }
  // To the code that brings the entry for the first time; false when none does.
  bool to_entry(std::size_t entry) {
    while (codes_.size() - at_ >= sizeof(std::uint64_t)) {
      const auto word = load_word(codes_.data() + at_);
      const auto zeros = count_bits(zeros_in(word));
      if (entries_ + zeros > entry) break;
      row_ += count_bits(ends_in(word));
      entries_ += zeros;
      at_ += sizeof(std::uint64_t);
    }
    while (at_ < codes_.size()) {
      if (codes_[at_] == 0 && entries_ == entry) return true;
      step();
    }
    return false;
  }
  // To this place in the codes.
  void to_place(std::size_t place) {
    row_ += count_ends(codes_.substr(at_, place - at_));
    at_ = place;
  }
  [[nodiscard]] std::uint32_t entry_here(std::size_t count) const {
    Varints codes(codes_.substr(at_));
    std::uint64_t code = 0;
    if (!codes.next_short(code)) return null_entry;
    const std::uint64_t entry = code == code_next ? entries_ : code - code_first;
    return code == code_null || entry >= count ? null_entry : static_cast<std::uint32_t>(entry);
  }

 private:
  void step() {
    const auto byte = static_cast<unsigned char>(codes_[at_++]);
    row_ += byte < 0x80 ? 1 : 0;
    entries_ += byte == 0 ? 1 : 0;
  }

  std::string_view codes_;
  std::size_t at_ = 0, row_ = 0, entries_ = 0;
};

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

bool read_keys(base::ByteReader& in, std::size_t rows, ColumnData& data, Codes codes) {
  const std::uint64_t boot_count = in.varint();
  if (!in.ok() || boot_count > rows || boot_count > in.remaining() / sizeof(event::BootId)) return false;
  std::vector<event::BootId> boots(static_cast<std::size_t>(boot_count));
  for (auto& boot : boots) {
    const auto bytes = in.raw(boot.size());
    std::copy(bytes.begin(), bytes.end(), boot.begin());
  }
  const std::uint64_t count = in.varint();
  if (!in.ok() || count > rows || count > in.remaining() / 3) return false;
  data.keys.resize(static_cast<std::size_t>(count));
  Varints numbers(in.rest());
  std::uint64_t ticks = 0, boot = 0, pid = 0, difference = 0;
  for (auto& key : data.keys) {
    if (!numbers.next_short(boot) || !numbers.next(pid) || !numbers.next_short(difference)) return false;
    if (boot >= boots.size() || pid > std::numeric_limits<event::Pid>::max()) return false;
    ticks += from_zigzag(difference);
    key = {boots[static_cast<std::size_t>(boot)], static_cast<event::Pid>(pid), ticks};
  }
  if (codes == Codes::left) return leave_codes(numbers.rest(), rows, data);
  return read_codes(numbers, rows, data.keys.size(), data);
}

}  // namespace

void find_rows(const ColumnData& data, std::uint32_t entry, std::uint32_t first, std::uint32_t last,
               std::vector<std::uint32_t>& out) {
  const auto codes = data.codes;
  CodeWalk walk(codes);
  if (!walk.to_entry(entry)) return;
  const auto add = [&](std::size_t row) {
    if (row >= first && row <= last) out.push_back(static_cast<std::uint32_t>(row));
  };
  add(walk.row());
  std::string wanted;
  base::ByteWriter(wanted).varint(code_first + std::uint64_t{entry});
  for (auto at = codes.find(wanted, walk.at() + 1); at != std::string_view::npos; at = codes.find(wanted, at + 1)) {
    if (static_cast<unsigned char>(codes[at - 1]) >= 0x80) continue;  // within another code
    walk.to_place(at);
    if (walk.row() > last) return;
    add(walk.row());
  }
}

void find_entries(const ColumnData& data, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& out) {
  CodeWalk walk(data.codes);
  out.clear();
  for (const std::uint32_t row : rows) {
    walk.to_row(row);
    out.push_back(walk.entry_here(data.count()));
  }
}

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
  if (!read_codes(Varints(data.codes), rows, data.count(), data))
    return fail(Errc::corrupt, "column " + std::string(event::info(column).name) + ": malformed codes");
  data.codes = {};
  if (encoding_of(column) == Encoding::key) {
    data.body.clear();
    data.body.shrink_to_fit();
  }
  return {};
}

}  // namespace daemoneye::store
