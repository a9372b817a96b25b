// Statements on a real store: times, lineage, parameters, bounds, completeness, streaming.
#include "sql/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "sql/test_store.h"

namespace daemoneye::sql {
namespace {

using test::key_of;
using test::second;
using test::start_of_history;
using ::testing::HasSubstr;

event::ProcessEvent event_of(event::EventKind kind, std::uint32_t pid, const std::string& name,
                             std::optional<std::uint32_t> parent, std::int64_t at_second) {
  event::ProcessEvent event;
  event.kind = kind;
  event.source = event::EventSource::ebpf;
  event.time = Timestamp{start_of_history + at_second * second};
  event.process.key = key_of(pid, pid * 10);
  event.process.name = name;
  event.process.collection_time = event.time;
  if (parent) {
    event.process.parent_key = key_of(*parent, *parent * 10);
    event.process.ppid = *parent;
  }
  if (kind == event::EventKind::exit) {
    event.process.status = event::ProcessStatus::exited;
    event.process.exit_time = event.time;
  }
  return event;
}

// systemd(1) -> nginx(10) -> worker(11, ended) -> sh(12) -> curl(13); bash(20) alone; a gap at the end.
class ConnectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    using enum event::EventKind;
    history_ = {event_of(exec, 1, "systemd", {}, 0), event_of(exec, 10, "nginx", 1, 1),
                event_of(exec, 11, "worker", 10, 2), event_of(exec, 12, "sh", 11, 3),
                event_of(exec, 13, "curl", 12, 4),   event_of(exit, 11, "worker", 10, 5),
                event_of(exec, 20, "bash", {}, 6)};
    history_.push_back(event::make_gap_event(
        {"events_lost", Timestamp{start_of_history + 100 * second}, Timestamp{start_of_history + 101 * second}, 5},
        event::EventSource::ebpf, Timestamp{start_of_history + 102 * second}));
    test::fill_store(folder_ / "events.redb", history_, 2, 4);
    auto connection = Connection::open(folder_ / "events.redb", folder_ / "no-ledger");
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }

  // The first column of every row, joined by spaces; or the error.
  std::string ask(const std::string& text, RunOptions options = {}) {
    const auto compiled = compile(text);
    if (!compiled) return "refused: " + compiled.error().message;
    std::string all;
    auto stats = connection_->run(*compiled, options, [&](const Row& row) {
      if (!all.empty()) all += ' ';
      const auto& value = row.front();
      if (const auto* const one = std::get_if<std::string>(&value))
        all += *one;
      else if (const auto* const number = std::get_if<std::int64_t>(&value))
        all += std::to_string(*number);
      else if (const auto* const real = std::get_if<double>(&value))
        all += std::to_string(*real);
      else
        all += "NULL";
      return true;
    });
    if (!stats) return std::string(base::to_string(stats.error().code)) + ": " + stats.error().message;
    stats_ = *stats;
    return all;
  }

  test::TemporaryFolder folder_;
  std::vector<event::ProcessEvent> history_;
  std::unique_ptr<Connection> connection_;
  RunStats stats_;
};

TEST_F(ConnectionTest, ComparesTimesWithTextAsItIsMeant) {
  RunOptions options;
  options.now = Timestamp{start_of_history + 6 * second};
  EXPECT_EQ(
      ask("SELECT name FROM process_events WHERE time >= '2026-11-21 20:48:28' AND name IS NOT NULL ORDER BY time"),
      "worker bash");
  EXPECT_EQ(ask("SELECT name FROM process_events WHERE time > datetime('now', '-2 seconds') AND name IS NOT NULL ORDER "
                "BY time",
                options),
            "worker bash");
  EXPECT_EQ(ask("SELECT name FROM process_events WHERE time > ago('2s') AND name IS NOT NULL ORDER BY time", options),
            "worker bash");
  options.parameters["since"] = std::string("2026-11-21T20:48:29Z");
  EXPECT_EQ(ask("SELECT name FROM process_events WHERE time >= :since AND name <> ''", options), "bash");
  options.parameters["since"] = start_of_history + 6 * second;
  EXPECT_EQ(ask("SELECT name FROM process_events WHERE time >= :since AND name <> ''", options), "bash");
  options.parameters["since"] = std::string("soon");
  EXPECT_THAT(ask("SELECT name FROM process_events WHERE time >= :since", options),
              HasSubstr("invalid input: not a time: 'soon'"));
}

