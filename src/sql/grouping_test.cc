// Grouped readings (rewrite_groups.cc) give what SQLite gives over plain rows; and are left alone where they might not.
#include <gtest/gtest.h>

#include <algorithm>

#include "sql/connection.h"
#include "sql/test_store.h"
#include "store/group_scan.h"

namespace daemoneye::sql {
namespace {

std::vector<event::ProcessEvent> history_with_gaps() {
  auto history = test::make_history(700, 11);
  for (std::size_t at : {50UL, 51UL, 300UL, 690UL}) {
    const auto time = history[at].time;
    history.insert(history.begin() + static_cast<std::ptrdiff_t>(at),
                   event::make_gap_event({"events_lost", time, time, 3}, event::EventSource::ebpf, time));
  }
  return history;
}

class GroupingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto history = history_with_gaps();
    test::fill_store(folder_ / "events.redb", history, 16, 128);
    plain_.add_history(history);
    auto connection = Connection::open(folder_ / "events.redb", "");
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }

  static bool is_grouped(const std::string& text) {
    const auto compiled = compile(text);
    return compiled && compiled->sql().find("_event_groups") != std::string::npos;
  }

  std::vector<std::string> ask_plain(const std::string& text) {
    sqlite3_stmt* statement = nullptr;
    std::vector<std::string> rows;
    if (sqlite3_prepare_v2(plain_.handle(), text.c_str(), -1, &statement, nullptr) != SQLITE_OK)
      return {sqlite3_errmsg(plain_.handle())};
    while (sqlite3_step(statement) == SQLITE_ROW) {
      std::string row;
      for (int i = 0; i < sqlite3_column_count(statement); ++i) {
        const auto* const value = reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
        const int type = sqlite3_column_type(statement, i);
        row += (value == nullptr ? "NULL" : std::to_string(type) + value) + "|";
      }
      rows.push_back(std::move(row));
    }
    sqlite3_finalize(statement);
    std::ranges::sort(rows);
    return rows;
  }

  std::vector<std::string> ask_ours(const std::string& text, const RunOptions& options = {}) {
    const auto compiled = compile(text);
    if (!compiled) return {to_string(compiled.error(), text)};
    std::vector<std::string> rows;
    const auto stats = connection_->run(*compiled, options, [&](const Row& values) {
      std::string row;
      for (const auto& value : values) {
        if (const auto* const number = std::get_if<std::int64_t>(&value)) {
          row += std::to_string(SQLITE_INTEGER) + std::to_string(*number);
        } else if (const auto* const real = std::get_if<double>(&value)) {
          char* const shown = sqlite3_mprintf("%!.15g", *real);
          row += std::to_string(SQLITE_FLOAT) + shown;
          sqlite3_free(shown);
        } else if (const auto* const one = std::get_if<std::string>(&value)) {
          row += std::to_string(SQLITE_TEXT) + *one;
        } else {
          row += "NULL";
        }
        row += "|";
      }
      rows.push_back(std::move(row));
      return true;
    });
    if (!stats) return {stats.error().message};
    std::ranges::sort(rows);
    return rows;
  }

  test::TemporaryFolder folder_;
  test::PlainTables plain_;
  std::unique_ptr<Connection> connection_;
};

// Statements of the shapes that may be rewritten, with conditions of which some cannot be.
class Shapes {
 public:
  explicit Shapes(std::uint64_t seed) : dice_(seed) {}

  std::string statement() {
    const auto by = columns(dice_.below(4));
    std::string list;
    for (const auto& column : by) list += (list.empty() ? "" : ", ") + column;
    std::string sql;
    if (!by.empty() && dice_.one_in(4)) {
      sql = "SELECT DISTINCT " + list + " FROM process_events" + where();
    } else {
      sql = "SELECT " + list + (list.empty() ? "" : ", ") + aggregate() + " AS a, " + aggregate() +
            " AS b FROM process_events" + where();
      if (!by.empty()) sql += " GROUP BY " + list;
      if (!by.empty() && dice_.one_in(4))
        sql += " HAVING " + one_of({"count(*) > 2", "max(pid) > 300", "a IS NOT NULL"});
      if (dice_.one_in(3)) sql += " ORDER BY a";
    }
    if (dice_.one_in(6)) return "SELECT count(*), max(x.c) FROM (SELECT 1 AS c FROM (" + sql + ")) x";
    if (dice_.one_in(6)) return "WITH g AS (" + sql + ") SELECT * FROM g";
    return sql;
  }

 private:
  std::string one_of(const std::vector<std::string>& list) { return list[dice_.below(list.size())]; }

