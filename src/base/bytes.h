// Reading and writing byte layouts. Integers are little-endian; varints are LEB128 (at most 10 bytes).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace daemoneye::base {

class ByteWriter {
 public:
  explicit ByteWriter(std::string& out) : out_(out) {}
  void u8(std::uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void u16(std::uint16_t value) { fixed(value); }
  void u32(std::uint32_t value) { fixed(value); }
  void u64(std::uint64_t value) { fixed(value); }
  void f64(double value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    fixed(bits);
  }
  void varint(std::uint64_t value) {
    if (value < 0x80) return u8(static_cast<std::uint8_t>(value));
    char buffer[10];
    std::size_t size = 0;
    while (value >= 0x80) {
      buffer[size++] = static_cast<char>(static_cast<std::uint8_t>(value | 0x80));
      value >>= 7;
    }
    buffer[size++] = static_cast<char>(static_cast<std::uint8_t>(value));
    out_.append(buffer, size);
  }
  void zigzag(std::int64_t value) {
    varint((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63));
  }
  void raw(std::string_view bytes) { out_.append(bytes); }
  // varint length, then the bytes
  void bytes(std::string_view value) {
    varint(value.size());
    raw(value);
  }

 private:
  template <class T>
  void fixed(T value) {
    char buffer[sizeof(T)];
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      buffer[i] = static_cast<char>(static_cast<std::uint8_t>(value >> (8 * i)));
    }
    out_.append(buffer, sizeof(T));
  }
  std::string& out_;
};

// Never reads past its input: after the first short or malformed read ok() is false for good and every read gives
// zero or an empty view. Views point into the input.
class ByteReader {
 public:
  explicit ByteReader(std::string_view in) : in_(in) {}
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return ok_ && position_ == in_.size(); }
  [[nodiscard]] std::size_t position() const { return position_; }
  [[nodiscard]] std::size_t remaining() const { return in_.size() - position_; }

  std::uint8_t u8() { return fixed<std::uint8_t>(); }
  std::uint16_t u16() { return fixed<std::uint16_t>(); }
  std::uint32_t u32() { return fixed<std::uint32_t>(); }
  std::uint64_t u64() { return fixed<std::uint64_t>(); }
  double f64() {
    const std::uint64_t bits = u64();
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  std::uint64_t varint() {
    // Most are one byte, and a call for each would cost more than the byte.
    if (ok_ && position_ < in_.size()) {
      const auto first = static_cast<std::uint8_t>(in_[position_]);
      if (first < 0x80) {
        ++position_;
        return first;
      }
    }
    return long_varint();
  }
  std::int64_t zigzag() {
    const std::uint64_t value = varint();
    return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
  }
  std::string_view raw(std::size_t size) {
    if (!ok_ || size > remaining()) {
      ok_ = false;
      return {};
    }
    const auto view = in_.substr(position_, size);
    position_ += size;
    return view;
  }
  std::string_view bytes() {
    const std::uint64_t size = varint();
    if (size > remaining()) ok_ = false;
    return raw(ok_ ? static_cast<std::size_t>(size) : 0);
  }
  // What is not read yet.
  [[nodiscard]] std::string_view rest() const { return in_.substr(position_); }
  void set_failed() { ok_ = false; }

 private:
  std::uint64_t long_varint();
  template <class T>
  T fixed() {
    const auto view = raw(sizeof(T));
    T value = 0;
    if (view.empty()) return value;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(&value, view.data(), sizeof(T));
      return value;
    }
    for (std::size_t i = 0; i < view.size(); ++i) {
      value = static_cast<T>(value | static_cast<T>(static_cast<T>(static_cast<std::uint8_t>(view[i])) << (8 * i)));
    }
    return value;
  }
  std::string_view in_;
  std::size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace daemoneye::base
