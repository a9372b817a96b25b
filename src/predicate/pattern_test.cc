#include <gtest/gtest.h>
#include <sqlite3.h>

#include <random>

#include "predicate/predicate.h"

namespace daemoneye::predicate {
namespace {

// sqlite3_strlike() and sqlite3_strglob() are the matchers behind LIKE and GLOB.
bool sqlite_like(const std::string& pattern, const std::string& text, char escape = '\0') {
  return sqlite3_strlike(pattern.c_str(), text.c_str(), static_cast<unsigned char>(escape)) == 0;
}
bool sqlite_glob(const std::string& pattern, const std::string& text) {
  return sqlite3_strglob(pattern.c_str(), text.c_str()) == 0;
}

std::string random_text(std::mt19937_64& random, const std::vector<std::string>& pieces, std::size_t longest) {
  std::string text;
  for (std::size_t n = random() % (longest + 1); n > 0; --n) text += pieces[random() % pieces.size()];
  return text;
}

TEST(Like, IsSqlites) {
  std::mt19937_64 random(1);
  const std::vector<std::string> subject = {
      "a", "A", "b", "%", "_", "\\", "é", "É", "\xff", "\xc3", "\x80", "ß", "\xf0\x9f\x98\x80"};
  auto pattern = subject;
  for (int i = 0; i < 3; ++i) pattern.insert(pattern.end(), {"%", "_", "\\"});
  for (int i = 0; i < 200'000; ++i) {
    const auto p = random_text(random, pattern, 6), s = random_text(random, subject, 8);
    ASSERT_EQ(like_matches(p, s), sqlite_like(p, s)) << p << " / " << s;
    for (const char escape : {'\\', 'a'}) {
      ASSERT_EQ(like_matches(p, s, escape), sqlite_like(p, s, escape)) << p << " / " << s << " escape " << escape;
    }
  }
}

// sqlite3_strlike() does not know a wildcard as its own escape; the SQL function does.
TEST(Like, EscapeMayBeAWildcard) {
  sqlite3* handle = nullptr;
  ASSERT_EQ(sqlite3_open(":memory:", &handle), SQLITE_OK);
  sqlite3_stmt* statement = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(handle, "SELECT ?1 LIKE ?2 ESCAPE ?3", -1, &statement, nullptr), SQLITE_OK);
  std::mt19937_64 random(3);
  const std::vector<std::string> pieces = {"a", "b", "%", "_", "%", "_"};
  for (int i = 0; i < 20'000; ++i) {
    const auto p = random_text(random, pieces, 6), s = random_text(random, pieces, 6);
    for (const char escape : {'%', '_'}) {
      sqlite3_reset(statement);
      sqlite3_bind_text(statement, 1, s.c_str(), -1, SQLITE_TRANSIENT);
      sqlite3_bind_text(statement, 2, p.c_str(), -1, SQLITE_TRANSIENT);
      sqlite3_bind_text(statement, 3, &escape, 1, SQLITE_TRANSIENT);
      ASSERT_EQ(sqlite3_step(statement), SQLITE_ROW);
      ASSERT_EQ(like_matches(p, s, escape), sqlite3_column_int(statement, 0) == 1)
          << p << " / " << s << " / " << escape;
    }
  }
  sqlite3_finalize(statement);
  sqlite3_close(handle);
}

TEST(Glob, IsSqlites) {
  std::mt19937_64 random(2);
  const std::vector<std::string> subject = {"a", "A", "b", "c", "-", "]", "[", "^", "é", "\xff", "\xc3", "\x80", "*"};
  auto pattern = subject;
  for (int i = 0; i < 3; ++i) pattern.insert(pattern.end(), {"*", "?", "[", "[^", "[a-", "]", "-"});
  for (int i = 0; i < 500'000; ++i) {
    const auto p = random_text(random, pattern, 7), s = random_text(random, subject, 8);
    ASSERT_EQ(glob_matches(p, s), sqlite_glob(p, s)) << p << " / " << s;
  }
}

TEST(Like, FoldsAsciiOnly) {
  EXPECT_TRUE(like_matches("%BASH", "/bin/bash"));
  EXPECT_FALSE(like_matches("É", "é"));
  EXPECT_FALSE(glob_matches("*BASH", "/bin/bash"));
}

// A recursive matcher would need years for this one; a hang fails the test by its time limit.
TEST(Like, ManyWildcardsStayCheap) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "%a";
  pattern += "%b";
  EXPECT_FALSE(like_matches(pattern, std::string(20'000, 'a')));
  std::string glob;
  for (int i = 0; i < 200; ++i) glob += "*[a]";
  EXPECT_FALSE(glob_matches(glob + "b", std::string(20'000, 'a')));
}

TEST(Regexp, FindsAnywhere) {
  const auto regexp = Regexp::compile("b+c");
  ASSERT_TRUE(regexp);
  EXPECT_TRUE(regexp->matches("abbcd"));
  EXPECT_FALSE(regexp->matches("abd"));
}

TEST(Regexp, NeitherALineBreakNorBrokenUtf8Hides) {
  const auto regexp = Regexp::compile("curl.*sh");
  ASSERT_TRUE(regexp);
  EXPECT_TRUE(regexp->matches("curl x\n|\nsh"));
  EXPECT_TRUE(regexp->matches("curl \xff\xfe| sh"));
  EXPECT_TRUE(regexp->matches(std::string("curl\0 sh", 8)));
}

TEST(Regexp, RefusesWhatIsNoneOrWouldNeedTooMuchMemory) {
  EXPECT_FALSE(Regexp::compile("("));
  EXPECT_FALSE(Regexp::compile("(a)\\1"));
  EXPECT_FALSE(Regexp::compile("((a{100}){100}){100}"));
  EXPECT_FALSE(Regexp::compile("\xff"));
}

}  // namespace
}  // namespace daemoneye::predicate
