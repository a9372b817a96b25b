// Sets of characters. std::string_view::find_first_of() calls memchr for each character it looks at: too slow for what
// is done with every argument of every process.
#pragma once

#include <array>
#include <cstring>
#include <string_view>

namespace daemoneye::sensor {

class Characters {
 public:
  constexpr explicit Characters(std::string_view set) : set_(set) {
    for (const char c : set) member_[static_cast<unsigned char>(c)] = true;
  }
  [[nodiscard]] constexpr bool contains(char c) const { return member_[static_cast<unsigned char>(c)]; }

  // Whether one of them is in `text`. In long texts each is searched for by itself, many bytes at a step.
  [[nodiscard]] bool any_in(std::string_view text) const {
    constexpr std::size_t long_text = 64;
    if (text.size() >= long_text) {
      for (const char c : set_) {
        if (std::memchr(text.data(), c, text.size()) != nullptr) return true;
      }
      return false;
    }
    for (const char c : text) {
      if (contains(c)) return true;
    }
    return false;
  }

 private:
  std::string_view set_;
  std::array<bool, 256> member_{};
};

}  // namespace daemoneye::sensor
