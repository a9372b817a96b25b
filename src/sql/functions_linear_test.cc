// The functions that replace SQLite's own do the same, and end when they are told to.
#include <gtest/gtest.h>

#include "sql/test_store.h"
#include "sql/text_search.h"

namespace daemoneye::sql {
namespace {

class FunctionsTest : public ::testing::Test {
 protected:
  FunctionsTest() {
    sqlite3_open(":memory:", &plain_);
    sqlite3_open(":memory:", &ours_);
    EXPECT_TRUE(replace_slow_functions(ours_, runtime_));
  }
  ~FunctionsTest() override {
    sqlite3_close(plain_);
    sqlite3_close(ours_);
  }
  FunctionsTest(const FunctionsTest&) = delete;
  FunctionsTest& operator=(const FunctionsTest&) = delete;

  struct Value {
    int type = SQLITE_NULL;
    std::string text;
  };
  // Type and bytes, or the error.
  static std::string ask(sqlite3* handle, const std::string& sql, const std::vector<Value>& values) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(handle, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) return sqlite3_errmsg(handle);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto& [type, text] = values[i];
      const int at = static_cast<int>(i) + 1, size = static_cast<int>(text.size());
      if (type == SQLITE_TEXT) sqlite3_bind_text(statement, at, text.data(), size, SQLITE_STATIC);
      if (type == SQLITE_BLOB) sqlite3_bind_blob(statement, at, text.data(), size, SQLITE_STATIC);
      if (type == SQLITE_INTEGER) sqlite3_bind_int64(statement, at, size);
      if (type == SQLITE_FLOAT) sqlite3_bind_double(statement, at, size + 0.5);
    }
    std::string shown;
    if (sqlite3_step(statement) == SQLITE_ROW) {
      shown = std::to_string(sqlite3_column_type(statement, 0)) + ":";
      const auto* const bytes = static_cast<const char*>(sqlite3_column_blob(statement, 0));
      shown.append(bytes == nullptr ? "" : bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement, 0)));
    } else {
      shown = sqlite3_errmsg(handle);
    }
    sqlite3_finalize(statement);
    return shown;
  }

  Runtime runtime_{nullptr, ""};
  sqlite3 *plain_ = nullptr, *ours_ = nullptr;
};

TEST_F(FunctionsTest, AnswerAsSqliteDoes) {
  test::Dice dice(3);
  const std::vector<std::string> pieces = {"a",
                                           "a",
                                           "b",
                                           "A",
                                           "\xc3\xa9",
                                           "\xc3",
                                           "\x80",
                                           "\xff",
                                           "%",
                                           "_",
                                           "*",
                                           "?",
                                           "[",
                                           "]",
                                           "-",
                                           "^",
                                           "1",
                                           " ",
                                           "\xf0\x9f\x98\x80",
                                           std::string(1, '\0')};
  const auto text = [&](std::size_t longest) {
    std::string made;
    for (auto left = dice.below(longest + 1); left > 0; --left) made += pieces[dice.below(pieces.size())];
    return made;
  };
  const auto value = [&](std::size_t longest) {
    constexpr int kinds[] = {SQLITE_TEXT, SQLITE_TEXT, SQLITE_TEXT,    SQLITE_TEXT,  SQLITE_TEXT,
                             SQLITE_BLOB, SQLITE_BLOB, SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_NULL};
    return Value{kinds[dice.below(std::size(kinds))], text(longest)};
  };
  const std::vector<std::string> calls = {"instr(?1, ?2)",
                                          "replace(?1, ?2, ?3)",
                                          "trim(?1)",
                                          "trim(?1, ?2)",
                                          "ltrim(?1)",
                                          "ltrim(?1, ?2)",
                                          "rtrim(?1)",
                                          "rtrim(?1, ?2)",
                                          "?1 LIKE ?2",
                                          "?1 GLOB ?2",
                                          "?1 LIKE ?2 ESCAPE ?3",
                                          "?1 LIKE ?2 ESCAPE '%'",
                                          "?1 LIKE ?2 ESCAPE '_'",
                                          "?1 LIKE ?2 ESCAPE 'a'",
                                          "?1 LIKE ?2 ESCAPE x'c3a9'"};
  for (int i = 0; i < 40'000; ++i) {
    const auto sql = "SELECT " + calls[dice.below(calls.size())];
    const std::vector<Value> values = {value(12), value(4), value(2)};
    ASSERT_EQ(ask(plain_, sql, values), ask(ours_, sql, values))
        << sql << " of " << base::to_hex(values[0].text) << ", " << base::to_hex(values[1].text) << ", "
        << base::to_hex(values[2].text) << " of types " << values[0].type << values[1].type << values[2].type;
  }
}

TEST_F(FunctionsTest, FindAcrossPiecesWhatIsThere) {
  const auto never = [] { return false; };
  std::string text(3 * search_piece, 'a');
  for (const std::size_t at : {std::size_t{0}, search_piece - 2, search_piece, 2 * search_piece - 1, text.size() - 3}) {
    auto with = text;
    with.replace(at, 3, "xyz");
    EXPECT_EQ(find_text(with, "xyz", 0, never), at);
    EXPECT_EQ(find_text(with, "xyz", at + 1, never), std::string_view::npos);
  }
  EXPECT_EQ(find_text(text, std::string(text.size() + 1, 'a'), 0, never), std::string_view::npos);
  EXPECT_EQ(find_text(text, text, 0, never), 0U);
}

// After it was told to stop nothing is looked at any more; and between two questions lies one piece at most.
TEST_F(FunctionsTest, StopWhenTheyAreTold) {
  int asked = 0;
  const auto third = [&] { return ++asked == 3; };
  const std::string text(8 * search_piece, 'a');
  EXPECT_EQ(find_text(text, "b", 0, third), std::nullopt);
  EXPECT_EQ(asked, 3);
  asked = 0;
  EXPECT_EQ(find_text(text, "b", 5 * search_piece, third), std::string_view::npos) << "at its end before";
  EXPECT_EQ(asked, 2);
  asked = 0;
  const std::string pattern = "%" + std::string(10'000, 'a') + "b";
  EXPECT_EQ(predicate::pattern_matches(predicate::PatternKind::like, pattern, text, 0, third), std::nullopt);
  EXPECT_EQ(asked, 3);
  asked = 0;
  std::string set;
  for (char32_t c = 0x400; c < 0x500; ++c) {
    set += static_cast<char>(0xc0 | c >> 6);
    set += static_cast<char>(0x80 | (c & 0x3f));
  }
  EXPECT_EQ(trim_text(text, set + "a", true, true, third), std::nullopt);
  EXPECT_EQ(asked, 3);
}

}  // namespace
}  // namespace daemoneye::sql
