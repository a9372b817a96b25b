#include "cli/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/text.h"

namespace daemoneye::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string text_of(std::string_view bytes) { return Html().text(bytes).take(); }

// What a browser shows of it, and that nothing in it is markup but our own marks.
std::string shown_by_a_browser(std::string html) {
  const auto replace = [&](std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = html.find(from, at)) != std::string::npos; at += to.size()) {
      html.replace(at, from.size(), to);
    }
  };
  replace("<span class=\"spelled\">", "");
  replace("</span>", "");
  EXPECT_EQ(html.find_first_of("<>\"'"), std::string::npos) << html;
  replace("&lt;", "<");
  replace("&gt;", ">");
  replace("&quot;", "\"");
  replace("&#39;", "'");
  replace("&amp;", "&");
  return html;
}

TEST(Html, MakesMarkupText) {
  EXPECT_EQ(text_of("<script>alert(1)</script>"), "&lt;script&gt;alert(1)&lt;/script&gt;");
  EXPECT_EQ(text_of("\"><img src=x onerror='x'>"), "&quot;&gt;&lt;img src=x onerror=&#39;x&#39;&gt;");
  EXPECT_EQ(text_of("&lt;"), "&amp;lt;");
  EXPECT_EQ(text_of("naïve 日本 👩‍💻"), "naïve 日本 👩‍💻");
}

TEST(Html, SpellsOutWhatABrowserWouldNotShow) {
  EXPECT_EQ(text_of(std::string_view("a\0b", 3)), "a<span class=\"spelled\">\\x00</span>b");
  EXPECT_EQ(text_of("\x1b[2J"), "<span class=\"spelled\">\\x1b</span>[2J");
  EXPECT_EQ(text_of("\xff<"), "<span class=\"spelled\">\\xff</span>&lt;");
  EXPECT_EQ(text_of("\u202ecod"), "<span class=\"spelled\">\\u{202e}</span>cod");
  // Bytes that claim to begin a sequence swallow no markup behind them.
  EXPECT_EQ(text_of("\xe2<b>"), "<span class=\"spelled\">\\xe2</span>&lt;b&gt;");
  EXPECT_EQ(text_of("\xf0\x9f\"x"), "<span class=\"spelled\">\\xf0</span><span class=\"spelled\">\\x9f</span>&quot;x");
  EXPECT_EQ(Html().attribute("\x1b\"").take(), "\\x1b&quot;");
}

TEST(Html, BoundsWhatItShows) {
  const auto html = Html().text(std::string(20000, 'x'), 10).take();
  EXPECT_EQ(html, "xxxxxxxxxx <span class=\"more\">… 19990 bytes more</span>");
  EXPECT_EQ(Html().text("ab", 2).take(), "ab");
  EXPECT_EQ(Html().text("日本", 4).take(), "日 <span class=\"more\">… 3 bytes more</span>");
  EXPECT_EQ(Html().lines("a\nb<").take(), "a\nb&lt;");
}

TEST(Html, LinksToTheWebOnly) {
  EXPECT_EQ(Html().link("https://a.example/?q=1&r='").take(),
            "<a rel=\"noopener noreferrer\" href=\"https://a.example/?q=1&amp;r=&#39;\">"
            "https://a.example/?q=1&amp;r=&#39;</a>");
  for (const auto* address : {"javascript:alert(1)", "JAVASCRIPT:x", "data:text/html,x", "//a.example", "file:///etc",
                              "https://a.example/\"onclick=x", "https://a.example/ x", "https://a.example/\xc3\xa9"}) {
    EXPECT_THAT(Html().link(address).take(), Not(HasSubstr("<a"))) << address;
  }
}

TEST(Html, ShowsExactlyThePrintableFormOfAnyBytes) {
  std::mt19937 random(9);  // NOLINT: the same each time
  constexpr std::string_view pieces[] = {
      "<",    ">", "\"", "'",        "&",           "&amp;", "<script>", "-->",          "\u202e", "\u2028", "\xc3",
      "\xa9", "é", "日", "\xf0\x9f", "👩‍💻", "\x1b[", "\xed\xa0", "\xf4\x90\x80", "\n",     "\\n",    "]]>"};
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (auto count = random() % 12; count > 0; --count) {
      if (random() % 2 == 0)
        bytes += pieces[random() % std::size(pieces)];
      else
        bytes += static_cast<char>(random());
    }
    ASSERT_EQ(shown_by_a_browser(text_of(bytes)), base::printable(bytes));
    ASSERT_EQ(shown_by_a_browser(Html().attribute(bytes).take()), base::printable(bytes));
  }
}

}  // namespace
}  // namespace daemoneye::cli
