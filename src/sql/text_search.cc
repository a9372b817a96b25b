#include "sql/text_search.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <vector>

namespace daemoneye::sql {
namespace {

// Characters as SQLite counts them: a first byte from 0xc0 on takes all continuation bytes after it.
std::vector<std::string_view> characters_of(std::string_view set) {
  std::vector<std::string_view> characters;
  std::array<bool, 256> seen{};  // of those of one byte: the same again takes nothing more
  std::size_t at = 0;
  while (at < set.size()) {
    std::size_t end = at + 1;
    if (static_cast<unsigned char>(set[at]) >= 0xc0U) {
      while (end < set.size() && (static_cast<unsigned char>(set[end]) & 0xc0U) == 0x80U) ++end;
    }
    const auto first = static_cast<unsigned char>(set[at]);
    if (end - at > 1 || !seen[first]) characters.push_back(set.substr(at, end - at));
    if (end - at == 1) seen[first] = true;
    at = end;
  }
  return characters;
}

}  // namespace

std::optional<std::size_t> find_text(std::string_view text, std::string_view wanted, std::size_t from,
                                     const ShouldStop& stop) {
  // Pieces overlap by what a match may reach over, and are never mostly overlap: memmem() begins anew with each.
  const std::size_t piece = std::max(search_piece, wanted.size());
  while (from < text.size() && text.size() - from >= wanted.size()) {
    const auto size = std::min(text.size() - from, piece + wanted.size() - 1);
    const void* const found = memmem(text.data() + from, size, wanted.data(), wanted.size());
    if (found != nullptr) return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
    if (size == text.size() - from) break;
    from += piece;
    if (stop()) return std::nullopt;
  }
  return std::string_view::npos;
}

std::optional<std::string_view> trim_text(std::string_view text, std::string_view set, bool left, bool right,
                                          const ShouldStop& stop) {
  const auto characters = characters_of(set);
  std::size_t compared = 0;
  bool stopped = false;
  // How many bytes the first character of the set that fits takes from that end; 0: none does.
  const auto taken = [&](bool from_left) -> std::size_t {
    for (const auto character : characters) {
      if (++compared % search_piece == 0 && stop()) {
        stopped = true;
        return 0;
      }
      if (from_left ? text.starts_with(character) : text.ends_with(character)) return character.size();
    }
    return 0;
  };
  while (left && !text.empty()) {
    const auto bytes = taken(true);
    if (bytes == 0) break;
    text.remove_prefix(bytes);
  }
  while (right && !stopped && !text.empty()) {
    const auto bytes = taken(false);
    if (bytes == 0) break;
    text.remove_suffix(bytes);
  }
  if (stopped) return std::nullopt;
  return text;
}

}  // namespace daemoneye::sql
