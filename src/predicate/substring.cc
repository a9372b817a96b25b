// Two bytes of the literal are compared with 16 places of the text at once; only where both fit is the rest looked at.
#include "predicate/substring.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

namespace daemoneye::predicate {
namespace {

constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// How common a byte is in paths and command lines: a guess that only costs time when it is wrong.
int commonness(char c) {
  static constexpr std::string_view common = " /-e.nortaisl0cdpmu1bf2=_";
  const auto at = common.find(c);
  return at == std::string_view::npos ? 0 : static_cast<int>(common.size() - at);
}

using Bytes = std::uint8_t __attribute__((vector_size(16)));

Bytes load(const char* from) {
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return bytes;
}
Bytes repeat(char c) { return Bytes{} + static_cast<std::uint8_t>(c); }

// 0xff where the byte fits. A letter's two cases differ in the bit that is the space, and so do NUL and space.
struct Probe {
  Bytes bit, wanted;
  Probe(char c, bool either) : bit(repeat(either ? ' ' : '\0')), wanted(repeat(c)) {}
  [[nodiscard]] Bytes fits(const char* text) const { return reinterpret_cast<Bytes>((load(text) | bit) == wanted); }
};

}  // namespace

Substring::Substring(std::string_view literal, bool any_case, bool nul_is_space)
    : literal_(literal), any_case_(any_case), nul_is_space_(nul_is_space) {
  if (any_case_) std::transform(literal_.begin(), literal_.end(), literal_.begin(), lower);
  const auto rarest =
      std::min_element(literal_.begin(), literal_.end(), [](char a, char b) { return commonness(a) < commonness(b); });
  rare_ = static_cast<std::size_t>(rarest - literal_.begin());
}

bool Substring::matches_at(const char* text) const {
  for (std::size_t i = 0; i < literal_.size(); ++i) {
    const char c = any_case_ ? lower(text[i]) : text[i];
    if (c != literal_[i] && !(nul_is_space_ && c == '\0' && literal_[i] == ' ')) return false;
  }
  return true;
}

std::size_t Substring::find(std::string_view text, std::size_t from) const {
  if (text.size() < literal_.size() || from > text.size() - literal_.size()) return std::string_view::npos;
  const std::size_t last = text.size() - literal_.size();  // the last place where it could begin
  const std::size_t other = rare_ == literal_.size() - 1 ? 0 : literal_.size() - 1;
  const auto either = [this](char c) { return (any_case_ && is_letter(c)) || (nul_is_space_ && c == ' '); };
  const Probe rare(literal_[rare_], either(literal_[rare_])), beside(literal_[other], either(literal_[other]));
  std::size_t at = from;
  for (; at + sizeof(Bytes) - 1 <= last; at += sizeof(Bytes)) {
    const Bytes both = rare.fits(text.data() + at + rare_) & beside.fits(text.data() + at + other);
    std::uint64_t halves[2];
    std::memcpy(halves, &both, sizeof both);
    if ((halves[0] | halves[1]) == 0) continue;
    for (std::size_t i = 0; i < sizeof(Bytes); ++i) {
      if (both[i] != 0 && matches_at(text.data() + at + i)) return at + i;
    }
  }
  for (; at <= last; ++at) {
    if (matches_at(text.data() + at)) return at;
  }
  return std::string_view::npos;
}

}  // namespace daemoneye::predicate
