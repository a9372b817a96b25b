// What statements are told that they do the long way; and those that are told nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sql/sql.h"

namespace daemoneye::sql {
namespace {

using ::testing::HasSubstr;

std::string kinds(const std::string& text, Use use = Use::query) {
  const auto compiled = compile(text);
  if (!compiled) return "refused: " + compiled.error().message;
  std::string all;
  for (const auto& hint : hints(*compiled, use)) {
    EXPECT_FALSE(hint.message.empty() || hint.suggestion.empty());
    all += (all.empty() ? "" : " ") + hint.kind + "@" + std::to_string(hint.column);
  }
  return all;
}

TEST(Hints, SayThatABigTableIsReadWithoutABoundInTime) {
  EXPECT_EQ(kinds("SELECT name FROM process_events WHERE name = 'x'"), "no_time_bound@18");
  EXPECT_EQ(kinds("SELECT name FROM process_events WHERE time < ago('1h')"), "no_time_bound@18");
  EXPECT_EQ(kinds("SELECT name FROM process_events WHERE time > ago('1h') OR pid = 1"), "no_time_bound@18");
  for (const auto* const bounded : {
           "SELECT name FROM process_events WHERE time > ago('1h')",
           "SELECT name FROM process_events e WHERE ago('1h') <= e.time AND e.name = 'x'",
           "SELECT name FROM process_events WHERE time BETWEEN ago('2h') AND ago('1h')",
           "SELECT name FROM process_events WHERE event_id > 100",
           "SELECT name FROM process_events WHERE process_key = 'x'",
           "SELECT name FROM process_events WHERE pid IN (1, 2)",
           "SELECT name FROM process_events ORDER BY time DESC LIMIT 10",
           "SELECT event_id, name FROM process_events ORDER BY 1 DESC LIMIT 10",
           "SELECT * FROM (SELECT time, name FROM process_events) WHERE time > ago('1h')",
           "WITH e AS (SELECT * FROM process_events) SELECT count(*) FROM e WHERE e.time > ago('1h')",
           "SELECT e.name FROM processes p JOIN process_events e ON e.process_key = p.process_key",
           "SELECT name FROM processes",
       }) {
    EXPECT_EQ(kinds(bounded), "") << bounded;
  }
}

TEST(Hints, SayThatAPatternIsSearchedInEveryRow) {
  const std::string bound = " AND time > ago('1h')";
  const std::string from = "SELECT pid FROM process_events WHERE ";
  EXPECT_EQ(kinds(from + "command_line LIKE '%secret%'" + bound), "leading_wildcard@38");
  EXPECT_EQ(kinds(from + "arguments GLOB '*secret'" + bound), "leading_wildcard@38");
  EXPECT_EQ(kinds(from + "NOT (command_line REGEXP 'nc -e' OR uid = 0)" + bound), "leading_wildcard@43");
  EXPECT_EQ(kinds(from + "command_line LIKE 'curl %'" + bound), "");
  EXPECT_EQ(kinds(from + "command_line REGEXP '^curl '" + bound), "");
  EXPECT_EQ(kinds(from + "name LIKE '%sh'" + bound), "");
  EXPECT_EQ(kinds(from + "name = 'curl' AND command_line LIKE '%secret%'" + bound), "");
}

TEST(Hints, SayThatNothingConnectsTwoSources) {
  EXPECT_EQ(kinds("SELECT 1 FROM processes a, alerts b WHERE a.pid = 1 AND b.pid = 2"), "cartesian_join@28");
  EXPECT_EQ(kinds("SELECT 1 FROM processes a CROSS JOIN processes b"), "cartesian_join@38");
  EXPECT_EQ(kinds("SELECT 1 FROM processes a JOIN processes b ON a.pid = b.ppid JOIN scans s"), "cartesian_join@67");
  for (const auto* const connected : {
           "SELECT 1 FROM processes a, alerts b WHERE a.process_key = b.process_key",
           "SELECT 1 FROM processes a JOIN alerts b USING (process_key)",
           "SELECT 1 FROM processes a, descendants(a.process_key) d",
           "SELECT 1 FROM processes a, (SELECT max(pid) AS most FROM processes) m",
           "SELECT 1 FROM processes a, processes b, processes c WHERE a.pid = b.ppid AND c.pid = b.pid + 1",
       }) {
    EXPECT_EQ(kinds(connected), "") << connected;
  }
}

TEST(Hints, SayThatASubqueryIsRunForEveryRow) {
  EXPECT_EQ(kinds("SELECT (SELECT count(*) FROM processes c WHERE c.ppid = p.pid) FROM processes p"),
            "correlated_subquery@8");
  EXPECT_EQ(kinds("SELECT 1 FROM processes p WHERE EXISTS (SELECT 1 FROM alerts a WHERE a.pid > p.pid)"),
            "correlated_subquery@33");
  EXPECT_EQ(kinds("SELECT 1 FROM processes p WHERE p.pid IN (SELECT a.pid FROM alerts a WHERE a.name <> p.name)"),
            "correlated_subquery@33");
  for (const auto* const fine : {
           "SELECT (SELECT count(*) FROM processes) FROM processes p",
           "SELECT 1 FROM processes p WHERE EXISTS (SELECT 1 FROM alerts a WHERE a.pid = p.pid AND a.severity = "
           "'high')",
           "SELECT (SELECT name FROM processes q WHERE q.process_key = p.parent_key) FROM processes p",
           "SELECT 1 FROM processes p WHERE p.pid IN (SELECT a.pid FROM alerts a WHERE EXISTS (SELECT 1 FROM scans s "
           "WHERE s.scan_id = a.pid))",
       }) {
    EXPECT_EQ(kinds(fine), "") << fine;
  }
}

TEST(Hints, SayThatAHashComesWithAChange) {
  const std::string bound = " AND time > ago('1h')";
  EXPECT_EQ(kinds("SELECT pid FROM process_events WHERE kind = 'exec' AND executable_hash = 'ab'" + bound),
            "hash_of_exec@56");
  EXPECT_EQ(kinds("SELECT pid FROM process_events WHERE kind IN ('exec','change') AND executable_hash = 'ab'" + bound),
            "");
  EXPECT_EQ(kinds("SELECT pid, executable_hash FROM process_events WHERE kind = 'exec'" + bound), "");
}

TEST(Hints, LeaveToRulesWhatTheirWindowOrStreamBounds) {
  const std::string text =
      "SELECT e.pid FROM process_events e WHERE e.command_line LIKE '%x%' AND EXISTS (SELECT 1 FROM "
      "process_events o WHERE o.parent_key = e.process_key)";
  EXPECT_EQ(kinds(text), "no_time_bound@19 leading_wildcard@42 no_time_bound@94");
  EXPECT_EQ(kinds(text, Use::stream_rule), "no_time_bound@94");
  EXPECT_EQ(kinds(text, Use::scheduled_rule), "leading_wildcard@42");
}

TEST(Hints, AreReadableWithTheirPlace) {
  const auto compiled = compile("SELECT 1\nFROM process_events e");
  ASSERT_TRUE(compiled);
  ASSERT_EQ(hints(*compiled).size(), 1U);
  EXPECT_EQ(to_string(hints(*compiled)[0]),
            "line 2, column 6: process_events is read from its beginning; say from when on, as in e.time > ago('1h')");
}

}  // namespace
}  // namespace daemoneye::sql
