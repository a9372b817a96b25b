#include "base/text.h"

#include <gtest/gtest.h>

#include <random>

namespace daemoneye::base {
namespace {

TEST(ParseInteger, TakesTheWholeTextOrNothing) {
  EXPECT_EQ(parse_integer<int>("-12"), -12);
  EXPECT_EQ(parse_integer<std::uint8_t>("255"), 255);
  for (const auto* bad : {"", " 1", "1 ", "+1", "0x1", "1.0", "256", "-1"}) {
    EXPECT_FALSE(parse_integer<std::uint8_t>(bad)) << bad;
  }
}

TEST(Text, TrimAndSplit) {
  EXPECT_EQ(trim(" \t a b\r\n"), "a b");
  EXPECT_EQ(trim(" \n"), "");
  using Parts = std::vector<std::string_view>;
  EXPECT_EQ(split("a,,b", ','), (Parts{"a", "", "b"}));
  EXPECT_EQ(split("", ','), Parts{""});
  EXPECT_EQ(split(",", ','), (Parts{"", ""}));
}

TEST(Nearest, FindsALikelySlipAndNothingFarther) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  const std::vector<std::string_view> names = {"name", "command_line", "uid"};
  EXPECT_EQ(nearest("nmae", names), "");  // two steps of four letters are too many
  EXPECT_EQ(nearest("nam", names), "name");
  EXPECT_EQ(nearest("comand_lin", names), "command_line");
  EXPECT_EQ(nearest("zzzz", names), "");
  EXPECT_EQ(nearest("", names), "");
  EXPECT_EQ(nearest(std::string(100, 'n'), names), "");
}

TEST(Utf8, InvalidSequencesAreReplaced) {
  EXPECT_EQ(to_valid_utf8("aé€😀"), "aé€😀");
  const std::string replacement = "\xef\xbf\xbd";
  EXPECT_EQ(to_valid_utf8("\xff"
                          "a"),
            replacement + "a");
  EXPECT_EQ(to_valid_utf8("\xc3"), replacement);                    // cut off
  EXPECT_EQ(to_valid_utf8("\xc0\x80"), replacement + replacement);  // overlong
  EXPECT_EQ(to_valid_utf8("\xe0\x80\x80"), replacement + replacement + replacement);
  EXPECT_EQ(to_valid_utf8("\xed\xa0\x80"), replacement + replacement + replacement);  // a surrogate
  EXPECT_EQ(to_valid_utf8("\xf4\x90\x80\x80").size(), 4 * replacement.size());        // above U+10FFFF
  EXPECT_EQ(to_valid_utf8("\xf0\x8f\xbf\xbf").size(), 4 * replacement.size());        // overlong
}

TEST(Utf8, TheResultIsValidWhateverCameIn) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(random() % 12, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 2 == 0 ? 0x80 + random() % 128 : random());
    const auto once = to_valid_utf8(bytes);
    ASSERT_EQ(to_valid_utf8(once), once);
    for (const char c : printable(bytes)) {
      const auto byte = static_cast<unsigned char>(c);
      ASSERT_TRUE(byte >= 0x20 && byte != 0x7f);
    }
  }
}

TEST(Printable, ShowsNoControlCharacter) {
  EXPECT_EQ(printable("a\x1b[31mb"), "a\\x1b[31mb");
  EXPECT_EQ(printable(std::string_view("\n\t\r\0\x7f", 5)), "\\n\\t\\r\\x00\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\x9b31m");  // the one-character form of ESC [
  EXPECT_EQ(printable("\xff"), "\\xff");
  EXPECT_EQ(printable("é"), "é");
}

TEST(Printable, ShowsWhatWouldDeceive) {
  EXPECT_EQ(printable("a\u202egnp.exe"), "a\\u{202e}gnp.exe");  // right to left from here
  EXPECT_EQ(printable("\u2066\u2069\u200f\u2028\u200b\ufeff"),
            "\\u{2066}\\u{2069}\\u{200f}\\u{2028}\\u{200b}\\u{feff}");
  EXPECT_EQ(printable("\U000e0041"), "\\u{e0041}");
  EXPECT_EQ(printable("שלום 👩‍💻 naïve"), "שלום 👩‍💻 naïve");
}

TEST(JsonQuote, IsAJsonString) {
  EXPECT_EQ(json_quote("\u009b31m"), R"("\u009b31m")");
  EXPECT_EQ(json_quote("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(json_quote(std::string_view("\n\t\r\0\x1b\x7f", 6)), R"("\n\t\r\u0000\u001b\u007f")");
  EXPECT_EQ(json_quote("\xff"), "\"\xef\xbf\xbd\"");
  EXPECT_EQ(json_quote(""), "\"\"");
}

}  // namespace
}  // namespace daemoneye::base
