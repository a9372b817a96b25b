#include "predicate/value.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <limits>
#include <random>

namespace daemoneye::predicate {
namespace {

using event::ColumnType;
using event::Value;

Value integer(std::int64_t value) { return value; }

// An expression over ?1 and ?2, asked of SQLite itself.
class Sqlite {
 public:
  Sqlite() { EXPECT_EQ(sqlite3_open(":memory:", &handle_), SQLITE_OK); }
  ~Sqlite() { sqlite3_close(handle_); }
  Sqlite(const Sqlite&) = delete;
  Sqlite& operator=(const Sqlite&) = delete;

  std::string ask(const std::string& expression, const Value& a, const Value& b = {}) {
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_prepare_v2(handle_, ("SELECT " + expression).c_str(), -1, &statement, nullptr), SQLITE_OK)
        << sqlite3_errmsg(handle_);
    bind(statement, 1, a);
    bind(statement, 2, b);
    EXPECT_EQ(sqlite3_step(statement), SQLITE_ROW);
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
    std::string result = text == nullptr ? "NULL" : text;
    sqlite3_finalize(statement);
    return result;
  }

 private:
  static void bind(sqlite3_stmt* statement, int index, const Value& value) {
    if (const auto* number = std::get_if<std::int64_t>(&value))
      sqlite3_bind_int64(statement, index, *number);
    else if (const auto* real = std::get_if<double>(&value))
      sqlite3_bind_double(statement, index, *real);
    else if (const auto* text = std::get_if<std::string>(&value)) {
      sqlite3_bind_text(statement, index, text->data(), static_cast<int>(text->size()), SQLITE_TRANSIENT);
    }
  }
  sqlite3* handle_ = nullptr;
};

const std::vector<Value>& interesting() {
  constexpr auto largest = std::numeric_limits<std::int64_t>::max();
  constexpr auto smallest = std::numeric_limits<std::int64_t>::min();
  static const std::vector<Value> values = {integer(0),
                                            integer(1),
                                            integer(-1),
                                            integer(5),
                                            integer(largest),
                                            integer(largest - 1),
                                            integer(smallest),
                                            integer((std::int64_t{1} << 53) + 1),
                                            0.0,
                                            -0.0,
                                            1.0,
                                            1.5,
                                            -1.5,
                                            5.0,
                                            9007199254740992.0,
                                            9223372036854775807.0,
                                            -9223372036854775808.0,
                                            1e300,
                                            -1e300,
                                            1e-300,
                                            100.0,
                                            1e15,
                                            123456789012345.0,
                                            0.1,
                                            1.0 / 3,
                                            Value(""),
                                            Value("5"),
                                            Value("05"),
                                            Value("5.0"),
                                            Value(" 5 "),
                                            Value("+5"),
                                            Value("5e0"),
                                            Value("5x"),
                                            Value("x"),
                                            Value("."),
                                            Value(".5"),
                                            Value("5."),
                                            Value("1e"),
                                            Value("0x5"),
                                            Value("9223372036854775808"),
                                            Value("-1"),
                                            Value("1.5"),
                                            Value("1e400"),
                                            Value("a"),
                                            Value("A"),
                                            Value("ab"),
                                            Value("\xff")};
  return values;
}

TEST(Values, CompareAsInSqlite) {
  Sqlite sqlite;
  for (const auto& a : interesting()) {
    for (const auto& b : interesting()) {
      const auto order = compare(a, b);
      const std::string ours = order < 0 ? "-1" : order > 0 ? "1" : "0";
      ASSERT_EQ(ours, sqlite.ask("(?1 > ?2) - (?1 < ?2)", a, b)) << to_text(a) << " / " << to_text(b);
    }
  }
}

TEST(Values, NullIsBelowEverything) {
  EXPECT_TRUE(compare(Value(), integer(std::numeric_limits<std::int64_t>::min())) < 0);
  EXPECT_TRUE(compare(Value(), Value()) == 0);
  EXPECT_TRUE(compare(Value(""), Value()) > 0);
}

TEST(Values, TakeTheAffinityOfTheColumnAsInSqlite) {
  Sqlite sqlite;
  for (const auto& value : interesting()) {
    // A CAST in a subquery is how SQL writes a column of that type.
    for (const auto type : {ColumnType::integer, ColumnType::real, ColumnType::text}) {
      const std::string declared = type == ColumnType::integer ? "INTEGER" : type == ColumnType::real ? "REAL" : "TEXT";
      const std::string column = type == ColumnType::text ? "'5'" : type == ColumnType::real ? "1.5" : "5";
      const Value in_column = type == ColumnType::text   ? Value("5")
                              : type == ColumnType::real ? Value(1.5)
                                                         : integer(5);
      const auto order = compare(in_column, with_affinity(value, type));
      const std::string ours = order < 0 ? "-1" : order > 0 ? "1" : "0";
      ASSERT_EQ(ours,
                sqlite.ask("(c > ?1) - (c < ?1) FROM (SELECT CAST(" + column + " AS " + declared + ") AS c)", value))
          << declared << " / " << to_text(value);
    }
  }
}

TEST(Values, BecomeTextAsInSqlite) {
  Sqlite sqlite;
  for (const auto& value : interesting()) EXPECT_EQ(to_text(value), sqlite.ask("CAST(?1 AS TEXT)", value));
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    const double percent = static_cast<double>(random() % 1'000'000) / 1000;
    EXPECT_EQ(real_to_text(percent), sqlite.ask("CAST(?1 AS TEXT)", percent));
  }
}

}  // namespace
}  // namespace daemoneye::predicate
