#include "predicate/substring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "predicate/predicate.h"

namespace daemoneye::predicate {
namespace {

std::string random_text(std::mt19937_64& random, std::size_t longest, std::string_view letters) {
  std::string text(random() % (longest + 1), ' ');
  for (char& c : text) c = letters[random() % letters.size()];
  return text;
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

TEST(Substring, FindsWhatStringFinds) {
  std::mt19937_64 random(1);
  using namespace std::string_literals;
  for (int i = 0; i < 100'000; ++i) {
    // Few letters, so that much nearly matches; a NUL, a byte above ASCII, and what differs from a letter in its case
    // bit.
    const auto text = random_text(random, 120, "aAbB@[`{\0\xe1"s);
    const auto literal = random_text(random, 5, "aAbB@[`{"s) + "a";
    const auto from = random() % (text.size() + 2);
    ASSERT_EQ(Substring(literal, false).find(text, from), text.find(literal, from)) << text << " / " << literal;
    ASSERT_EQ(Substring(literal, true).find(text, from), lower(text).find(lower(literal), from))
        << text << " / " << literal;
    auto spaced = text, with_space = literal;
    std::replace(spaced.begin(), spaced.end(), '\0', ' ');
    std::replace(with_space.begin(), with_space.end() - 1, '[', ' ');
    ASSERT_EQ(Substring(with_space, i % 2 == 0, true).find(text, from),
              i % 2 == 0 ? lower(spaced).find(lower(with_space), from) : spaced.find(with_space, from))
        << text << " / " << with_space;
  }
}

TEST(NecessaryLiteral, IsInAllThatMatchesAndEnoughWhereItSaysSo) {
  std::mt19937_64 random(2);
  using namespace std::string_literals;
  std::size_t matched = 0, decided = 0;
  for (int i = 0; i < 300'000; ++i) {
    const auto pattern = random_text(random, 6, "aAb%%_*?[]-\xc3\xa9"s);
    const auto text = random_text(random, 10, "aAbB%_*\0\xc3\xa9"s);
    const auto before_nul = text.substr(0, text.find('\0'));
    if (const auto literal = like_literal(pattern)) {
      const bool holds = lower(before_nul).find(lower(literal->text)) != std::string::npos;
      const bool matches = like_matches(pattern, text);
      ASSERT_TRUE(holds || !matches) << pattern << " / " << text;
      ASSERT_TRUE(!literal->enough || matches == holds) << pattern << " / " << text;
      matched += matches ? 1 : 0;
      decided += literal->enough ? 1 : 0;
    }
    if (const auto literal = glob_literal(pattern)) {
      const bool holds = before_nul.find(literal->text) != std::string::npos;
      const bool matches = glob_matches(pattern, text);
      ASSERT_TRUE(holds || !matches) << pattern << " / " << text;
      ASSERT_TRUE(!literal->enough || matches == holds) << pattern << " / " << text;
      matched += matches ? 1 : 0;
      decided += literal->enough ? 1 : 0;
    }
  }
  EXPECT_GT(matched, 1000U);
  EXPECT_GT(decided, 1000U);
}

}  // namespace
}  // namespace daemoneye::predicate
