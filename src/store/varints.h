// Reading the numbers of columns; private to the decoders of columns.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/bytes.h"

namespace daemoneye::store {

// Eight bytes at a time: a bit in the place of each that ends a varint.
inline constexpr std::uint64_t top_bits = 0x8080808080808080, low_bits = 0x7f7f7f7f7f7f7f7f;
inline std::uint64_t load_word(const char* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}
inline std::uint64_t ends_in(std::uint64_t word) { return ~word & top_bits; }

// The number that the low seven bits of these bytes make.
inline std::uint64_t join_sevens(std::uint64_t word) {
  word &= low_bits;
  word = (word & 0x007f007f007f007f) | (word & 0x7f007f007f007f00) >> 1;
  word = (word & 0x00003fff00003fff) | (word & 0x3fff00003fff0000) >> 2;
  return (word & 0x000000000fffffff) | (word & 0x0fffffff00000000) >> 4;
}

inline std::uint64_t from_zigzag(std::uint64_t value) { return value >> 1 ^ (~(value & 1) + 1); }

// As ByteReader::varint(), with the place in a register: a column is thousands of them, and most are short.
class Varints {
 public:
  explicit Varints(std::string_view in) : at_(in.data()), end_(in.data() + in.size()) {}

  bool next(std::uint64_t& value) {
    if constexpr (std::endian::native == std::endian::little) {
      // Whatever its length: to guess that of the next one wrong costs more than all of this.
      if (end_ - at_ >= static_cast<std::ptrdiff_t>(sizeof(std::uint64_t))) {
        const std::uint64_t word = load_word(at_);
        if (const std::uint64_t stop = ends_in(word); stop != 0) {
          const int bits_before = std::countr_zero(stop) - 7;  // of the byte that ends it
          const std::uint64_t own = word & (stop ^ (stop - 1)) & low_bits;
          const bool is_shortest = own >> bits_before != 0 || bits_before == 0;
          value = join_sevens(own);
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

}  // namespace daemoneye::store
