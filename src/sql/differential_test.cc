// The same text through our front end over the store, and as it is through SQLite over plain tables with the same rows.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <cstdlib>

#include "sql/grammar_coverage.h"
#include "sql/statement_generator.h"
#include "sql/test_store.h"

namespace daemoneye::sql {
namespace {

using test::make_history;

std::string shown(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: return "i" + std::to_string(sqlite3_column_int64(statement, column));
    case SQLITE_FLOAT: return "r" + std::to_string(sqlite3_column_double(statement, column));
    case SQLITE_TEXT:
      return "t" + std::string(reinterpret_cast<const char*>(sqlite3_column_text(statement, column)),
                               static_cast<std::size_t>(sqlite3_column_bytes(statement, column)));
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

constexpr Timestamp evaluated_at{test::start_of_history};  // 2026-11-21 20:48:23

struct Answer {
  std::vector<std::string> rows;
  std::vector<std::string> keys;  // of each row, what the outermost ORDER BY names
  std::string error;
  bool kept_rows = false;    // of the inner side of a join
  bool passed_keys = false;  // of one side of a join to the other
};

// Equal for the collation means equal for the order. The column itself may have one.
std::string folded(std::string text, const std::string& collation, bool has_collations) {
  if (text.front() == 'i') return "r" + std::to_string(static_cast<double>(std::stoll(text.substr(1))));  // 0 is 0.0
  if (has_collations) text.erase(text.find_last_not_of(' ') + 1);
  return has_collations || collation.ends_with("NOCASE") ? lower_case(text) : text;
}

void add_row(Answer& answer, const std::vector<std::string>& values, const test::Statement& statement) {
  std::string row, key;
  for (const auto& value : values) row += value + "|";
  const bool has_collations = statement.ours.contains("COLLATE");
  for (const auto& [column, collation] : statement.order) {
    if (column < values.size()) key += folded(values[column], collation, has_collations) + "|";
  }
  answer.rows.push_back(std::move(row));
  answer.keys.push_back(std::move(key));
}

void bind_all(sqlite3_stmt* handle, const test::Statement& statement) {
  for (const auto& [name, value] : statement.parameters) {
    const int index =
        name.front() == '?' ? std::stoi(name.substr(1)) : sqlite3_bind_parameter_index(handle, (":" + name).c_str());
    if (const auto* const integer = std::get_if<std::int64_t>(&value))
      sqlite3_bind_int64(handle, index, *integer);
    else if (const auto* const real = std::get_if<double>(&value))
      sqlite3_bind_double(handle, index, *real);
    else if (const auto* const text = std::get_if<std::string>(&value))
      sqlite3_bind_text(handle, index, text->data(), static_cast<int>(text->size()), SQLITE_TRANSIENT);
  }
}

Answer ask_plain(sqlite3* handle, const test::Statement& asked) {
  Answer answer;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(handle, asked.plain.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
    answer.error = sqlite3_errmsg(handle);
    return answer;
  }
  bind_all(statement, asked);
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    std::vector<std::string> values;
    for (int i = 0; i < sqlite3_column_count(statement); ++i) values.push_back(shown(statement, i));
    add_row(answer, values, asked);
  }
  if (code != SQLITE_DONE) answer.error = sqlite3_errmsg(handle);
  sqlite3_finalize(statement);
  return answer;
}

Answer ask_ours(Connection& connection, const Compiled& compiled, const test::Statement& asked, double patience) {
  Answer answer;
  RunOptions options;
  options.patience_with_joins = patience;
  options.now = evaluated_at;
  for (const auto& [name, value] : asked.parameters) {
    // What was generated may not have been used.
    if (compiled.parameters().contains(name)) options.parameters.emplace(name, value);
  }
  const auto stats = connection.run(compiled, options, [&](const Row& row) {
    std::vector<std::string> values;
    for (const auto& value : row) values.push_back(shown(value));
    add_row(answer, values, asked);
    return true;
  });
  if (!stats) {
    answer.error = stats.error().message + "\n" + compiled.sql();
    return answer;
  }
  answer.kept_rows =
      std::ranges::any_of(stats->steps, [](const Step& step) { return step.rewrite.starts_with("kept by"); });
  answer.passed_keys =
      std::ranges::any_of(stats->steps, [](const Step& step) { return step.rewrite.starts_with("only "); });
  return answer;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const auto& line : lines) all += line + "\n";
  return all;
}

// DE_STATEMENTS: how many of each kind a part generates.
int wanted(int usual) {
  const char* const given = std::getenv("DE_STATEMENTS");  // NOLINT(concurrency-mt-unsafe): there is one thread
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  usual /= 10;
#endif
  return given == nullptr ? usual : std::max(1, std::atoi(given));
}

// In parts, that may run beside each other.
class Differential : public ::testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override {
    const auto history = make_history(72, GetParam(), true);
    test::fill_store(folder_ / "events.redb", history, 6, 24);
    plain_.add_history(history);
    auto connection = Connection::open(folder_ / "events.redb", "");
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }

