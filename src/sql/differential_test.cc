// The same text through our front end over the store, and as it is through SQLite over plain tables with the same rows.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <cmath>

#include "sql/statement_generator.h"
#include "sql/test_store.h"

namespace daemoneye::sql {
namespace {

using test::make_history;

std::string shown(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: return "i" + std::to_string(sqlite3_column_int64(statement, column));
    case SQLITE_FLOAT: return "r" + std::to_string(sqlite3_column_double(statement, column));
    case SQLITE_TEXT: return "t" + std::string(reinterpret_cast<const char*>(sqlite3_column_text(statement, column)));
    case SQLITE_BLOB:
      return "tx'" +
             base::to_hex(std::string_view(static_cast<const char*>(sqlite3_column_blob(statement, column)),
                                           static_cast<std::size_t>(sqlite3_column_bytes(statement, column)))) +
             "'";
    default: return "-";
  }
}

std::string shown(const event::Value& value) {
  if (const auto* const integer = std::get_if<std::int64_t>(&value)) return "i" + std::to_string(*integer);
  if (const auto* const real = std::get_if<double>(&value)) return "r" + std::to_string(*real);
  if (const auto* const text = std::get_if<std::string>(&value)) return "t" + *text;
  return "-";
}

struct Answer {
  std::vector<std::string> rows;  // sorted: what is equal in the ORDER BY may come in any order
  std::string error;
};

Answer ask_plain(sqlite3* handle, const std::string& text) {
  Answer answer;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(handle, text.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
    answer.error = sqlite3_errmsg(handle);
    return answer;
  }
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    std::string row;
    for (int i = 0; i < sqlite3_column_count(statement); ++i) row += shown(statement, i) + "|";
    answer.rows.push_back(std::move(row));
  }
  if (code != SQLITE_DONE) answer.error = sqlite3_errmsg(handle);
  sqlite3_finalize(statement);
  std::ranges::sort(answer.rows);
  return answer;
}

Answer ask_ours(Connection& connection, const std::string& text) {
  Answer answer;
  const auto compiled = compile(text);
  if (!compiled) {
    answer.error = "refused: " + to_string(compiled.error(), text);
    return answer;
  }
  const auto stats = connection.run(*compiled, {}, [&](const Row& values) {
    std::string row;
    for (const auto& value : values) row += shown(value) + "|";
    answer.rows.push_back(std::move(row));
    return true;
  });
  if (!stats) answer.error = stats.error().message + "\n" + compiled->sql();
  std::ranges::sort(answer.rows);
  return answer;
}

TEST(Differential, GeneratedStatementsMeanWhatTheyMeanInPlainSqlite) {
  const test::TemporaryFolder folder;
  const auto history = make_history(140, 1);
  test::fill_store(folder / "events.redb", history, 8, 64);
  test::PlainTables plain;
  plain.add_history(history);
  auto connection = Connection::open(folder / "events.redb", "");
  ASSERT_TRUE(connection) << connection.error().message;

  test::StatementGenerator generator(42);
  constexpr int statements = 2500;
  int failed_in_both = 0, with_rows = 0;
  for (int i = 0; i < statements; ++i) {
    const std::string text = generator.statement();
    const auto expected = ask_plain(plain.handle(), text);
    const auto found = ask_ours(**connection, text);
    ASSERT_EQ(expected.error.empty(), found.error.empty())
        << text << "\nplain: " << expected.error << "\nours: " << found.error;
    if (!expected.error.empty())
      ++failed_in_both;
    else
      ASSERT_EQ(expected.rows, found.rows) << text << "\n" << compile(text)->sql();
    if (!expected.rows.empty()) ++with_rows;
  }
  EXPECT_LT(failed_in_both, statements / 50);
  EXPECT_GT(with_rows, statements / 2);
}

}  // namespace
}  // namespace daemoneye::sql