  std::string column() {
    return one_of({"name",         "comm",        "kind",        "source",          "status",           "user",
                   "uid",          "euid",        "parent_name", "executable_path", "exit_code",        "ppid",
                   "parent_key",   "process_key", "pid",         "memory_usage",    "executable_state", "cwd",
                   "command_line", "scan_id"});
  }
  std::vector<std::string> columns(std::size_t count) {
    std::vector<std::string> list;
    while (list.size() < count) {
      auto one = column();
      if (std::ranges::find(list, one) == list.end()) list.push_back(std::move(one));
    }
    return list;
  }
  std::string aggregate() {
    return one_of({"count(*)", "count(" + column() + ")", "count(DISTINCT " + column() + ")", "min(" + column() + ")",
                   "max(" + column() + ")", "min(time)", "max(time)", "max(exit_time)", "min(cpu_usage)",
                   "max(cpu_usage)", "min(event_id)", "max(memory_usage)", "count(uid + euid)", "max(name || uid)",
                   "sum(uid)", "count(*) FILTER (WHERE uid = 1)"});
  }
  std::string where() {
    std::string sql;
    for (auto left = dice_.below(4); left > 0; --left) sql += (sql.empty() ? " WHERE " : " AND ") + condition();
    return sql;
  }
  std::string condition() {
    const auto time =
        std::to_string(test::start_of_history + static_cast<std::int64_t>(dice_.below(200)) * test::second);
    return one_of({"name = 'bash'",
                   "'sh' < name",
                   "name <> 'sleep'",
                   "uid >= 1",
                   "uid = '1'",
                   "uid < 1.5",
                   "pid BETWEEN 150 AND 400",
                   "name IN ('sh', 'bash', 'né')",
                   "name NOT IN ('sh', 'BASH')",
                   "euid IN (0, 2)",
                   "comm LIKE 'b%'",
                   "comm NOT LIKE '%s%'",
                   "name GLOB '*[a-h]'",
                   "command_line REGEXP '-c 1'",
                   "command_line LIKE '%-c 1%'",
                   "parent_key IS NULL",
                   "euid IS NOT NULL",
                   "cpu_usage > 2",
                   "exit_code = 1",
                   "time >= " + time,
                   time + " > time",
                   "event_id < 300",
                   "event_id = 17",
                   "kind = 'exec'",
                   "name COLLATE NOCASE = 'bash'",
                   "uid + 0 = 2",
                   "(uid = 1 OR name = 'sh')",
                   "name LIKE '!%x%' ESCAPE '!'",
                   "abs(pid) > 200",
                   "uid = euid",
                   "name = NULL",
                   "name IS 'sh'",
                   "parent_name = 5"});
  }

  test::Dice dice_;
};

TEST_F(GroupingTest, MeansWhatItMeansOverPlainRows) {
  Shapes shapes(3);
  int grouped = 0;
  constexpr int statements = 1500;
  for (int i = 0; i < statements; ++i) {
    const auto text = shapes.statement();
    ASSERT_EQ(ask_ours(text), ask_plain(text)) << text << "\n" << compile(text)->sql();
    grouped += is_grouped(text) ? 1 : 0;
  }
  EXPECT_GT(grouped, statements / 4);
}

TEST_F(GroupingTest, IsDoneOnlyWhereNothingIsInDoubt) {
  for (const auto* const text :
       {"SELECT name, count(*) FROM process_events WHERE time > ago('10m') GROUP BY name ORDER BY 2 DESC LIMIT 5",
        "SELECT count(DISTINCT executable_hash) FROM process_events", "SELECT DISTINCT name FROM process_events e",
        "SELECT min(time), max(time), count(*) FROM process_events",
        "SELECT parent_name, name, count(*) AS n FROM process_events WHERE uid = :uid GROUP BY 1, 2 HAVING n > 3",
        "SELECT upper(name), count(*) FROM process_events GROUP BY upper(name)",
        "WITH g AS (SELECT name, count(*) AS n FROM process_events GROUP BY name) SELECT g.n FROM g JOIN processes p "
        "ON p.name = g.name"}) {
    EXPECT_TRUE(is_grouped(text)) << text;
  }
  for (const auto* const text :
       {"SELECT name, pid, count(*) FROM process_events GROUP BY name", "SELECT name, max(pid) FROM process_events",
        "SELECT DISTINCT name FROM process_events WHERE uid + 0 = 2",
        "SELECT name, sum(uid) FROM process_events GROUP BY name", "SELECT name, count(*) FROM processes GROUP BY name",
        "SELECT e.name, count(*) FROM process_events e JOIN processes p ON p.pid = e.pid GROUP BY e.name",
        "SELECT DISTINCT name COLLATE NOCASE FROM process_events", "SELECT name, count(*) OVER () FROM process_events",
        "SELECT max(name COLLATE NOCASE) FROM process_events",
        "SELECT p.pid, (SELECT count(*) FROM process_events e WHERE e.pid = p.pid) FROM processes p",
        "SELECT count(*) FILTER (WHERE uid = 1) FROM process_events",
        "SELECT name, count(*) FROM process_events WHERE name LIKE :p GROUP BY name",
        "SELECT time, count(*) FROM process_events GROUP BY time",
        "SELECT count(*) FROM process_events WHERE pid IN (SELECT pid FROM processes)"}) {
    EXPECT_FALSE(is_grouped(text)) << text;
  }
}