  const test::TemporaryFolder folder_;
  test::PlainTables plain_;
  std::unique_ptr<Connection> connection_;
};

TEST_P(Differential, GeneratedStatementsMeanWhatTheyMeanInPlainSqlite) {
  test::StatementGenerator generator(GetParam());
  test::GrammarCoverage coverage;
  const int statements = wanted(5000);
  int failed_in_both = 0, with_rows = 0, with_kept_rows = 0, with_passed_keys = 0;
  for (int i = 0; i < statements; ++i) {
    const auto statement = generator.statement();
    const auto compiled = compile(statement.ours);
    ASSERT_TRUE(compiled) << to_string(compiled.error(), statement.ours) << "\n" << statement.ours;
    coverage.add(statement.ours);
    auto expected = ask_plain(plain_.handle(), statement);
    // So small a history is read again sooner than kept: half of the statements keep at once.
    auto found = ask_ours(*connection_, *compiled, statement, i % 2);
    with_kept_rows += found.kept_rows ? 1 : 0;
    with_passed_keys += found.passed_keys ? 1 : 0;
    ASSERT_EQ(expected.error.empty(), found.error.empty())
        << statement.ours << "\nplain: " << expected.error << "\nours: " << found.error;
    if (!expected.error.empty()) {
      ++failed_in_both;
      continue;
    }
    if (!statement.order.empty()) {
      ASSERT_EQ(expected.keys, found.keys) << statement.ours << "\n" << compiled->sql();
    }
    std::ranges::sort(expected.rows);
    std::ranges::sort(found.rows);
    ASSERT_EQ(expected.rows, found.rows) << statement.ours << "\n" << compiled->sql();
    if (!expected.rows.empty()) ++with_rows;
  }
  EXPECT_LT(failed_in_both, statements / 50);
  EXPECT_GT(with_rows, statements / 2);
  EXPECT_GT(with_kept_rows, statements / 200);
  EXPECT_GT(with_passed_keys, statements / 100);
  if (statements >= 5000) {
    EXPECT_EQ(joined(coverage.missing()), "") << "these productions were never generated";
  }
  EXPECT_EQ(joined(coverage.unlisted()), "") << "these productions are not in the list";
}

// One token taken away, said twice, or exchanged for another one.
std::string broken(const std::string& text, test::Dice& dice) {
  static const std::vector<std::string> others = {
      ",",    "(",     ")",    "FROM", "SELECT", "1",     "'x'",  "AS", "AND", "GROUP", "BY",    "WHERE", "*", "name",
      "NULL", "count", "OVER", "JOIN", "ON",     "LIMIT", "DESC", "=",  "IN",  "NOT",   "e.pid", "max",   "?"};
  const auto tokens = tokenize(text, {});
  const std::size_t at = dice.below(tokens.size() - 1);
  std::string out;
  const auto kind = dice.below(4);
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    if (i != at) {
      out += std::string(tokens[i].source) + " ";
      continue;
    }
    if (kind == 1) out += std::string(tokens[i].source) + " " + std::string(tokens[i].source) + " ";
    if (kind == 2) out += others[dice.below(others.size())] + " ";
    if (kind == 3) out += others[dice.below(others.size())] + " " + std::string(tokens[i].source) + " ";
  }
  return out;
}

TEST_P(Differential, WhatSqliteRefusesIsRefused) {
  test::StatementGenerator generator(GetParam() + 1000);
  test::Dice dice(GetParam());
  int refused_by_both = 0, accepted_by_both = 0;
  const int statements = wanted(2500);
  for (int i = 0; i < statements; ++i) {
    const auto statement = generator.statement();
    if (statement.ours != statement.plain) continue;
    const auto text = broken(statement.ours, dice);
    const auto compiled = compile(text);
    sqlite3_stmt* prepared = nullptr;
    const bool accepted = sqlite3_prepare_v2(plain_.handle(), text.c_str(), -1, &prepared, nullptr) == SQLITE_OK;
    const std::string reason = accepted ? "" : sqlite3_errmsg(plain_.handle());
    sqlite3_finalize(prepared);
    if (compiled) {
      ASSERT_TRUE(accepted) << reason << "\n" << text << "\n" << compiled->sql();
      ++accepted_by_both;
    } else {
      const auto& error = compiled.error();
      ASSERT_FALSE(error.message.empty()) << text;
      ASSERT_TRUE(error.line >= 1 && error.column >= 1) << text;
      if (!accepted) ++refused_by_both;
    }
  }
  EXPECT_GT(refused_by_both, statements / 4);
  EXPECT_GT(accepted_by_both, statements / 50);
}

INSTANTIATE_TEST_SUITE_P(Parts, Differential, ::testing::Values(1U, 2U, 3U, 4U));

}  // namespace
}  // namespace daemoneye::sql
