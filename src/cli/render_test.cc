#include "cli/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/process_tree.h"
#include "cli/table.h"

namespace daemoneye::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

const Row sample = {std::int64_t{1'700'000'000'123'456'789}, std::int64_t{42}, 2.5, std::string("a\n\"b\",\x1b[2J\xff"),
                    std::monostate{}};
const std::vector<OutputColumn> sample_columns = {{"time", true}, {"n"}, {"n"}, {"text"}, {"none"}};

std::string rendered(RenderOptions options, const std::vector<Row>& rows, const event::Completeness& completeness = {},
                     const std::vector<OutputColumn>& columns = sample_columns) {
  std::ostringstream out;
  const auto writer = make_row_writer(options, out);
  writer->begin(columns);
  for (const auto& row : rows) writer->row(row);
  writer->finish(completeness, "");
  return out.str();
}

TEST(Json, HoldsColumnsRowsAndCompleteness) {
  event::Completeness degraded;
  degraded.reasons.push_back({"events_lost", 5, Timestamp{0}, Timestamp{1}});
  const auto document = nlohmann::json::parse(rendered({.format = Format::json}, {sample}, degraded));
  EXPECT_EQ(document["columns"], (nlohmann::json{"time", "n", "n_2", "text", "none"}));
  ASSERT_EQ(document["rows"].size(), 1U);
  const auto& row = document["rows"][0];
  EXPECT_EQ(row["time"], "2023-11-14T22:13:20.123456789Z");
  EXPECT_EQ(row["n"], 42);
  EXPECT_EQ(row["n_2"], 2.5);
  EXPECT_EQ(row["text"], "a\n\"b\",\x1b[2J\xef\xbf\xbd");
  EXPECT_TRUE(row["none"].is_null());
  EXPECT_EQ(document["completeness"]["status"], "degraded");
  EXPECT_EQ(document["completeness"]["reasons"][0]["reason"], "events_lost");
}

TEST(Json, IsAnObjectWithoutRowsToo) {
  const auto document = nlohmann::json::parse(rendered({.format = Format::json}, {}));
  EXPECT_TRUE(document["rows"].empty());
  EXPECT_EQ(document["completeness"]["status"], "complete");
}

TEST(Json, GivesIntegersForTimesWhenRaw) {
  const auto document = nlohmann::json::parse(rendered({.format = Format::json, .raw = true}, {sample}));
  EXPECT_EQ(document["rows"][0]["time"], 1'700'000'000'123'456'789);
}

TEST(Json, StaysJsonForNumbersItCannotHold) {
  const Row row = {std::numeric_limits<double>::infinity(), std::numeric_limits<std::int64_t>::min(), 3.0};
  const auto document = nlohmann::json::parse(rendered({.format = Format::json}, {row}, {}, {{"a"}, {"b"}, {"c"}}));
  EXPECT_EQ(document["rows"][0]["a"], "Infinity");
  EXPECT_EQ(document["rows"][0]["b"], std::numeric_limits<std::int64_t>::min());
  EXPECT_TRUE(document["rows"][0]["c"].is_number_float());
}

TEST(JsonLines, IsOneObjectALine) {
  std::istringstream lines(rendered({.format = Format::jsonl}, {sample, sample}));
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) {
    EXPECT_EQ(nlohmann::json::parse(line)["n"], 42);
    ++count;
  }
  EXPECT_EQ(count, 2);
}

TEST(Csv, FollowsRfc4180AndTellsNullFromEmpty) {
  EXPECT_EQ(rendered({.format = Format::csv},
                     {{std::string("a,b"), std::string("say \"x\""), std::string("two\nlines")},
                      {std::string(), std::monostate{}, std::int64_t{7}}},
                     {}, {{"one"}, {"t,wo"}, {"three"}}),
            "one,\"t,wo\",three\r\n\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\r\n\"\",,7\r\n");
}

TEST(Values, KeepTheirBytesUntilTheyAreShown) {
  EXPECT_EQ(value_text(std::string("a\xff"), false, false), "a\xff");
  EXPECT_EQ(value_json(std::string("a\xff"), false, false), "\"a\xEF\xBF\xBD\"");
}