// A long list of what is not wanted is a natural thing to write; only so many conditions are passed on as a grouping.
TEST_F(GroupingTest, TakesMoreConditionsThanItPassesOn) {
  for (const std::string one :
       {"name NOT LIKE 'zz%'", "name NOT IN ('zz', 'yy')", "kind IS NOT NULL", "comm NOT GLOB 'zz*'", "name <> 'zz'"}) {
    for (const std::size_t count : {14UL, 15UL, 16UL, 20UL, 24UL, 25UL, 64UL, 65UL, 70UL, 300UL}) {
      std::string text = "SELECT name, count(*) FROM process_events WHERE " + one;
      for (std::size_t i = 1; i < count; ++i) text += " AND " + one;
      text += " GROUP BY name";
      EXPECT_EQ(ask_ours(text), ask_plain(text)) << count << " times " << one;
    }
  }
}

TEST_F(GroupingTest, ComparesParametersAsSqliteDoes) {
  const std::string ours = "SELECT uid, count(*) FROM process_events WHERE uid >= :v GROUP BY uid";
  ASSERT_TRUE(is_grouped(ours));
  const std::vector<std::pair<event::Value, std::string>> values = {
      {std::int64_t{1}, "1"},
      {1.5, "1.5"},
      {std::string("1"), "'1'"},
      {std::string("x"), "'x'"},
      {{}, "NULL"},
      {std::numeric_limits<double>::infinity(), "9e999"},
      {-std::numeric_limits<double>::infinity(), "-9e999"}};
  for (const auto& [value, literal] : values) {
    RunOptions options;
    options.parameters["v"] = value;
    EXPECT_EQ(ask_ours(ours, options),
              ask_plain("SELECT uid, count(*) FROM process_events WHERE uid >= " + literal + " GROUP BY uid"))
        << literal;
  }
}

// Little memory: groups in parts, or in several readings. The sums stay the same.
TEST_F(GroupingTest, CountsTheSameInLittleMemory) {
  auto& reader = connection_->reader();
  const auto count = [&](bool whole, std::size_t max_bytes) {
    store::GroupRequest request;
    request.by = {event::Column::process_key, event::Column::kind, event::Column::uid};
    request.whole = whole;
    request.max_bytes = max_bytes;
    std::map<std::string, std::pair<std::uint64_t, int>> groups;
    auto scan = *store::GroupScan::open(reader, request, {});
    for (;;) {
      const auto more = scan->next();
      if (!more) {
        ADD_FAILURE() << more.error().message;
        break;
      }
      if (!*more) break;
      std::string key;
      for (std::size_t i = 0; i < 3; ++i) key += event::Value(store::to_value(scan->by(i))).index() == 0 ? "N|" : "v|";
      for (std::size_t i = 0; i < 2; ++i) {
        const auto value = scan->by(i);
        if (const auto* const text = std::get_if<std::string_view>(&value)) key += *text;
        key += '|';
      }
      const auto uid = scan->by(2);
      if (const auto* const number = std::get_if<std::int64_t>(&uid)) key += std::to_string(*number);
      groups[key].first += scan->count();
      ++groups[key].second;
    }
    return groups;
  };
  constexpr std::size_t much = 1 << 24, little = 48 * 1024;
  const auto expected = count(true, much);
  std::uint64_t events = 0;
  for (const auto& [key, group] : expected) {
    EXPECT_EQ(group.second, 1) << key;
    events += group.first;
  }
  EXPECT_EQ(events, 704U);
  EXPECT_EQ(count(true, little), expected);
  auto in_parts = count(false, little);
  int given = 0;
  for (auto& [key, group] : in_parts) given += std::exchange(group.second, 1);
  EXPECT_EQ(in_parts, expected);
  EXPECT_GT(given, static_cast<int>(expected.size()));
}

}  // namespace
}  // namespace daemoneye::sql
