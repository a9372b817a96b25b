// Accepted and refused statements, with where and why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sql/catalog.h"
#include "sql/parser.h"
#include "sql/printer.h"
#include "sql/sql.h"

namespace daemoneye::sql {
namespace {

using ::testing::HasSubstr;

struct Refused {
  const char* text;
  unsigned line, column;
  const char* message;  // a part of it
};

void PrintTo(const Refused& one, std::ostream* out) { *out << one.text; }

class Refusals : public ::testing::TestWithParam<Refused> {};

TEST_P(Refusals, NameThePlaceAndTheReason) {
  const auto& expected = GetParam();
  const auto compiled = compile(expected.text);
  ASSERT_FALSE(compiled) << compiled->sql();
  EXPECT_THAT(compiled.error().message, HasSubstr(expected.message));
  EXPECT_EQ(compiled.error().line, expected.line) << compiled.error().message;
  EXPECT_EQ(compiled.error().column, expected.column) << compiled.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    OtherStatements, Refusals,
    ::testing::Values(Refused{"DROP TABLE processes", 1, 1, "only SELECT is accepted; found DROP"},
                      Refused{"  \n insert into alerts values(1)", 2, 2, "only SELECT is accepted; found insert"},
                      Refused{"PRAGMA user_version", 1, 1, "only SELECT is accepted; found PRAGMA"},
                      Refused{"ATTACH 'x' AS y", 1, 1, "only SELECT is accepted; found ATTACH"},
                      Refused{"EXPLAIN SELECT 1", 1, 1, "only SELECT"}, Refused{"VALUES (1)", 1, 1, "only SELECT"},
                      Refused{"", 1, 1, "empty"}, Refused{"/* x", 1, 1, "no end"},
                      Refused{"-- only a comment", 1, 18, "empty"},
                      Refused{"WITH a AS (DELETE FROM alerts) SELECT 1", 1, 12, "only SELECT"},
                      Refused{"WITH a AS (SELECT 1) DELETE FROM alerts", 1, 22, "expected SELECT; found DELETE"},
                      Refused{"SELECT 1; DROP TABLE alerts", 1, 11, "only one statement is accepted; found DROP"},
                      Refused{"SELECT 1;;", 1, 10, "only one statement"},
                      Refused{"SELECT 1 INTO x", 1, 10, "expected the end"},
                      Refused{"SELECT name FROM processes; -- x\n DETACH y", 2, 2, "only one statement"}));

INSTANTIATE_TEST_SUITE_P(
    Names, Refusals,
    ::testing::Values(
        Refused{"SELECT comand_line FROM processes", 1, 8, "unknown column comand_line; did you mean command_line?"},
        Refused{"SELECT p.comm, e.name FROM processes p", 1, 16, "unknown table e"},
        Refused{"SELECT p.nam FROM processes p", 1, 8, "unknown column p.nam; did you mean name?"},
        Refused{"SELECT * FROM process", 1, 15, "unknown table process; did you mean processes?"},
        Refused{"SELECT * FROM sqlite_master", 1, 15, "unknown table sqlite_master"},
        Refused{"SELECT * FROM sqlite_schema", 1, 15, "unknown table"},
        Refused{"SELECT * FROM main.processes", 1, 19, "no schema"},
        Refused{"SELECT * FROM pragma_table_info('alerts')", 1, 15, "unknown table function"},
        Refused{"SELECT * FROM _driving_events", 1, 15, "unknown table"},
        Refused{"SELECT rowid FROM processes", 1, 8, "unknown column rowid"},
        Refused{"SELECT _rowid_ FROM alerts", 1, 8, "unknown column"},
        Refused{"SELECT dedup_key FROM alerts", 1, 8, "unknown column"},
        Refused{"SELECT name AS _x FROM processes", 1, 16, "reserved"},
        Refused{"SELECT name AS rowid FROM processes", 1, 16, "reserved"},
        Refused{"SELECT name FROM processes WHERE name = \"bash\"", 1, 41, "a string is written 'bash'"},
        Refused{"SELECT name FROM processes a, process_events b", 1, 8, "write which one"},
        Refused{"SELECT 1 FROM processes, processes", 1, 26, "is there twice"},
        Refused{"WITH alerts AS (SELECT 1) SELECT * FROM alerts", 1, 6, "cannot have the name of a table"},
        Refused{"SELECT load_extension('x')", 1, 8, "unknown function load_extension"},
        Refused{"SELECT readfile('/etc/shadow')", 1, 8, "unknown function readfile"},
        Refused{"SELECT writefile('/x', 'y')", 1, 8, "unknown function writefile"},
        Refused{"SELECT sqlite_version()", 1, 8, "unknown function"},
        Refused{"SELECT randomblob(9)", 1, 8, "unknown function"},
        Refused{"SELECT zeroblob(1000000000)", 1, 8, "unknown function"},
        Refused{"SELECT uper(name) FROM processes", 1, 8, "did you mean upper?"},
        Refused{"SELECT printf('%.*c', 900000000, 'x')", 1, 15, "written out"},
        Refused{"SELECT printf('%900000000d', 1)", 1, 15, "written out"},
        Refused{"SELECT format(name) FROM processes", 1, 15, "literal format"},
        Refused{"SELECT \"upper\"(name) FROM processes", 1, 8, "not quoted"},
        Refused{"SELECT _to_ns('x')", 1, 8, "unknown function"}, Refused{"SELECT :_now_ns", 1, 8, "reserved"},
        Refused{"SELECT name FROM ancestors", 1, 18, "needs an argument"},
        Refused{"SELECT ancestors('x')", 1, 8, "it stands in FROM"}, Refused{"SELECT *", 1, 8, "needs a FROM"},
        Refused{"SELECT substr('a')", 1, 8, "expected substr(text, start[, length])"},
        Refused{"SELECT name COLLATE german FROM processes", 1, 21, "BINARY, NOCASE and RTRIM"}));

INSTANTIATE_TEST_SUITE_P(
    Syntax, Refusals,
    ::testing::Values(
        Refused{"SELECT", 1, 7, "expected a value or a column; found the end"},
        Refused{"SELECT name FROM", 1, 17, "expected a table's name"},
        Refused{"SELECT name FROM processes WHERE", 1, 33, "expected a value"}, Refused{"SELECT 'abc", 1, 8, "no end"},
        Refused{"SELECT \"abc", 1, 8, "no end"}, Refused{"SELECT [name] FROM processes", 1, 8, "quoted with \" only"},
        Refused{"SELECT `name` FROM processes", 1, 8, "quoted with \" only"},
        Refused{"SELECT @x", 1, 8, "a parameter is"}, Refused{"SELECT $x", 1, 8, "a parameter is"},
        Refused{"SELECT x'abc'", 1, 8, "a blob is"}, Refused{"SELECT 12abc", 1, 8, "runs into a name"},
        Refused{"SELECT 0x12345678901234567", 1, 8, "above 64 bits"}, Refused{"SELECT (1, 2)", 1, 8, "row of values"},
        Refused{"SELECT (1, 2) = (1, 2, 3)", 1, 8, "as many values"},
        Refused{"SELECT 1 WHERE name MATCH 'x'", 1, 21, "MATCH is not available"},
        Refused{"SELECT * FROM processes NATURAL JOIN scans", 1, 25, "joins are INNER, LEFT and CROSS"},
        Refused{"SELECT 1 FROM scans LEFT JOIN (processes p JOIN alerts a) ON 1", 1, 21, "LEFT JOIN with joins in"},
        Refused{"SELECT 1 FROM scans, (processes p LEFT JOIN alerts a ON 1)", 1, 35, "LEFT JOIN with joins in"},
        Refused{"SELECT 1 FROM scans, (processes p JOIN alerts a USING (pid))", 1, 60, "USING cannot stand"},
        Refused{"SELECT 1 FROM scans JOIN (processes p JOIN alerts a) USING (time)", 1, 54, "USING cannot follow"},
        Refused{"SELECT 1 FROM (scans, alerts) AS x", 1, 31, "have no name"},
        Refused{"SELECT * FROM processes a FULL JOIN processes b ON 1", 1, 27, "joins are"},
        Refused{"SELECT * FROM processes a LEFT JOIN processes b", 1, 48, "needs ON or USING"},
        Refused{"SELECT 1 LIMIT name", 1, 16, "unknown column name"},
        Refused{"SELECT name FROM processes WHERE name REGEXP '('", 1, 46, "not a regular expression"},
        Refused{"SELECT name FROM processes WHERE name LIKE 'a' ESCAPE 'xy'", 1, 55, "one character"},
        Refused{"SELECT é", 1, 8, "no meaning"}, Refused{"SELECT \xff", 1, 8, "not valid UTF-8"},
        Refused{"SELECT 1 UNION SELECT 1, 2", 1, 16, "have 1 and 2 columns"},
        Refused{"SELECT 1 AS a UNION SELECT 2 ORDER BY a + 1", 1, 39, "name or number of a result column"},
        Refused{"SELECT 1 WHERE 1 IN (SELECT 1, 2)", 1, 16, "has 2 columns"}));

INSTANTIATE_TEST_SUITE_P(
    Aggregates, Refusals,
    ::testing::Values(Refused{"SELECT name FROM processes WHERE count(*) > 1", 1, 34, "count cannot stand in WHERE"},
                      Refused{"SELECT count(*) AS n FROM processes WHERE n > 1", 1, 43,
                              "n is an aggregate and cannot stand in WHERE"},
                      Refused{"SELECT sum(count(*)) FROM processes", 1, 12, "cannot"},
                      Refused{"SELECT name FROM processes HAVING name = 'x'", 1, 35, "HAVING needs GROUP BY"},
                      Refused{"SELECT name FROM processes ORDER BY count(*)", 1, 37, "cannot stand in ORDER BY"},
                      Refused{"SELECT name FROM processes GROUP BY 2", 1, 37, "there are columns 1 to 1"},
                      Refused{"SELECT name FROM processes GROUP BY count(*)", 1, 37, "cannot stand in GROUP BY"},
                      Refused{"SELECT row_number() FROM processes", 1, 8, "needs OVER"},
                      Refused{"SELECT upper(name) OVER () FROM processes", 1, 8, "not a window function"},
                      Refused{"SELECT count(DISTINCT name) OVER () FROM processes", 1, 8,
                              "DISTINCT cannot be used with OVER"},
                      Refused{"SELECT sum(pid) OVER w FROM processes", 1, 22, "unknown window w"},
                      Refused{"SELECT (SELECT max(p.pid)) FROM processes p", 1, 16, "outer SELECT"},
                      Refused{"SELECT upper(DISTINCT name) FROM processes", 1, 8, "DISTINCT belongs to aggregates"},
                      Refused{"SELECT count(pid, name) FROM processes", 1, 8, "count(*) or count(x)"}));

INSTANTIATE_TEST_SUITE_P(
    Times, Refusals,
    ::testing::Values(
        Refused{"SELECT * FROM process_events WHERE time > 'yesterday'", 1, 43, "not a time: 'yesterday'"},
        Refused{"SELECT * FROM process_events WHERE time IN ('2026-01-01', 'x')", 1, 59, "not a time"},
        Refused{"SELECT * FROM process_events WHERE time BETWEEN '2026-01-01' AND '2026-13-01'", 1, 66, "not a time"},
        Refused{"SELECT * FROM process_events WHERE time > ago('5')", 1, 47, "not a duration"},
        Refused{"SELECT * FROM process_events WHERE time > unixepoch('now')", 1, 43, "gives seconds"},
        Refused{"SELECT datetime(time, 'unixepoch') FROM process_events", 1, 23, "a time already"}));

INSTANTIATE_TEST_SUITE_P(
    Recursion, Refusals,
    ::testing::Values(
        Refused{"WITH a AS (SELECT * FROM a) SELECT * FROM a", 1, 26, "circular reference"},
        Refused{"WITH RECURSIVE a AS (SELECT 1 INTERSECT SELECT * FROM a) SELECT * FROM a", 1, 41, "UNION"},
        Refused{"WITH RECURSIVE a(n) AS (SELECT 1 UNION SELECT x.n FROM a x, a y) SELECT * FROM a", 1, 40, "once"},
        Refused{"WITH RECURSIVE a(n) AS (SELECT 1 UNION SELECT count(*) FROM a) SELECT * FROM a", 1, 40,
                "no aggregate"},
        Refused{"WITH a(x, y) AS (SELECT 1) SELECT * FROM a", 1, 6, "names 2 columns"}));

TEST(Compile, PrintsEverythingQualifiedAndQuoted) {
  const auto compiled =
      compile("select e.name n, sum(uid) from process_events e where n like 'a%' group by 1 order by 2 desc");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_EQ(compiled->sql(), R"~(SELECT "e"."name" AS "n", sum("e"."uid") AS "sum(uid)" FROM "process_events" AS "e" )~"
                             R"(WHERE ("e"."name" LIKE 'a%') GROUP BY 1 ORDER BY 2 DESC)");
  EXPECT_EQ(compiled->tables(), std::set<std::string>{"process_events"});
  ASSERT_EQ(compiled->columns().size(), 2U);
  EXPECT_EQ(compiled->columns()[1].name, "sum(uid)");
}

TEST(Compile, ConvertsWhatStandsBesideATime) {
  const auto sql = [](const std::string& condition) {
    const auto compiled = compile("SELECT 1 AS x FROM process_events e WHERE " + condition);
    return compiled ? compiled->sql().substr(compiled->sql().find("WHERE ") + 6) : compiled.error().message;
  };
  EXPECT_EQ(sql("time > '2026-11-21 20:48:23'"), R"(("e"."time" > 1795294103000000000))");
  EXPECT_EQ(sql("'1970-01-01' < time"), R"((0 < "e"."time"))");
  EXPECT_EQ(sql("time > datetime('now','-5 minutes')"), R"(("e"."time" > _to_ns(datetime(:_now_text, '-5 minutes'))))");
  EXPECT_EQ(sql("time > ago('5m')"), R"(("e"."time" > (:_now_ns - 300000000000)))");
  EXPECT_EQ(sql("time > :since"), R"(("e"."time" > _to_ns(:since)))");
  EXPECT_EQ(sql("time > 5"), R"(("e"."time" > 5))");
  EXPECT_EQ(sql("time IN ('1970-01-01', ?)"), R"(("e"."time" IN (0, _to_ns(:_p1))))");
  EXPECT_EQ(sql("(time, pid) > ('1970-01-01', 4)"), R"((("e"."time", "e"."pid") > (0, 4)))");
  EXPECT_EQ(sql("date(time) = date('now')"), R"((date(_time_text("e"."time")) = date(:_now_text)))");
  EXPECT_EQ(sql("name = '2026-11-21'"), R"(("e"."name" = '2026-11-21'))");
  EXPECT_EQ(
      sql("(SELECT max(time) FROM alerts) < CURRENT_TIMESTAMP"),
      R"~(((SELECT max("alerts"."time") AS "max(time)" FROM "alerts" AS "alerts") < _to_ns(datetime(:_now_text))))~");
}

TEST(Compile, KeepsTimesThroughSubqueriesAndNamesThemInTheResult) {
  const auto compiled = compile(
      "WITH c(t, n) AS (SELECT min(time), name FROM process_events) "
      "SELECT t, n, coalesce(t, ago('1s')), t + 1 FROM (SELECT * FROM c) WHERE t < '1970-01-01'");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_TRUE(compiled->columns()[0].is_time);
  EXPECT_FALSE(compiled->columns()[1].is_time);
  EXPECT_TRUE(compiled->columns()[2].is_time);
  EXPECT_THAT(compiled->sql(), HasSubstr("< 0)"));
}

TEST(Compile, GivesSourcesOfOneNameDifferentNamesSoThatNothingIsCaptured) {
  const auto compiled =
      compile("SELECT e.pid FROM process_events e WHERE EXISTS (SELECT 1 FROM alerts e WHERE e.rule_id = 'x')");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_THAT(compiled->sql(), HasSubstr(R"("alerts" AS "e:2" WHERE ("e:2"."rule_id" = 'x'))"));
}

TEST(Compile, ExpandsStarsWithoutHiddenColumns) {
  const auto compiled = compile("SELECT j.*, s.scan_id FROM scans s, json_each('[1]') j");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_EQ(compiled->columns().size(), 9U);
  EXPECT_EQ(compiled->columns().front().name, "key");
}

TEST(Compile, CountsParametersByName) {
  const auto compiled = compile("SELECT :a, ?, ?3, :a, ?");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_EQ(compiled->parameters(), (std::set<std::string>{"a", "?1", "?3", "?4"}));
  EXPECT_THAT(compiled->sql(), HasSubstr("SELECT :a AS"));
  EXPECT_THAT(compiled->sql(), HasSubstr(":_p4"));
}

TEST(Compile, BoundsARecursiveTable) {
  const auto compiled =
      compile("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT i FROM n");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_THAT(compiled->sql(), HasSubstr("AND _recursion_step(\"n\".\"i\")"));
}

TEST(Compile, HoldsItsLimits) {
  const auto refusal = [](const std::string& text, const Limits& limits = {}) {
    const auto compiled = compile(text, limits);
    return compiled ? std::string() : compiled.error().message;
  };
  const auto repeat = [](const std::string& part, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i) all += part;
    return all;
  };
  EXPECT_THAT(refusal("SELECT " + repeat("(", 5000) + "1" + repeat(")", 5000)), HasSubstr("nested deeper than 100"));
  EXPECT_THAT(refusal("SELECT " + repeat("- ", 5000) + "1"), HasSubstr("nested deeper than 100"));
  EXPECT_THAT(refusal("SELECT " + repeat("NOT ", 5000) + "1"), HasSubstr("nested deeper than 100"));
  EXPECT_THAT(refusal("SELECT 1" + repeat(" + 1", 5000)), HasSubstr("nested deeper than 100"));
  EXPECT_THAT(refusal("SELECT 1" + repeat(" COLLATE BINARY", 2000)), HasSubstr("nested deeper than 100"));
  EXPECT_THAT(refusal("SELECT " + repeat("(SELECT ", 200) + "1" + repeat(")", 200)),
              HasSubstr("SELECTs are nested deeper than 16"));
  EXPECT_THAT(refusal("SELECT * FROM " + repeat("(SELECT * FROM ", 20) + "scans" + repeat(")", 20)),
              HasSubstr("nested deeper"));
  EXPECT_EQ(refusal("SELECT 1 WHERE 1" + repeat(" OR 1", 5000)), "");  // flat, so no depth
  EXPECT_THAT(refusal("SELECT 1 IN (1" + repeat(",1", 1000) + ")"), HasSubstr("at most 1000 are allowed"));
  EXPECT_EQ(refusal("SELECT 1 IN (1" + repeat(",1", 999) + ")"), "");
  EXPECT_THAT(refusal("SELECT 1" + repeat(",1", 256)), HasSubstr("at most 256 result columns"));
  EXPECT_THAT(refusal("SELECT p.* FROM processes p, processes q" + repeat(", processes", 9)),
              HasSubstr("at most 8 joins"));
  // What SQLite's own parser could not hold.
  EXPECT_THAT(refusal("SELECT " + repeat("~", 60) + "1"), HasSubstr("nested too deeply in each other"));
  EXPECT_EQ(refusal("SELECT " + repeat("~", 40) + "1"), "");
  EXPECT_THAT(refusal("SELECT '" + repeat("x", 70000) + "'"), HasSubstr("at most 65536"));
  EXPECT_THAT(refusal("SELECT a.*, a.* , a.*, a.*, a.*, a.*, a.*, a.*, a.* FROM process_events a"),
              HasSubstr("at most 256"));
  std::string doubling = "WITH t0 AS (SELECT 1 AS x FROM scans)";
  for (int i = 1; i < 20; ++i) {
    const auto before = "t" + std::to_string(i - 1);
    doubling += ", t" + std::to_string(i) + " AS (SELECT a.x FROM " + before + " a, " + before + " b)";
  }
  EXPECT_THAT(refusal(doubling + " SELECT * FROM t19"), HasSubstr("reads more than 100 tables"));
  std::string list;
  for (int i = 0; i < 4000; ++i) list += "+1";
  EXPECT_THAT(refusal("SELECT x.a FROM (SELECT 1 AS a) x WHERE x.a" + list + " > 1"), HasSubstr("nested deeper"));
}

TEST(Compile, NamesWhatDrivesAStream) {
  const auto driving = [](const std::string& text) {
    const auto compiled = compile(text);
    if (!compiled) return "refused: " + compiled.error().message;
    if (compiled->driving()) return compiled->driving()->table + " " + compiled->driving()->alias;
    EXPECT_EQ(compiled->streaming_sql(), "");
    return compiled->not_streamable();
  };
  EXPECT_EQ(driving("SELECT * FROM process_events"), "process_events process_events");
  EXPECT_EQ(driving("SELECT * FROM processes p WHERE p.name = 'x'"), "processes p");
  EXPECT_EQ(driving("SELECT * FROM processes p JOIN process_events e ON e.process_key = p.process_key"),
            "process_events e");
  EXPECT_EQ(
      driving("SELECT e.pid FROM process_events e WHERE EXISTS (SELECT 1 FROM process_events x WHERE x.pid = e.pid)"),
      "process_events e");
  EXPECT_EQ(driving("SELECT count(*) FROM process_events"), "uses an aggregate: needs evaluate");
  EXPECT_EQ(driving("SELECT name FROM process_events GROUP BY 1"), "uses GROUP BY: needs evaluate");
  EXPECT_EQ(driving("SELECT DISTINCT name FROM process_events"), "uses DISTINCT: needs evaluate");
  EXPECT_EQ(driving("SELECT name FROM process_events LIMIT 1"), "uses LIMIT: needs evaluate");
  EXPECT_EQ(driving("SELECT rank() OVER () FROM process_events"), "uses a window function: needs evaluate");
  EXPECT_EQ(driving("SELECT name FROM process_events UNION SELECT 'x'"), "uses UNION: needs evaluate");
  EXPECT_THAT(driving("SELECT 1 FROM process_events a, process_events b"), HasSubstr("names process_events twice"));
  EXPECT_THAT(driving("SELECT 1 FROM alerts a LEFT JOIN process_events e ON e.pid = a.pid"),
              HasSubstr("right of a LEFT JOIN"));
  EXPECT_THAT(driving("SELECT * FROM (SELECT * FROM process_events)"), HasSubstr("outermost FROM"));
  EXPECT_THAT(driving("SELECT 1"), HasSubstr("outermost FROM"));
}

TEST(Compile, PrintsTheStreamingFormWithTheDrivingEventLast) {
  const auto compiled =
      compile("SELECT e.pid FROM process_events e JOIN processes p ON p.process_key = e.parent_key WHERE e.uid = 0");
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_EQ(
      compiled->streaming_sql(),
      R"(SELECT "e"."pid" AS "pid", "e"."_driving_event_id" FROM "_driving_events" AS "e" JOIN "processes" AS "p" )"
      R"(ON ("p"."process_key" = "e"."parent_key") WHERE ("e"."uid" = 0))");
  EXPECT_EQ(compiled->driving_conditions(), (std::set<std::string>{"parent_key", "uid"}));
}

TEST(Compile, KnowsWhichColumnsOfTheDrivingRowDecide) {
  const auto decide = [](const std::string& text, const std::vector<std::string>& except = {}) {
    const auto compiled = compile_with_exceptions(text, except);
    EXPECT_TRUE(compiled) << compiled.error().message;
    return compiled ? compiled->driving_conditions() : std::set<std::string>();
  };
  using Columns = std::set<std::string>;
  EXPECT_EQ(decide("SELECT p.pid, p.cwd FROM processes p ORDER BY p.uid"), Columns{});
  EXPECT_EQ(decide("SELECT p.pid FROM processes p WHERE p.cpu_usage > 90 AND NOT (lower(p.user) IS 'x' OR p.uid)"),
            (Columns{"cpu_usage", "user", "uid"}));
  EXPECT_EQ(decide("SELECT p.pid FROM processes p JOIN ancestors(p.process_key) a ON a.name = p.tty WHERE a.uid = 0"),
            (Columns{"process_key", "tty"}));
  EXPECT_EQ(decide("SELECT p.pid FROM processes p WHERE EXISTS (SELECT 1 FROM alerts a WHERE a.pid = p.pid AND "
                   "a.count > (SELECT s.errors + p.memory_usage FROM scans s LIMIT 1))"),
            (Columns{"pid", "memory_usage"}));
  EXPECT_EQ(decide("SELECT p.pid, p.status AS state FROM processes p WHERE CASE p.name WHEN 'a' THEN p.gid END = 1",
                   {"state = 'zombie'", "p.cgroup LIKE '%x'"}),
            (Columns{"name", "gid", "status", "cgroup"}));
}

TEST(Exceptions, TakeRowsAwayAndKeepAStreamAStream) {
  const auto compiled = compile_with_exceptions("SELECT upper(e.name) AS name FROM process_events e WHERE e.uid = 0",
                                                {"name = 'BASH'", "e.pid = 1"});
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_THAT(compiled->sql(), HasSubstr(R"((NOT coalesce((upper("e"."name") = 'BASH'), 0)))"));
  EXPECT_THAT(compiled->sql(), HasSubstr(R"((NOT coalesce(("e"."pid" = 1), 0)))"));
  EXPECT_TRUE(compiled->driving());
}

TEST(Exceptions, ApplyToTheRowsOfAnAggregate) {
  const auto compiled =
      compile_with_exceptions("SELECT name, count(*) AS n FROM process_events GROUP BY name", {"n < 5"});
  ASSERT_TRUE(compiled) << compiled.error().message;
  EXPECT_THAT(compiled->sql(), HasSubstr(R"(AS "result" WHERE (NOT coalesce(("result"."n" < 5), 0)))"));
}

TEST(Exceptions, AreRefusedWithTheirNumber) {
  const auto compiled = compile_with_exceptions("SELECT name FROM processes", {"pid = 1", "nme = 'x'"});
  ASSERT_FALSE(compiled);
  EXPECT_EQ(compiled.error().message, "in exception 2: unknown column nme; did you mean name?");
  EXPECT_EQ(compiled.error().column, 1U);
}

TEST(Errors, ShowTheLineWithACaret) {
  const std::string text = "SELECT name\nFROM processes\n\tWHERE comand_line = 1";
  const auto compiled = compile(text);
  ASSERT_FALSE(compiled);
  EXPECT_EQ(to_string(compiled.error(), text),
            "line 3, column 8: unknown column comand_line; did you mean command_line?\n"
            "   WHERE comand_line = 1\n"
            "         ^");
}

TEST(Printer, GivesTextThatParsesToTheSameTree) {
  for (const auto* const text : {
           "SELECT 1",
           "SELECT -1, +2, ~3, NOT 4, - - 5",
           "SELECT a.*, * FROM a LEFT JOIN b ON a.x = b.y, c CROSS JOIN d JOIN e USING (f, g)",
           "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r), s AS (SELECT 2) SELECT * FROM r, s",
           "SELECT x FROM y WHERE a AND b AND (c OR d OR e) AND NOT (f AND g)",
           "SELECT CASE WHEN a THEN b END, CASE x WHEN 1 THEN 2 WHEN 3 THEN 4 ELSE 5 END",
           "SELECT CAST(a AS INT), a COLLATE NOCASE, a || b -> c ->> d, 'it''s', x'00ff', 1.5e3, .5, 0x10, TRUE",
           "SELECT a BETWEEN 1 AND 2, a NOT BETWEEN b AND c, a IN (), a NOT IN (1, 2), (a, b) IN (SELECT c, d FROM e)",
           "SELECT a LIKE b ESCAPE '!', a NOT GLOB b, a REGEXP b, a IS NULL, a NOTNULL, a IS NOT b, a IS DISTINCT FROM "
           "b",
           "SELECT EXISTS (SELECT 1), (SELECT 2), (1, 2) = (3, 4)",
           "SELECT count(DISTINCT a) FILTER (WHERE b), sum(c) OVER (PARTITION BY d ORDER BY e DESC NULLS LAST "
           "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES), rank() OVER w FROM t WINDOW w AS (ORDER BY f)",
           "SELECT DISTINCT a FROM b GROUP BY c, d HAVING e ORDER BY 1 DESC, f COLLATE RTRIM LIMIT 5 OFFSET 6",
           "SELECT a FROM b UNION SELECT c FROM d EXCEPT SELECT e FROM (SELECT f FROM g) h ORDER BY 1",
           "SELECT \"select\".\"from\", \"a\"\"b\" FROM json_each(x, '$') AS \"order\" WHERE ?1 = :n OR ?",
       }) {
    const std::string once = print(parse_statement(text, {}));
    EXPECT_EQ(print(parse_statement(once, {})), once) << text;
  }
}

TEST(Lexer, FindsTheEndOfAStatement) {
  EXPECT_EQ(end_of_statement("SELECT 1; SELECT 2;"), 9U);
  EXPECT_EQ(end_of_statement(";"), 1U);
  for (const auto* const more : {"", "SELECT 1", "SELECT ';", "SELECT 'it''s ;", "SELECT \";\"", "SELECT 1 -- ;",
                                 "SELECT /* ; *", "SELECT 1 /* ; */"}) {
    EXPECT_EQ(end_of_statement(more), std::string_view::npos) << more;
  }
  EXPECT_EQ(end_of_statement("SELECT ';', \";\" -- ;\n /* ; */ ; x"), 31U);
}

TEST(Catalog, DescribesEveryColumnAndSaysItsUnit) {
  const auto check = [](const CatalogTable& table) {
    EXPECT_FALSE(table.description.empty()) << table.name;
    EXPECT_FALSE(table.columns.empty()) << table.name;
    for (const auto& column : table.columns) {
      EXPECT_FALSE(column.description.empty()) << table.name << "." << column.name;
      EXPECT_FALSE(column.unit.empty()) << table.name << "." << column.name;
      EXPECT_EQ(column.is_time, column.unit.starts_with("nanoseconds")) << table.name << "." << column.name;
    }
  };
  for (const auto& table : catalog()) check(table);
  for (const auto& function : table_functions()) check(function.table);
  EXPECT_EQ(catalog().size(), 7U);
}

}  // namespace
}  // namespace daemoneye::sql
