// Text without regard to case.
#pragma once

#include <string>
#include <string_view>

namespace daemoneye::base {

// Each character as what Unicode's simple case folding makes of it (version 14, RE2's). The letters of ASCII fold among
// themselves: U+017F, which is an s to Unicode, and U+212A, a K, stay what they are. As many characters as before;
// bytes that are not UTF-8 stay.
std::string casefold(std::string_view text);
char32_t casefold(char32_t code);

}  // namespace daemoneye::base