TEST(UniqueNames, NeverMakesANameThatIsTaken) {
  const auto names = unique_names({{"a"}, {"a_2"}, {"a"}, {"a"}, {"b"}});
  EXPECT_EQ(names[0].name, "a");
  EXPECT_EQ(names[1].name, "a_2");
  EXPECT_EQ(names[2].name, "a_3");
  EXPECT_EQ(names[3].name, "a_4");
  EXPECT_EQ(names[4].name, "b");
}

TEST(Table, AlignsNumbersRightAndTextLeftAndLeavesNoBlanksAtTheEnd) {
  EXPECT_EQ(rendered({.null_text = "NULL"},
                     {{std::int64_t{5}, std::string("x"), std::int64_t{1}},
                      {std::int64_t{1234}, std::string("longer"), std::monostate{}}},
                     {}, {{"pid"}, {"name"}, {"n"}}),
            " pid  name       n\n"
            "----  ------  ----\n"
            "   5  x          1\n"
            "1234  longer  NULL\n");
}

TEST(Table, ShowsNoControlCharacterOfTheData) {
  const auto text = rendered({}, {sample});
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, HasSubstr("a\\n\"b\",\\x1b[2J\\xff"));
}

TEST(Table, FitsTheTerminal) {
  const auto text = rendered({.width = 40}, {{std::string(200, 'x'), std::string(100, 'y'), std::int64_t{7}}}, {},
                             {{"first"}, {"second"}, {"n"}});
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(display_width(line), 40U) << line;
  EXPECT_THAT(text, HasSubstr("…"));
  EXPECT_THAT(rendered({}, {{std::string(200, 'x')}}, {}, {{"first"}}), HasSubstr(std::string(200, 'x')));
}

TEST(Table, KeepsMemoryBoundedAndEveryRow) {
  std::vector<Row> rows(5000, Row{std::string("row")});
  const auto text = rendered({}, rows, {}, {{"c"}});
  EXPECT_EQ(std::ranges::count(text, '\n'), 5002);
}

TEST(DisplayWidth, CountsColumnsNotBytes) {
  EXPECT_EQ(display_width("abc"), 3U);
  EXPECT_EQ(display_width("é€"), 2U);
  EXPECT_EQ(display_width("漢字"), 4U);
  EXPECT_EQ(display_width("e\u0301"), 1U);
  EXPECT_EQ(shortened("漢字漢字", 5), "漢字…");
  EXPECT_EQ(shortened("abc", 3), "abc");
  EXPECT_EQ(shortened("abcd", 3), "ab…");
}

TEST(Completeness, IsToldWithItsReasons) {
  event::Completeness degraded;
  degraded.reasons.push_back({"events_lost", 5, Timestamp{0}, Timestamp{1'000'000'000}});
  EXPECT_EQ(completeness_text({}), "completeness: complete\n");
  EXPECT_EQ(completeness_text(degraded),
            "completeness: degraded\n"
            "  events_lost, 5, from 1970-01-01T00:00:00.000000000Z, to 1970-01-01T00:00:01.000000000Z\n");
}

event::ProcessInfo process(event::Pid pid, event::Pid parent) {
  event::ProcessInfo info;
  info.key.pid = pid;
  if (parent != 0) {
    info.parent_key = event::ProcessKey{};
    info.parent_key->pid = parent;
  }
  return info;
}

TEST(ProcessTree, DrawsChildrenBelowTheirParents) {
  const std::vector<event::ProcessInfo> processes = {process(1, 0), process(30, 1), process(20, 1), process(21, 20),
                                                     process(5, 4)};
  std::string drawn;
  for (const auto& row : draw_tree(processes)) {
    drawn += row.drawing + std::to_string(processes[row.process].key.pid) + '\n';
  }
  EXPECT_EQ(drawn, "1\n├─ 20\n│  └─ 21\n└─ 30\n5\n");
}

TEST(ProcessTree, CutsCirclesAndLosesNobody) {
  const std::vector<event::ProcessInfo> processes = {process(1, 2), process(2, 1), process(3, 3), process(4, 1)};
  EXPECT_EQ(draw_tree(processes).size(), 4U);
}

}  // namespace
}  // namespace daemoneye::cli
