#include "event/columns.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "event/testing/random_event.h"

namespace daemoneye::event {
namespace {

TEST(Columns, AreInOrderDescribedAndFoundByName) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < column_count; ++i) {
    const auto& column = columns()[i];
    EXPECT_EQ(static_cast<std::size_t>(column.column), i);
    EXPECT_TRUE(names.insert(column.name).second) << column.name;
    EXPECT_GT(column.description.size(), 5U) << column.name;
    EXPECT_EQ(find_column(column.name), column.column);
    EXPECT_EQ(&info(column.column), &column);
    EXPECT_TRUE(!column.is_time || column.type == ColumnType::integer) << column.name;
  }
  for (const auto* unknown : {"", "Pid", "pid ", "zzz", "aaa"}) EXPECT_FALSE(find_column(unknown)) << unknown;
}

TEST(Columns, ProcessesHasTheColumnsOfTheContractInOrder) {
  const std::vector<std::string_view> wanted = {"process_key",
                                                "pid",
                                                "ppid",
                                                "parent_key",
                                                "name",
                                                "comm",
                                                "executable_path",
                                                "command_line",
                                                "arguments",
                                                "cwd",
                                                "uid",
                                                "gid",
                                                "euid",
                                                "loginuid",
                                                "user",
                                                "session_id",
                                                "tty",
                                                "start_time",
                                                "exit_time",
                                                "exit_code",
                                                "exit_signal",
                                                "cpu_usage",
                                                "memory_usage",
                                                "status",
                                                "executable_hash",
                                                "executable_state",
                                                "cgroup",
                                                "container_id",
                                                "collection_time",
                                                "scan_id"};
  std::vector<std::string_view> found;
  for (const auto& column : columns()) {
    if (column.in_processes) found.push_back(column.name);
  }
  EXPECT_EQ(found, wanted);
}

TEST(Columns, ValuesHaveTheTypeOfTheirColumn) {
  testing::RandomEvents random(2);
  for (int round = 0; round < 300; ++round) {
    const auto event = random.next();
    for (const auto& column : columns()) {
      const auto value = column_value(event, 5, column.column);
      if (std::holds_alternative<std::monostate>(value)) continue;
      const auto type = std::holds_alternative<std::int64_t>(value) ? ColumnType::integer
                        : std::holds_alternative<double>(value)     ? ColumnType::real
                                                                    : ColumnType::text;
      ASSERT_EQ(type, column.type) << column.name;
    }
  }
}

// What export writes, import takes back. Texts are plain: JSON cannot hold arbitrary bytes in `arguments`.
TEST(Columns, SettingEveryColumnRebuildsTheEvent) {
  testing::RandomEvents random(4, /*hostile=*/false);
  for (int round = 0; round < 300; ++round) {
    const auto event = random.next();
    ProcessEvent rebuilt;
    for (const auto& column : columns()) {
      if (column.column == Column::command_line) continue;
      const auto set = set_column(rebuilt, column.column, column_value(event, 5, column.column));
      ASSERT_TRUE(set) << column.name << ": " << set.error().message;
    }
    ASSERT_EQ(rebuilt, event);
  }
}

TEST(Columns, GapHasNoProcessColumnButItsCollectionTime) {
  auto gap = make_gap_event({"events_lost", Timestamp{1}, Timestamp{2}, 3}, EventSource::ebpf, Timestamp{9});
  gap.process.name = "x";
  gap.parent_name = "x";
  gap.process.scan_id = 1;
  for (const auto& column : columns()) {
    const bool own = column.column <= Column::detail || column.column == Column::collection_time;
    EXPECT_EQ(std::holds_alternative<std::monostate>(column_value(gap, 1, column.column)), !own) << column.name;
  }
}

TEST(Columns, UnknownNameAndDetailAreNull) {
  const ProcessEvent event;
  EXPECT_EQ(column_value(event, 1, Column::name), Value());
  EXPECT_EQ(column_value(event, 1, Column::detail), Value());
}

TEST(Columns, SetRefusesWhatDoesNotFitAndNamesTheColumn) {
  const std::vector<std::pair<Column, Value>> misfits = {
      {Column::time, Value("yesterday")},
      {Column::time, Value()},
      {Column::kind, Value("EXEC")},
      {Column::kind, Value()},
      {Column::source, Value(std::int64_t{1})},
      {Column::detail, Value("[1]")},
      {Column::process_key, Value("1-2-3")},
      {Column::pid, Value(std::int64_t{-1})},
      {Column::pid, Value(std::int64_t{1} << 32)},
      {Column::ppid, Value("1")},
      {Column::parent_key, Value("")},
      {Column::name, Value(std::int64_t{1})},
      {Column::command_line, Value("ls")},
      {Column::arguments, Value("ls -l")},
      {Column::arguments, Value("[1]")},
      {Column::arguments, Value(R"(["a\u0000b"])")},
      {Column::exit_code, Value(std::int64_t{1} << 31)},
      {Column::cpu_usage, Value(std::nan(""))},
      {Column::cpu_usage, Value("1.5")},
      {Column::memory_usage, Value(std::int64_t{-1})},
      {Column::memory_usage, Value(1.5)},
      {Column::status, Value("dead")},
      {Column::status, Value()},
      {Column::executable_hash, Value(std::string(64, 'A'))},
      {Column::executable_state, Value("gone")},
      {Column::cwd, Value(std::string(64 * 1024 + 1, 'x'))},
  };
  for (const auto& [column, value] : misfits) {
    ProcessEvent event;
    const auto set = set_column(event, column, value);
    ASSERT_FALSE(set) << info(column).name;
    EXPECT_EQ(set.error().code, Errc::invalid_input);
    EXPECT_EQ(set.error().message.rfind(info(column).name, 0), 0U) << set.error().message;
    EXPECT_EQ(event, ProcessEvent()) << info(column).name;
  }
}

TEST(Columns, TimesMayBeIsoText) {
  ProcessEvent event;
  ASSERT_TRUE(set_column(event, Column::start_time, Value("2026-11-21T20:48:23Z")));
  EXPECT_EQ(event.process.start_time, Timestamp{1'795'294'103'000'000'000});
}

}  // namespace
}  // namespace daemoneye::event
