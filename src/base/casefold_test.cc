#include "base/casefold.h"

#include <gtest/gtest.h>

namespace daemoneye::base {
namespace {

TEST(Casefold, MakesLettersAlike) {
  EXPECT_EQ(casefold("Usr/BIN [x]"), "usr/bin [x]");
  EXPECT_EQ(casefold("GRÖßE ДОМ ΣΊΣΥΦΟΣ"), casefold("größe дом σίσυφος"));
  EXPECT_EQ(casefold("\u1E9E"), "\u00DF") << "shorter than it was";
  EXPECT_EQ(casefold("\U00010400\U0001E900"), "\U00010428\U0001E922");
  EXPECT_EQ(casefold("\u0130\u0131"), "\u0130\u0131") << "without a simple folding";
  EXPECT_EQ(casefold(""), "");
}

TEST(Casefold, AsciiFoldsAmongItself) {
  EXPECT_EQ(casefold("\u017F\u212A"), "\u017F\u212A");
  for (char32_t code = 0x80; code < 0x110000; ++code) {
    ASSERT_GE(casefold(code), 0x80U) << std::hex << static_cast<unsigned>(code);
  }
}

TEST(Casefold, FoldsNothingTwice) {
  for (char32_t code = 0; code < 0x110000; ++code) {
    ASSERT_EQ(casefold(casefold(code)), casefold(code)) << std::hex << static_cast<unsigned>(code);
  }
}

TEST(Casefold, LeavesWhatIsNotUtf8) {
  using namespace std::string_literals;
  EXPECT_EQ(casefold("A\xC3"s), "a\xC3"s);
  EXPECT_EQ(casefold("\xFF\xC0\x80Z\xF0\x90\x90"s), "\xFF\xC0\x80z\xF0\x90\x90"s);
  EXPECT_EQ(casefold("a\0B"s), "a\0b"s);
}

}  // namespace
}  // namespace daemoneye::base