TEST_F(ConnectionTest, KeepsNowWhereTheCallerPutsIt) {
  RunOptions options;
  options.now = Timestamp{start_of_history};
  EXPECT_EQ(ask("SELECT datetime('now')", options), "2026-11-21 20:48:23");
  EXPECT_EQ(ask("SELECT datetime()", options), "2026-11-21 20:48:23");
  EXPECT_EQ(ask("SELECT CURRENT_TIMESTAMP", options), "2026-11-21 20:48:23");
  EXPECT_EQ(ask("SELECT date(CAST('now' AS TEXT))", options), "2026-11-21");
  EXPECT_EQ(ask("SELECT date(lower('NOW'))", options), "2026-11-21");
  EXPECT_EQ(ask("SELECT iso(ago('1h'))", options), "2026-11-21T19:48:23.000000000Z");
  EXPECT_EQ(ask("SELECT iso(ago('60' || 'm'))", options), "2026-11-21T19:48:23.000000000Z");
  EXPECT_EQ(ask("SELECT DISTINCT strftime('%H:%M', time) FROM process_events WHERE pid = 1"), "20:48");
}

TEST_F(ConnectionTest, KnowsAncestorsAndDescendantsLiveAndEnded) {
  const auto key = [](std::uint32_t pid) { return "'" + event::to_string(key_of(pid, pid * 10)) + "'"; };
  EXPECT_EQ(
      ask("SELECT name FROM process_events WHERE kind = 'exec' AND has_ancestor(process_key, 'nginx') ORDER BY pid"),
      "worker sh curl");
  EXPECT_EQ(ask("SELECT name FROM ancestors(" + key(13) + ") ORDER BY depth"), "sh worker nginx systemd");
  EXPECT_EQ(ask("SELECT status FROM ancestors(" + key(13) + ") WHERE depth = 2"), "exited");
  EXPECT_EQ(ask("SELECT name FROM descendants(" + key(10) + ") ORDER BY depth"), "worker sh curl");
  EXPECT_EQ(ask("SELECT p.name || '<' || a.name FROM processes p, ancestors(p.process_key) a WHERE p.name = 'curl' AND "
                "a.depth = 1"),
            "curl<sh");
  std::string conditions = "depth > 0";
  for (int i = 0; i < 30; ++i) conditions += " AND pid <> " + std::to_string(1000 + i);
  EXPECT_EQ(ask("SELECT name FROM ancestors(" + key(13) + ") WHERE " + conditions + " ORDER BY depth"),
            "sh worker nginx systemd");
  EXPECT_EQ(ask("SELECT count(*) FROM ancestors('nonsense')"), "0");
  EXPECT_EQ(ask("SELECT count(*) FROM descendants(NULL)"), "0");
  const auto line = connection_->lineage(key_of(13, 130));
  ASSERT_TRUE(line);
  ASSERT_EQ(line->size(), 5U);
  EXPECT_EQ(line->back().process.name, "systemd");
}

// Forged or imported history may say that a process is its own ancestor.
TEST_F(ConnectionTest, ComesToAnEndWhereLineageIsACircle) {
  using enum event::EventKind;
  history_ = {event_of(exec, 30, "egg", 31, 0), event_of(exec, 31, "hen", 30, 1), event_of(exit, 31, "hen", 30, 2),
              event_of(exec, 32, "chick", 30, 3), event_of(exec, 40, "self", 40, 4)};
  test::fill_store(folder_ / "circle.redb", history_, 2, 2);
  auto connection = Connection::open(folder_ / "circle.redb", folder_ / "no-ledger");
  ASSERT_TRUE(connection) << connection.error().message;
  connection_ = *std::move(connection);
  const auto key = [](std::uint32_t pid) { return "'" + event::to_string(key_of(pid, pid * 10)) + "'"; };
  EXPECT_EQ(ask("SELECT name FROM ancestors(" + key(32) + ") ORDER BY depth"), "egg hen");
  EXPECT_EQ(ask("SELECT name FROM ancestors(" + key(30) + ") ORDER BY depth"), "hen");
  EXPECT_EQ(ask("SELECT name FROM descendants(" + key(31) + ") ORDER BY depth"), "egg chick");
  EXPECT_EQ(ask("SELECT name FROM ancestors(" + key(40) + ") UNION ALL SELECT name FROM descendants(" + key(40) + ")"),
            "");
  EXPECT_EQ(
      ask("SELECT name FROM process_events WHERE kind = 'exec' AND has_ancestor(process_key, 'hen') ORDER BY pid"),
      "egg chick");
  EXPECT_EQ(ask("SELECT count(*) FROM process_events WHERE has_ancestor(process_key, 'nobody')"), "0");
  const auto line = connection_->lineage(key_of(32, 320));
  ASSERT_TRUE(line);
  EXPECT_EQ(line->size(), 3U);
}

