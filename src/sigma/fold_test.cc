// What a rule's letters match by RE2 is what casefold() makes alike: fieldref and the other forms agree.
#include <gtest/gtest.h>
#include <wctype.h>

#include <set>
#include <sstream>

#include "base/casefold.h"
#include "predicate/predicate.h"
#include "sigma/direct_matcher.h"

namespace daemoneye::sigma {
namespace {

std::string utf8(char32_t code) { return testing::text_of({{testing::Element::literal, code}}); }

TEST(Sigma, FoldsTheLettersOfRowsAsThoseOfRules) {
  auto* const locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  ASSERT_NE(locale, nullptr);
  std::size_t compared = 0;
  for (char32_t code = 0x80; code < 0x1f000; ++code) {
    const auto wide = static_cast<wint_t>(code);
    std::set<char32_t> others = {static_cast<char32_t>(towlower_l(wide, locale)),
                                 static_cast<char32_t>(towupper_l(wide, locale)), base::casefold(code)};
    std::erase_if(others, [&](char32_t other) { return other == code || other < 0x80; });
    if (others.empty() || (code >= 0xd800 && code < 0xe000)) continue;
    std::ostringstream letter;
    letter << "(?i:\\x{" << std::hex << static_cast<unsigned>(code) << "})";
    const auto pattern = predicate::Regexp::compile(letter.str());
    ASSERT_TRUE(pattern) << pattern.error().message;
    for (const auto other : others) {
      EXPECT_EQ(pattern->matches(utf8(other)), base::casefold(code) == base::casefold(other))
          << std::hex << static_cast<unsigned>(code) << " " << static_cast<unsigned>(other);
      ++compared;
    }
  }
  freelocale(locale);
  EXPECT_GT(compared, 2500U);
}

}  // namespace
}  // namespace daemoneye::sigma
