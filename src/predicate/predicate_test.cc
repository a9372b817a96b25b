#include "predicate/predicate.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cmath>
#include <limits>

#include "event/testing/random_event.h"

namespace daemoneye::predicate {
namespace {

using event::Column;
using event::Value;

Value integer(std::int64_t value) { return value; }

Predicate parse(std::string_view text) {
  auto parsed = Predicate::parse(text);
  EXPECT_TRUE(parsed) << text << ": " << (parsed ? "" : parsed.error().message);
  return parsed ? *std::move(parsed) : *Predicate::compile({});
}

event::ProcessEvent sleeper() {
  event::ProcessEvent event;
  event.time.ns = 1'790'000'000'000'000'000;
  event.process.key.pid = 42;
  event.process.name = "sleep";
  event.process.uid = 1000;
  event.process.cpu_usage = 1.5;
  event.process.arguments = event::Arguments::from_list({"sleep", "60"});
  return event;
}

TEST(Predicate, EveryConditionMustBeTrue) {
  const auto event = sleeper();
  EXPECT_TRUE(parse("").matches(event));
  EXPECT_TRUE(parse("name = 'sleep' AND uid >= 1000 AND command_line LIKE '%60%'").matches(event));
  EXPECT_FALSE(parse("name = 'sleep' AND uid >= 1001").matches(event));
  EXPECT_TRUE(parse("event_id = 7").matches(event, 7));
  EXPECT_TRUE(parse("kind IN ('exec', 'fork') AND name NOT IN ('cat') AND name NOT LIKE 'x%'").matches(event));
  EXPECT_TRUE(parse("name REGEXP '^sl' AND name GLOB 's*[o-q]'").matches(event));
}

TEST(Predicate, NullIsNotTrue) {
  const auto event = sleeper();  // cwd is unknown
  for (const auto* text :
       {"cwd = ''", "cwd != 'x'", "cwd < 'x'", "cwd IN ('x')", "cwd NOT IN ('x')", "cwd LIKE '%'", "cwd NOT LIKE 'x'",
        "cwd NOT GLOB 'x'", "cwd NOT REGEXP 'x'", "cwd IS NOT NULL", "uid = NULL", "uid != NULL",
        "uid NOT IN (1, NULL)", "name LIKE NULL", "name NOT LIKE NULL"}) {
    EXPECT_FALSE(parse(text).matches(event)) << text;
  }
  for (const auto* text : {"cwd IS NULL", "cwd NOT IN ()", "uid IN (1000, NULL)"}) {
    EXPECT_TRUE(parse(text).matches(event)) << text;
  }
  EXPECT_FALSE(parse("uid IN ()").matches(event));
}

TEST(Predicate, TimesMayBeWrittenAsText) {
  auto event = sleeper();
  EXPECT_TRUE(parse("time > '2026-09-21T00:00:00Z' AND time < '2026-09-22'").matches(event));
  EXPECT_FALSE(parse("time > '2026-09-22'").matches(event));
  EXPECT_EQ(parse("time > '1970-01-01T00:00:01Z'").text(), "time > 1000000000");
  EXPECT_FALSE(Predicate::parse("time > 'yesterday'"));
}

struct Refused {
  const char* text;
  const char* message;
};

TEST(Predicate, ErrorsSayWhereAndWhatIsWanted) {
  for (const auto& [text, message] : std::initializer_list<Refused>{
           {"nme = 'x'", "at byte 0: no column 'nme' (did you mean name?)"},
           {"name = 'x' OR uid = 1", "at byte 11: wanted AND or the end"},
           {"name = 'x' AND", "at byte 14: wanted a column"},
           {"name", "at byte 4: wanted =, !="},
           {"name NOT = 'x'", "at byte 9: wanted IN, LIKE, GLOB or REGEXP"},
           {"name = x", "at byte 7: wanted a number, a text in ' or NULL"},
           {"name = 'x", "at byte 7: text without its closing '"},
           {"uid IN (1, 2", "at byte 12: wanted , or )"},
           {"uid IN 1", "at byte 7: wanted ("},
           {"uid IS 1", "at byte 7: wanted NULL"},
           {"uid = 1e999", "at byte 6: wanted a number"},
           {"uid = 1x", "at byte 6: wanted a number"},
           {"name REGEXP '('", "condition 'name REGEXP '('': not a regular expression"},
           {"start_time < 'x'", "at byte 13: not an ISO 8601 time"},
       }) {
    const auto parsed = Predicate::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, Errc::invalid_input);
    EXPECT_NE(parsed.error().message.find(message), std::string::npos) << parsed.error().message;
  }
}

TEST(Predicate, HasBounds) {
  std::string many = "uid = 1";
  for (std::size_t i = 1; i < max_conditions; ++i) many += " AND uid = 1";
  EXPECT_TRUE(Predicate::parse(many));
  EXPECT_FALSE(Predicate::parse(many + " AND uid = 1"));
  std::string list = "uid IN (1";
  for (std::size_t i = 1; i < max_in_values; ++i) list += ",1";
  EXPECT_TRUE(Predicate::parse(list + ")"));
  EXPECT_FALSE(Predicate::parse(list + ",1)"));
  EXPECT_FALSE(Predicate::parse("name = '" + std::string(max_predicate_bytes, 'x') + "'"));
  EXPECT_FALSE(Predicate::parse("name LIKE '" + std::string(max_pattern_bytes + 1, 'x') + "'"));
}

TEST(Predicate, CompileRefusesMalformedConditions) {
  const std::vector<Condition> malformed = {
      {Column::uid, Operator::equal, {}, false},
      {Column::uid, Operator::equal, {integer(1), integer(2)}, false},
      {Column::uid, Operator::is_null, {integer(1)}, false},
      {Column::uid, Operator::equal, {integer(1)}, true},
      {Column::cpu_usage, Operator::less, {std::nan("")}, false},
      {Column::cpu_usage, Operator::less, {std::numeric_limits<double>::infinity()}, false},
      {Column::name, Operator::regexp, {Value("[")}, false},
      {static_cast<Column>(200), Operator::is_null, {}, false},
  };
  for (const auto& condition : malformed) EXPECT_FALSE(Predicate::compile({condition}));
  EXPECT_FALSE(
      Predicate::compile(std::vector<Condition>(max_conditions + 1, {Column::uid, Operator::is_null, {}, false})));
}

TEST(Predicate, TextComesBack) {
  for (const auto* text :
       {"", "name = 'it''s' AND uid != -5", "cpu_usage >= 0.1 AND cpu_usage < 5.0 AND cpu_usage > 1e+300",
        "pid IN () AND pid NOT IN (1, 2.5, 'x', NULL)",
        "name NOT LIKE 'a%' AND name GLOB '[a-z]*' AND name NOT REGEXP 'x'", "uid IS NULL AND gid IS NOT NULL",
        "uid = -9223372036854775808", "name = 'tab\tnew\nline'"}) {
    EXPECT_EQ(parse(text).text(), text);
  }
  EXPECT_EQ(parse("  NAME='x'and uid<>+1 AND pid==9223372036854775808 ").text(),
            "name = 'x' AND uid != 1 AND pid = 9223372036854775808.0");
}

// SQLite over a table of the same rows is the judge.
class Differential : public ::testing::Test {
 protected:
  Differential() {
    EXPECT_EQ(sqlite3_open(":memory:", &handle_), SQLITE_OK);
    std::string create = "CREATE TABLE t (";
    std::string insert = "INSERT INTO t VALUES (";
    for (const auto& column : event::columns()) {
      const auto* type = column.type == event::ColumnType::integer ? " INTEGER"
                         : column.type == event::ColumnType::real  ? " REAL"
                                                                   : " TEXT";
      create += (column.column == Column::event_id ? "" : ", ") + std::string(column.name) + type;
      insert += column.column == Column::event_id ? "?" : ", ?";
    }
    EXPECT_EQ(sqlite3_exec(handle_, (create + ")").c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    event::testing::RandomEvents random(6, /*hostile=*/false);
    for (int i = 0; i < 200; ++i) {
      auto event = random.next();
      // Small values, so that the constants below hit.
      if (event.kind != event::EventKind::gap) {
        event.process.name = std::string(i % 3 + 1U, "abA5"[random.number(0, 3)]);
        if (event.process.uid) event.process.uid = static_cast<std::uint32_t>(random.number(0, 6));
        if (event.process.cpu_usage) event.process.cpu_usage = static_cast<double>(random.number(0, 12)) / 2;
      }
      events_.push_back(event);
    }
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_prepare_v2(handle_, (insert + ")").c_str(), -1, &statement, nullptr), SQLITE_OK);
    for (std::size_t i = 0; i < events_.size(); ++i) {
      for (std::size_t c = 0; c < event::column_count; ++c) {
        const auto value = column_value(events_[i], static_cast<event::EventId>(i), event::columns()[c].column);
        bind(statement, static_cast<int>(c) + 1, value);
      }
      EXPECT_EQ(sqlite3_step(statement), SQLITE_DONE);
      sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
  }
  ~Differential() override { sqlite3_close(handle_); }

  static void bind(sqlite3_stmt* statement, int index, const Value& value) {
    if (const auto* number = std::get_if<std::int64_t>(&value))
      sqlite3_bind_int64(statement, index, *number);
    else if (const auto* real = std::get_if<double>(&value))
      sqlite3_bind_double(statement, index, *real);
    else if (const auto* text = std::get_if<std::string>(&value)) {
      sqlite3_bind_text(statement, index, text->data(), static_cast<int>(text->size()), SQLITE_TRANSIENT);
    } else
      sqlite3_bind_null(statement, index);
  }

  void expect_same(const std::string& condition) {
    std::vector<std::size_t> ours, theirs;
    const auto predicate = parse(condition);
    for (std::size_t i = 0; i < events_.size(); ++i) {
      if (predicate.matches(events_[i], static_cast<event::EventId>(i))) ours.push_back(i);
    }
    sqlite3_stmt* statement = nullptr;
    ASSERT_EQ(sqlite3_prepare_v2(handle_, ("SELECT event_id FROM t WHERE " + condition + " ORDER BY rowid").c_str(), -1,
                                 &statement, nullptr),
              SQLITE_OK)
        << condition << ": " << sqlite3_errmsg(handle_);
    while (sqlite3_step(statement) == SQLITE_ROW) {
      theirs.push_back(static_cast<std::size_t>(sqlite3_column_int64(statement, 0)));
    }
    sqlite3_finalize(statement);
    ASSERT_EQ(ours, theirs) << condition;
  }

  sqlite3* handle_ = nullptr;
  std::vector<event::ProcessEvent> events_;
};

TEST_F(Differential, EveryOperatorOnEveryTypeIsSqlites) {
  const std::vector<std::string> constants = {"0",
                                              "5",
                                              "-1",
                                              "2.5",
                                              "3.0",
                                              "'5'",
                                              "'2.5'",
                                              "' 3 '",
                                              "'a'",
                                              "'aa'",
                                              "'A'",
                                              "'%a%'",
                                              "'[a]'",
                                              "'a_'",
                                              "''",
                                              "NULL",
                                              "1e3",
                                              "'1e0'",
                                              "'*'",
                                              "5.0",
                                              "'exec'",
                                              "'running'",
                                              "9223372036854775807",
                                              "9223372036854775808"};
  for (const auto* column : {"uid", "cpu_usage", "name", "kind", "exit_code", "event_id", "status", "scan_id"}) {
    for (const auto* op : {"=", "!=", "<", "<=", ">", ">=", "LIKE", "NOT LIKE", "GLOB", "NOT GLOB"}) {
      for (const auto& constant : constants) expect_same(std::string(column) + " " + op + " " + constant);
    }
    for (const auto* list :
         {"()", "(0)", "(1, 2.0, '3')", "('a', 'aa', 5)", "(NULL)", "(1, NULL, 'a')", "('5', 2.5)"}) {
      expect_same(std::string(column) + " IN " + list);
      expect_same(std::string(column) + " NOT IN " + list);
    }
    expect_same(std::string(column) + " IS NULL");
    expect_same(std::string(column) + " IS NOT NULL");
  }
  expect_same("uid > 2 AND name LIKE 'a%' AND cpu_usage < 4 AND kind != 'gap'");
}

}  // namespace
}  // namespace daemoneye::predicate