TEST_F(ConnectionTest, UnitesLiveAndEndedProcesses) {
  EXPECT_EQ(ask("SELECT name FROM processes ORDER BY pid"), "systemd nginx worker sh curl bash");
  EXPECT_EQ(ask("SELECT name FROM processes WHERE status = 'exited'"), "worker");
  EXPECT_EQ(ask("SELECT name FROM processes WHERE exit_time IS NOT NULL"), "worker");
  EXPECT_EQ(ask("SELECT count(*) FROM processes WHERE exit_time IS NULL"), "5");
  EXPECT_EQ(ask("SELECT name FROM processes WHERE pid = 11"), "worker");
  EXPECT_EQ(ask("SELECT name FROM processes WHERE pid = 11 OR name = 'bash' ORDER BY 1"), "bash worker");
}

TEST_F(ConnectionTest, SaysWhatIsMissingOnlyWhereItLooked) {
  EXPECT_EQ(ask("SELECT count(*) FROM process_events WHERE time < '2026-11-21 20:49:00'"), "7");
  EXPECT_TRUE(stats_.completeness.complete()) << event::to_json(stats_.completeness);
  EXPECT_EQ(
      ask("SELECT count(*) FROM process_events WHERE time BETWEEN '2026-11-21 20:49:00' AND '2026-11-21 20:51:00'"),
      "1");
  ASSERT_FALSE(stats_.completeness.complete());
  EXPECT_EQ(stats_.completeness.reasons.front().reason, "events_lost");
  EXPECT_EQ(ask("SELECT count(*) FROM alerts"), "0");
  EXPECT_TRUE(stats_.completeness.complete());
}

TEST_F(ConnectionTest, ReadsWithinTheHistoryOfTheRun) {
  RunOptions options;
  options.history.from = Timestamp{start_of_history + 3 * second};
  options.history.to = Timestamp{start_of_history + 4 * second};
  EXPECT_EQ(ask("SELECT name FROM process_events ORDER BY event_id", options), "sh curl");
  EXPECT_EQ(ask("SELECT count(*) FROM processes WHERE status = 'exited'", options), "0");
}

TEST_F(ConnectionTest, StopsAtTheRowLimitAndSaysSo) {
  RunOptions options;
  options.row_limit = 2;
  EXPECT_EQ(ask("SELECT pid FROM process_events ORDER BY event_id", options), "1 10");
  EXPECT_TRUE(stats_.more);
  EXPECT_EQ(stats_.completeness.reasons.back().reason, "limit_reached");
  options.row_limit = 8;
  ask("SELECT pid FROM process_events WHERE time < '2026-11-21 20:49:00'", options);
  EXPECT_FALSE(stats_.more);
}

TEST_F(ConnectionTest, EndsAtItsDeadlineInsideScansAndOutside) {
  RunOptions options;
  options.deadline = Deadline::after(std::chrono::milliseconds(50));
  EXPECT_THAT(ask("SELECT count(*) FROM process_events a, process_events b, process_events c, process_events d, "
                  "process_events e, "
                  "process_events f, process_events g, process_events h, process_events i",
                  options),
              HasSubstr("timeout"));
  // What ends by its own bound has the time it takes.
  options.deadline = Deadline::never();
  EXPECT_THAT(ask("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n", options),
              HasSubstr("limit exceeded: a recursive table"));
  std::stop_source stopped;
  stopped.request_stop();
  options = {};
  options.stop = stopped.get_token();
  EXPECT_THAT(ask("SELECT 1", options), HasSubstr("cancelled"));
}

TEST_F(ConnectionTest, WantsEachParameterAndNoOther) {
  RunOptions options;
  EXPECT_EQ(ask("SELECT :x"), "invalid input: no value for the parameter :x");
  options.parameters["y"] = std::int64_t{1};
  EXPECT_EQ(ask("SELECT 1", options), "invalid input: the statement has no parameter y");
  options.parameters = {{"?1", std::int64_t{7}}, {"a", std::int64_t{40}}};
  EXPECT_EQ(ask("SELECT :a + ?", options), "47");
}

TEST_F(ConnectionTest, FailsToReadALedgerThatIsNotThere) {
  EXPECT_THAT(ask("SELECT count(*) FROM audit_ledger"), HasSubstr("audit_ledger"));
  EXPECT_EQ(ask("SELECT count(*) FROM scans"), "0");  // and goes on afterwards
}

TEST_F(ConnectionTest, ReportsErrorsOfTheStatementAsSuch) {
  EXPECT_THAT(ask("SELECT abs(-9223372036854775808)"), HasSubstr("invalid input"));
  EXPECT_THAT(ask("SELECT 1 LIMIT 'x'"), HasSubstr("invalid input"));
  EXPECT_THAT(ask("SELECT name REGEXP name || '(' FROM process_events WHERE pid = 1"),
              HasSubstr("not a regular expression"));
  EXPECT_THAT(ask("SELECT replace(hex(replace(printf('%999d', 0), ' ', printf('%999d', 0))), '0', printf('%999d', 0))"),
              HasSubstr("limit exceeded"));
}

TEST_F(ConnectionTest, ShowsEachDrivingRowToAStreamRule) {
  std::vector<DrivingRow> rows;
  for (std::size_t i = 2; i < 5; ++i) rows.push_back({static_cast<event::EventId>(i) + 1, &history_[i]});
  const auto rule = compile(
      "SELECT e.name, p.name AS parent FROM process_events e LEFT JOIN processes p ON p.process_key = e.parent_key "
      "WHERE e.kind = 'exec' AND has_ancestor(e.process_key, 'nginx') AND e.time > ago('1m')");
  ASSERT_TRUE(rule) << rule.error().message;
  for (int again = 0; again < 2; ++again) {  // the second time with the kept statement
    ASSERT_TRUE(connection_->begin_stream(rows, Timestamp{start_of_history + 5 * second}));
    std::string seen;
    const auto stats = connection_->run_stream(*rule, {}, [&](const Row& row, event::EventId id) {
      EXPECT_EQ(row.size(), 2U);
      seen += std::to_string(id) + "=" + std::get<std::string>(row[0]) + "<" + std::get<std::string>(row[1]) + " ";
      return true;
    });
    ASSERT_TRUE(stats) << stats.error().message;
    EXPECT_EQ(seen, "3=worker<nginx 4=sh<worker 5=curl<sh ");
    EXPECT_TRUE(stats->completeness.complete());
    connection_->end_stream();
  }
  EXPECT_FALSE(connection_->run_stream(*rule, {}, [](const Row&, event::EventId) { return true; }));
  connection_->forget(*rule);
}

TEST_F(ConnectionTest, StreamsProcessesWithTheSameColumns) {
  std::vector<DrivingRow> rows;
  for (std::size_t i = 0; i < history_.size(); ++i) rows.push_back({static_cast<event::EventId>(i) + 1, &history_[i]});
  const auto rule = compile("SELECT p.name, p.status FROM processes p WHERE p.pid = 11");
  ASSERT_TRUE(rule);
  ASSERT_TRUE(connection_->begin_stream(rows, Timestamp{start_of_history}));
  std::string seen;
  ASSERT_TRUE(connection_->run_stream(*rule, {}, [&](const Row& row, event::EventId id) {
    seen += std::to_string(id) + std::get<std::string>(row[1]) + " ";
    return true;
  }));
  EXPECT_EQ(seen, "3running 6exited ");
}

TEST_F(ConnectionTest, TheSecondWallRefusesWhatTheFirstWouldLetThrough) {
  bool strict = false;
  sqlite3* handle = nullptr;
  ASSERT_EQ(sqlite3_open(":memory:", &handle), SQLITE_OK);
  Runtime runtime(nullptr, "");
  ASSERT_TRUE(register_functions(handle, runtime));
  sqlite3_exec(handle, "CREATE TABLE alerts(alert_id, secret); CREATE TABLE other(x)", nullptr, nullptr, nullptr);
  set_authorizer(handle, strict);
  const auto prepares = [&](const char* sql) {
    const StrictPreparation walled(strict);
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v2(handle, sql, -1, &statement, nullptr);
    sqlite3_finalize(statement);
    return code == SQLITE_OK;
  };
  EXPECT_TRUE(prepares("SELECT alert_id, upper(alert_id) FROM alerts WHERE alert_id LIKE 'x' AND alert_id REGEXP 'x'"));
  for (const auto* const sql :
       {"SELECT secret FROM alerts", "SELECT x FROM other", "SELECT * FROM sqlite_master",
        "SELECT * FROM pragma_table_info('alerts')", "PRAGMA user_version", "ATTACH ':memory:' AS y",
        "DELETE FROM alerts", "DROP TABLE alerts", "INSERT INTO alerts VALUES(1,2)", "CREATE TABLE z(a)",
        "SELECT load_extension('x')", "SELECT randomblob(5)", "SELECT sqlite_version()", "BEGIN"}) {
    EXPECT_FALSE(prepares(sql)) << sql;
  }
  sqlite3_close(handle);
}

}  // namespace
}  // namespace daemoneye::sql
