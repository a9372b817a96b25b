// Verbs run in this process against a store made here; nothing of this machine's configuration is read.
#include "cli/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/exit_code.h"
#include "store/testing/temp_store.h"

namespace daemoneye::cli {
namespace {

using store::testing::commit;
using store::testing::make_batch;
using store::testing::make_event;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

struct Ran {
  int code = 0;
  std::string out, err;
};

class Cli : public testing::Test {
 protected:
  Ran run_with(std::vector<std::string> arguments, const std::string& in = "") {
    std::istringstream input(in);
    std::ostringstream out, err;
    Io io{.in = input, .out = out, .err = err};
    io.terminal = columns > 0;
    io.width = columns;
    io.sources = [this](std::optional<std::string> file, std::vector<std::string> set) {
      config::Sources sources;
      sources.config_file = std::move(file);
      sources.set = std::move(set);
      sources.etc = folder.path() + "/etc";
      sources.home = folder.path();
      sources.environment = {{"DAEMONEYE_APP__STATE_DIR", folder.path() + "/state"},
                             {"DAEMONEYE_IPC__SOCKET_PATH", folder.path() + "/agent.sock"},
                             {"DAEMONEYE_DETECTION__RULE_PATHS", "[" + folder.path() + "/rules]"}};
      return sources;
    };
    io.probe_sources = probe;
    const int code = run(arguments, io);
    return {code, out.str(), err.str()};
  }
  template <class... Words>
  Ran cli(Words... words) {
    return run_with({words...});
  }

  std::string write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = folder.path() + '/' + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }

  // init (1) started bash (10), which started sleep (11); an old gap; one alert.
  void make_store() {
    ::mkdir((folder.path() + "/state").c_str(), 0750);
    auto writer = store::Writer::open(folder.options());
    ASSERT_TRUE(writer) << writer.error().message;
    auto bash = make_event(event::EventKind::exec, 10, 2'000'000'000, "bash");
    bash.process.parent_key = store::testing::key_of(1);
    bash.process.ppid = 1;
    bash.process.arguments = event::Arguments::from_list({"bash", "-c", "evil\x1b[2J"});
    auto sleep = make_event(event::EventKind::exec, 11, 3'000'000'000, "sleep");
    sleep.process.parent_key = store::testing::key_of(10);
    sleep.process.ppid = 10;
    auto ended = make_event(event::EventKind::exec, 12, 3'100'000'000, "true");
    ended.process.parent_key = store::testing::key_of(10);
    auto exited = make_event(event::EventKind::exit, 12, 3'200'000'000, "true");
    exited.process.parent_key = ended.process.parent_key;
    exited.process.exit_time = exited.time;
    const auto gap = event::make_gap_event({"events_lost", Timestamp{4'000'000'000}, Timestamp{5'000'000'000}, 7},
                                           event::EventSource::ebpf, Timestamp{5'000'000'000});
    const auto committed = commit(**writer, make_batch(1, {make_event(event::EventKind::seen, 1, 1'000'000'000, "init"),
                                                           bash, sleep, ended, exited, gap}));
    ASSERT_TRUE(committed) << committed.error().message;
    (*writer)->set_collector("procmond", true, Timestamp{5'000'000'000});
    (*writer)->set_collector("procmond", false, Timestamp{5'000'000'000});
    store::Writer::Raise raised;
    raised.alert.alert_id = "alert-1";
    raised.alert.time = raised.alert.last_seen = Timestamp{3'000'000'000};
    raised.alert.rule_id = "a-rule";
    raised.alert.severity = store::Severity::high;
    raised.alert.title = "Something happened";
    raised.alert.row_json = R"({"pid":11})";
    raised.alert.process_key = event::to_string(store::testing::key_of(11));
    raised.alert.process_json = R"({"process":{"process_key":")" + *raised.alert.process_key +
                                R"(","pid":11,"name":"sleep"},"ancestors":[{"process_key":")" +
                                event::to_string(store::testing::key_of(10)) +
                                R"(","pid":10,"name":"bash","command_line":"bash -c x"}]})";
    raised.alert.evidence = {3};
    ASSERT_TRUE(store::testing::raise(**writer, {raised}));
    (*writer)->close(Deadline::after(std::chrono::seconds(10)));
  }

  store::testing::TempFolder folder;
  std::function<Result<std::string>(Deadline)> probe;
  unsigned columns = 0;  // of a terminal; 0: there is none
};

// Times of the made store only, so that its gap and today are left out.
constexpr const char* early = "SELECT pid, name, time FROM process_events WHERE time < 3050000000 ORDER BY pid";

TEST_F(Cli, PrintsVersionAndHelp) {
  const auto version = cli("--version");
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.out, StartsWith("daemoneye-cli " DAEMONEYE_VERSION));
  const auto help = cli("--help");
  EXPECT_EQ(help.code, 0);
  for (const auto* verb : {"query", "tables", "schema", "ps", "tree", "rules", "alerts", "deliveries", "health",
                           "doctor", "metrics", "config", "db", "audit", "bundle", "report"}) {
    EXPECT_THAT(help.out, HasSubstr(std::string("\n  ") + verb + ' ')) << verb;
    EXPECT_EQ(cli(verb, "--help").code, 0) << verb;
  }
  EXPECT_THAT(cli("rules", "test", "--help").out, HasSubstr("--since"));
}

TEST_F(Cli, RefusesWhatItDoesNotKnowWithExit2AndANearName) {
  auto ran = cli("quer", "SELECT 1");
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, StartsWith("error: not expected: 'quer'; did you mean query?\n"));
  ran = cli("alerts", "lst");
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("did you mean list?"));
  ran = cli("query", "SELECT 1", "--explian");
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("did you mean --explain?"));
  EXPECT_EQ(cli().code, 2);
  EXPECT_EQ(cli("query").code, 2);
  EXPECT_EQ(cli("alerts").code, 2);
  EXPECT_EQ(cli("tables", "--format", "xml").code, 2);
  EXPECT_EQ(cli("tables", "--timeout", "5").code, 2);
  EXPECT_EQ(cli("tables", "--timeout", "0s").code, 2);
}

TEST_F(Cli, TakesGlobalOptionsBeforeAndAfterTheVerb) {
  EXPECT_EQ(cli("--format", "json", "tables").out, cli("tables", "--format", "json").out);
  EXPECT_EQ(cli("--set", "app.batch_size=7", "config", "get", "app.batch_size").out, "7\n");
  EXPECT_EQ(cli("config", "get", "app.batch_size", "--set", "app.batch_size=7").out, "7\n");
  const auto other = write("other.yaml", "app: {batch_size: 9}\n");
  EXPECT_EQ(cli("--config", "/nonexistent.yaml", "config", "get", "app.batch_size", "--config", other).out, "9\n")
      << "the last one counts, as where an alias gives the first";
}

TEST_F(Cli, MapsEveryErrorToAnExitCode) {
  EXPECT_EQ(exit_of(Errc::invalid_input), Exit::usage);
  EXPECT_EQ(exit_of(Errc::not_found), Exit::unavailable);
  EXPECT_EQ(exit_of(Errc::permission_denied), Exit::unavailable);
  EXPECT_EQ(exit_of(Errc::unavailable), Exit::unavailable);
  EXPECT_EQ(exit_of(Errc::corrupt), Exit::integrity);
  for (const auto code : {Errc::timeout, Errc::limit_exceeded, Errc::cancelled, Errc::io, Errc::internal}) {
    EXPECT_EQ(exit_of(code), Exit::failed);
  }
}

TEST_F(Cli, ListsTablesAndColumnsWithoutAStore) {
  const auto tables = cli("tables");
  EXPECT_EQ(tables.code, 0);
  for (const auto* table :
       {"processes", "process_events", "scans", "detection_rules", "alerts", "alert_deliveries", "audit_ledger"}) {
    EXPECT_THAT(tables.out, HasSubstr(table));
  }
  const auto schema = nlohmann::json::parse(cli("schema", "alerts", "--format", "json").out);
  EXPECT_EQ(schema["rows"][0]["column"], "alert_id");
  EXPECT_EQ(schema["rows"][1]["unit"], "nanoseconds since 1970, UTC");
  const auto lineage = nlohmann::json::parse(cli("schema", "ancestors", "--format", "json").out);
  EXPECT_EQ(lineage["rows"].back()["column"], "depth");
  const auto unknown = cli("schema", "alert");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean alerts?"));
}

TEST_F(Cli, RefusesSqlWithLineColumnAndCaretBeforeAnyStoreIsThere) {
  const auto ran = cli("query", "DROP TABLE processes");
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, StartsWith("error: line 1, column 1: "));
  EXPECT_THAT(ran.err, HasSubstr("DROP TABLE processes\n"));
  EXPECT_THAT(ran.err, HasSubstr("^"));
  EXPECT_EQ(cli("query", "--validate", "SELECT pid FROM processes").out, "valid\n");
  EXPECT_EQ(cli("query", "--validate", "SELECT pidd FROM processes").code, 2);
  const auto column = cli("query", "SELECT pid,\n  pidd FROM processes");
  EXPECT_THAT(column.err, StartsWith("error: line 2, column 3: "));
  EXPECT_THAT(column.err, HasSubstr("pidd FROM processes"));
}

TEST_F(Cli, SaysThatThereIsNoStoreWithExit4) {
  for (const auto& verb : std::vector<std::vector<std::string>>{{"query", "SELECT 1 FROM processes"},
                                                                {"ps"},
                                                                {"db", "stats"},
                                                                {"alerts", "list"},
                                                                {"tree", "1"},
                                                                {"audit", "verify"},
                                                                {"metrics"},
                                                                {"health"}}) {
    const auto ran = run_with(verb);
    EXPECT_EQ(ran.code, 4) << verb.front() << ran.err;
    EXPECT_THAT(ran.err, StartsWith("error: ")) << verb.front();
  }
}

TEST_F(Cli, RunsAQueryInEveryFormat) {
  make_store();
  auto ran = cli("query", early);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out,
            "pid  name   time\n"
            "---  -----  ------------------------------\n"
            "  1  init   1970-01-01T00:00:01.000000000Z\n"
            " 10  bash   1970-01-01T00:00:02.000000000Z\n"
            " 11  sleep  1970-01-01T00:00:03.000000000Z\n");
  EXPECT_EQ(ran.err, "completeness: complete\n");
  ran = cli("query", early, "--format", "csv", "--raw");
  EXPECT_EQ(ran.out, "pid,name,time\r\n1,init,1000000000\r\n10,bash,2000000000\r\n11,sleep,3000000000\r\n");
  ran = cli("query", early, "--format", "json");
  const auto document = nlohmann::json::parse(ran.out);
  EXPECT_EQ(document["rows"].size(), 3U);
  EXPECT_EQ(document["completeness"]["status"], "complete");
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(run_with({"query", "-"}, early).out, cli("query", early).out);
}

TEST_F(Cli, ExitsWith3WhenAGapOverlapsWhatWasAskedOnly) {
  make_store();
  const auto degraded =
      cli("query", "SELECT pid FROM process_events WHERE time BETWEEN 2500000000 AND 4500000000", "--format", "json");
  EXPECT_EQ(degraded.code, 3) << degraded.err;
  EXPECT_EQ(nlohmann::json::parse(degraded.out)["completeness"]["reasons"][0]["reason"], "events_lost");
  const auto told = cli("query", "SELECT pid FROM process_events WHERE time BETWEEN 2500000000 AND 4500000000");
  EXPECT_THAT(told.err, HasSubstr("completeness: degraded\n  events_lost, 7, from 1970-01-01T00:00:04"));
}

TEST_F(Cli, BindsParameters) {
  make_store();
  const auto sql = "SELECT name FROM process_events WHERE pid = :pid AND time < 3500000000";
  EXPECT_THAT(cli("query", sql, "--param", "pid=10", "--format", "csv").out, HasSubstr("bash"));
  const auto text = cli("query", "SELECT pid FROM process_events WHERE name = :n AND time < 3500000000", "--param",
                        "n=sleep", "--format", "csv");
  EXPECT_THAT(text.out, HasSubstr("11"));
  EXPECT_EQ(cli("query", sql).code, 2);
  EXPECT_EQ(cli("query", sql, "--param", "pdi=1").code, 2);
  EXPECT_EQ(cli("query", sql, "--param", "pid").code, 2);
}

TEST_F(Cli, SaysWhenTheLimitCutTheResult) {
  make_store();
  const auto cut = cli("query", early, "--limit", "2", "--format", "json");
  EXPECT_EQ(cut.code, 3);
  const auto document = nlohmann::json::parse(cut.out);
  EXPECT_EQ(document["rows"].size(), 2U);
  EXPECT_EQ(document["completeness"]["reasons"][0]["reason"], "limit_reached");
  EXPECT_EQ(cli("query", early, "--limit", "3").code, 0);
  EXPECT_EQ(cli("query", early, "--limit", "0").code, 2);
}

TEST_F(Cli, WritesNothingWhenItFailsBeforeTheFirstRow) {
  make_store();
  for (const auto* format : {"table", "json", "jsonl", "csv"}) {
    const auto ran = cli("query", "SELECT seq FROM audit_ledger", "--format", format);
    EXPECT_NE(ran.code, 0);
    EXPECT_EQ(ran.out, "") << format;
    EXPECT_THAT(ran.err, StartsWith("error: "));
  }
}

TEST_F(Cli, ExplainsForPeopleAndAsJson) {
  make_store();
  auto ran = cli("query", "SELECT pid FROM process_events e WHERE time < 3050000000 AND pid + 0 >= 0 AND kind = 'exec'",
                 "--explain");
  EXPECT_THAT(ran.err, HasSubstr("derived SQL: SELECT \"e\".\"pid\""));
  EXPECT_THAT(ran.err, HasSubstr("as a rule: can stream, driven by process_events\n"));
  EXPECT_THAT(ran.err, HasSubstr("  1. process_events e"));
  EXPECT_THAT(ran.err, HasSubstr("pushed down time < 3050000000 AND kind = 'exec'\n"));
  EXPECT_THAT(ran.err, HasSubstr("result: 2 rows in "));
  EXPECT_THAT(ran.err, HasSubstr("hint: line 1, column 17: process_events is read from its beginning"));
  ran = cli("query", early, "--explain", "--format", "json");
  const auto answer = nlohmann::json::parse(ran.out);
  EXPECT_EQ(answer["rows"].size(), 3U);
  EXPECT_EQ(answer["explain"]["rows"], 3);
  ASSERT_EQ(answer["explain"]["steps"].size(), 1U);
  EXPECT_EQ(answer["explain"]["steps"][0]["pushed"][0], "time < 3050000000");
  EXPECT_EQ(answer["hints"][0]["kind"], "no_time_bound");
}

TEST_F(Cli, ValidatesWithHints) {
  auto ran = cli("query", "SELECT name, :x AS y FROM process_events", "--validate");
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.out, "valid\n");
  EXPECT_THAT(ran.err, StartsWith("hint: line 1, column 27: "));
  ran = cli("query", "SELECT name, :x AS y FROM process_events", "--validate", "--format", "json");
  const auto answer = nlohmann::json::parse(ran.out);
  EXPECT_EQ(answer["valid"], true);
  EXPECT_EQ(answer["columns"], (nlohmann::json{"name", "y"}));
  EXPECT_EQ(answer["parameters"], nlohmann::json{"x"});
  EXPECT_EQ(answer["hints"][0]["line"], 1);
  EXPECT_EQ(ran.err, "");
}

TEST_F(Cli, GivesRulesTheirHints) {
  const auto head = std::string("id: a\ntitle: A\nseverity: low\n");
  const auto rule = write("a.yaml", head + "sql: SELECT e.pid FROM process_events e JOIN scans s WHERE e.name = 'x'\n");
  auto ran = cli("rules", "validate", rule);
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.out, "1 rule is valid\n");
  EXPECT_THAT(ran.err, HasSubstr("hint cartesian_join: in the sql, line 1, column 41: nothing connects s with e"));
  EXPECT_THAT(cli("rules", "show", rule).out, HasSubstr("nothing connects s with e"));
  const auto fine = write("b.yaml", head + "sql: SELECT e.pid FROM process_events e WHERE e.command_line LIKE '%x%'\n");
  EXPECT_EQ(cli("rules", "validate", fine).err, "");  // new rows are few
}

TEST_F(Cli, MarksThatThereAreMoreRows) {
  make_store();
  const auto ran = cli("query", early, "--limit", "2");
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err, HasSubstr("more rows there are: --limit 2 ended the result\n"));
  EXPECT_THAT(ran.err, HasSubstr("limit_reached"));
}

TEST_F(Cli, ShowsAPersonWhatDoesNotFitPageByPage) {
  make_store();
  std::string paged;
  const auto ask = [&](const std::string& sql) {
    std::istringstream input;
    std::ostringstream out, err;
    Io io{.in = input, .out = out, .err = err};
    io.terminal = true;
    io.width = 80;
    io.height = 10;
    io.sources = [this](auto, auto) {
      config::Sources sources;
      sources.home = folder.path();
      sources.environment = {{"DAEMONEYE_APP__STATE_DIR", folder.path() + "/state"}};
      return sources;
    };
    io.page = [&](int file) {
      char buffer[4096];
      for (ssize_t got = 0; (got = ::read(file, buffer, sizeof buffer)) > 0;)
        paged.append(buffer, static_cast<std::size_t>(got));
      return true;
    };
    const int code = run({"--no-color", "query", sql}, io);
    EXPECT_EQ(code, 0) << err.str();
    return out.str();
  };
  EXPECT_EQ(ask("SELECT 1 AS one"), "one\n---\n  1\n");
  EXPECT_EQ(paged, "");
  EXPECT_EQ(ask("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) SELECT i FROM n"), "");
  EXPECT_THAT(paged, StartsWith(" i\n--\n 1\n"));
  EXPECT_THAT(paged, HasSubstr("\n20\n"));
}

TEST_F(Cli, DrawsProcessesWithoutTheirControlCharacters) {
  make_store();
  const auto ps = cli("ps");
  EXPECT_EQ(ps.code, 3) << "the agent does not run, so now is not covered";
  EXPECT_THAT(ps.out, HasSubstr("bash -c evil\\x1b[2J"));
  const auto tree = cli("ps", "--tree");
  EXPECT_THAT(tree.out, HasSubstr("└─ bash -c evil\\x1b[2J\n"));
  EXPECT_THAT(tree.out, Not(HasSubstr("\x1b"))) << "no colours where no terminal is";
  EXPECT_THAT(tree.out, HasSubstr("   └─ [sleep]\n"));
  const auto one = cli("tree", "10");
  EXPECT_THAT(one.out, HasSubstr("[init]\n"));
  EXPECT_THAT(one.out, HasSubstr("  <\n"));
  EXPECT_THAT(one.out, HasSubstr("   └─ [sleep]\n"));
  EXPECT_THAT(one.out, Not(HasSubstr("true")));
  EXPECT_THAT(cli("tree", "10", "--ended").out, HasSubstr("[true]\n"));
  const auto ended = cli("tree", "12");
  EXPECT_THAT(ended.out, HasSubstr("[true]  <\n"));
  EXPECT_THAT(ended.out, HasSubstr("ended"));
  EXPECT_EQ(cli("tree", "999").code, 1);
  EXPECT_EQ(cli("tree", "0").code, 2);
  const auto rows = nlohmann::json::parse(cli("ps", "--tree", "--format", "json").out)["rows"];
  EXPECT_EQ(rows[2]["depth"], 2);
}

event::ProcessEvent child_of(event::ProcessEvent event, event::Pid parent) {
  event.process.ppid = parent;
  event.process.parent_key = store::testing::key_of(parent);
  if (event.kind == event::EventKind::exit) event.process.exit_time = event.time;
  return event;
}

// init (1) started bash (10), which started sleep (11) and so many that ended; the first of them (1000) started the
// last but one to end, 20, which left 21 behind. 31 was left behind by one of init's.
constexpr event::Pid first_ended = 1000;
constexpr std::size_t ended_of_bash = 10'001;

void fill_large_family(const store::StoreOptions& options) {
  using event::EventKind;
  auto writer = store::Writer::open(options);
  ASSERT_TRUE(writer) << writer.error().message;
  std::vector<event::ProcessEvent> events = {make_event(EventKind::seen, 1, 1'000'000'000, "init"),
                                             child_of(make_event(EventKind::exec, 10, 2'000'000'000, "bash"), 1),
                                             child_of(make_event(EventKind::exec, 11, 3'000'000'000), 10),
                                             child_of(make_event(EventKind::exec, 21, 3'000'000'000, "left"), 20),
                                             child_of(make_event(EventKind::exit, 30, 3'000'000'000, "other"), 1),
                                             child_of(make_event(EventKind::exec, 31, 3'000'000'000, "elsewhere"), 30)};
  std::uint64_t sequence = 0;
  for (std::size_t i = 0; i < ended_of_bash; ++i) {
    const auto time = 4'000'000'000 + static_cast<std::int64_t>(i);
    events.push_back(child_of(
        make_event(EventKind::exit, first_ended + static_cast<event::Pid>(i), time, "n" + std::to_string(i)), 10));
    if (events.size() < 1000 && i + 1 < ended_of_bash) continue;
    if (i + 1 == ended_of_bash)
      events.push_back(child_of(make_event(EventKind::exit, 20, time, "between"), first_ended));
    ASSERT_TRUE(commit(**writer, make_batch(++sequence, std::move(events))));
    events = {};
  }
  (*writer)->close(Deadline::after(std::chrono::seconds(10)));
}

TEST_F(Cli, DrawsTheTreeOfAProcessThatStartedMoreThanAreShown) {
  ::mkdir((folder.path() + "/state").c_str(), 0750);
  fill_large_family(folder.options());
  for (const auto& [pid, lines] : {std::pair("1", 9), std::pair("10", 7)}) {
    const auto living = cli("tree", pid);
    EXPECT_EQ(living.code, 0) << living.err;
    EXPECT_THAT(living.out, HasSubstr("─ [bash]"));
    EXPECT_THAT(living.out, HasSubstr("[sleep]\n"));
    EXPECT_EQ(std::ranges::count(living.out, '\n'), lines) << living.out;
  }
  const auto living = cli("tree", "10").out;
  EXPECT_THAT(living, HasSubstr("[n0]\n")) << "who ended and leads to one that lives";
  EXPECT_THAT(living, HasSubstr("   └─ [between]\n"));
  EXPECT_THAT(living, HasSubstr("      └─ [left]\n"));
  EXPECT_THAT(living, Not(HasSubstr("elsewhere")));

  const auto all = cli("tree", "10", "--ended");
  EXPECT_EQ(all.code, 3) << all.err;
  EXPECT_THAT(all.err, HasSubstr("note: 2 more that ended, older than these, are not shown\n"));
  EXPECT_THAT(all.err, HasSubstr("limit_reached"));
  EXPECT_THAT(all.out, HasSubstr("[n10000]\n"));
  EXPECT_THAT(all.out, HasSubstr("[n0]\n")) << "the oldest, and 20 hangs below it";
  EXPECT_THAT(all.out, Not(HasSubstr("[n2]\n")));
  EXPECT_THAT(all.out, HasSubstr("[n3]\n"));
  EXPECT_THAT(cli("tree", "20", "--format", "csv").out, HasSubstr("left"));
}

TEST_F(Cli, GivesProgramsWhatTheTreeShows) {
  make_store();
  const auto document = nlohmann::json::parse(cli("tree", "10", "--format", "json").out);
  const auto& rows = document["rows"];
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0]["asked"], 0);
  EXPECT_EQ(rows[1]["asked"], 1);
  EXPECT_EQ(rows[1]["process_key"], event::to_string(store::testing::key_of(10)));
  EXPECT_EQ(rows[1]["parent_key"], rows[0]["process_key"]);
  EXPECT_EQ(rows[2]["parent_key"], rows[1]["process_key"]);
  EXPECT_EQ(rows[2]["executable_path"], "/usr/bin/sleep");
  EXPECT_TRUE(rows[2].contains("executable_state"));
  EXPECT_TRUE(rows[2].contains("executable_hash"));
}

// At 10 s: 1 had been seen by then, and later its hash was computed; 2 executed something else later; 3 became another
// user later; 4 was first seen later; 5 was first seen as what it had become later; 6 ended before.
void fill_past(const store::StoreOptions& options) {
  using event::EventKind;
  auto writer = store::Writer::open(options);
  ASSERT_TRUE(writer) << writer.error().message;
  const auto event = [](EventKind kind, event::Pid pid, std::int64_t second, const char* name, const char* user) {
    auto made = make_event(kind, pid, second * 1'000'000'000, name);
    made.process.start_time = Timestamp{1'000'000'000};
    made.process.user = user;
    return made;
  };
  auto hash = event(EventKind::change, 1, 20, "hashed", "root");
  hash.detail = R"({"executable_hash":{"new":"00"},"euid":{"old":1,"new":0}})";
  auto become = event(EventKind::change, 3, 20, "sudo", "root");
  become.detail = R"({"uid":{"old":1000,"new":0}})";
  auto ended = event(EventKind::exit, 6, 9, "gone", "root");
  ended.process.exit_time = ended.time;
  ASSERT_TRUE(commit(
      **writer,
      make_batch(1, {event(EventKind::seen, 1, 5, "hashed", "root"), event(EventKind::exec, 2, 5, "sh", "ada"),
                     event(EventKind::exec, 3, 5, "sudo", "ada"), ended, hash, become,
                     event(EventKind::exec, 2, 20, "cat", "ada"), event(EventKind::seen, 4, 20, "late", "bob"),
                     event(EventKind::exec, 4, 21, "later", "bob"), event(EventKind::exec, 5, 20, "forked", "bob")})));
  (*writer)->set_collector("procmond", true, Timestamp{30'000'000'000});
  (*writer)->close(Deadline::after(std::chrono::seconds(10)));
}

TEST_F(Cli, ShowsThePastAsItWasThen) {
  ::mkdir((folder.path() + "/state").c_str(), 0750);
  fill_past(folder.options());
  const auto at = [&](const char* moment, int code = 0) {
    const auto ran = cli("ps", "--at", moment, "--format", "json");
    EXPECT_EQ(ran.code, code) << "what came after the moment takes nothing from it: " << ran.out;
    const auto document = nlohmann::json::parse(ran.out);
    std::map<int, std::string> lived;
    for (const auto& row : document["rows"]) {
      const bool known = row["name"].is_string();
      lived[row["pid"].get<int>()] =
          known ? row["name"].get<std::string>() + ' ' + row["user"].get<std::string>() : "?";
    }
    return lived;
  };
  EXPECT_EQ(
      at("1970-01-01T00:00:10Z"),
      (std::map<int, std::string>{{1, "hashed root"}, {2, "sh ada"}, {3, "sudo ada"}, {4, "late bob"}, {5, "?"}}));
  EXPECT_EQ(at("1970-01-01T00:00:02Z", 3)[1], "hashed root")
      << "nothing was recorded yet, and only its hash came later";
  EXPECT_EQ(at("1970-01-01T00:00:25Z")[2], "cat ada");
  const auto tree = cli("ps", "--tree", "--at", "1970-01-01T00:00:10Z");
  EXPECT_EQ(tree.code, 0) << tree.err;
  EXPECT_THAT(tree.out, HasSubstr("[late]"));
  EXPECT_EQ(cli("ps", "--at", "1970-01-01T00:01:00Z").code, 3) << "nobody watched then";
  const auto future = cli("ps", "--at", "2200-01-01T00:00:00Z");
  EXPECT_EQ(future.code, 2);
  EXPECT_THAT(future.err, StartsWith("error: --at: 2200-01-01T00:00:00.000000000Z is still to come; it is "));
  EXPECT_EQ(future.out, "");
}

TEST_F(Cli, ListsAndShowsAlerts) {
  make_store();
  auto alerts = nlohmann::json::parse(cli("alerts", "list", "--format", "json").out);
  ASSERT_EQ(alerts["rows"].size(), 1U);
  EXPECT_EQ(alerts["rows"][0]["alert_id"], "alert-1");
  EXPECT_EQ(alerts["rows"][0]["time"], "1970-01-01T00:00:03.000000000Z");
  const auto count = [&](std::vector<std::string> filter) {
    filter.insert(filter.begin(), {"alerts", "list", "--format", "json"});
    return nlohmann::json::parse(run_with(filter).out)["rows"].size();
  };
  EXPECT_EQ(count({"--severity", "high,critical"}), 1U);
  EXPECT_EQ(count({"--severity", "low"}), 0U);
  EXPECT_EQ(count({"--rule", "a-rule", "--status", "open"}), 1U);
  EXPECT_EQ(count({"--since", "5m"}), 0U);
  EXPECT_EQ(count({"--since", "1970-01-01T00:00:03Z"}), 1U);
  EXPECT_EQ(cli("alerts", "list", "--severity", "huge").code, 2);
  EXPECT_EQ(cli("alerts", "list", "--since", "yesterday").code, 2);
  const auto shown = cli("alerts", "show", "alert-1");
  EXPECT_EQ(shown.code, 3) << "the old gap lies within an hour of it";
  EXPECT_THAT(shown.out, HasSubstr("Something happened"));
  EXPECT_THAT(shown.out, HasSubstr("bash -c x\n")) << "the ancestor as it was then";
  EXPECT_THAT(shown.out, HasSubstr("└─ [sleep]  <\n"));
  EXPECT_EQ(nlohmann::json::parse(cli("alerts", "show", "alert-1", "--format", "json").out)["alert_id"], "alert-1");
  EXPECT_EQ(cli("alerts", "show", "nothing").code, 1);
  EXPECT_EQ(cli("deliveries", "list").code, 0);
}

void raise_alerts(const store::StoreOptions& options, const std::vector<std::string>& ids) {
  auto writer = store::Writer::open(options);
  ASSERT_TRUE(writer) << writer.error().message;
  std::vector<store::Writer::Raise> raised;
  for (const auto& id : ids) {
    store::Writer::Raise one;
    one.alert.alert_id = id;
    one.alert.time = one.alert.last_seen = Timestamp{1'700'000'000'000'000'000};
    one.alert.rule_id = "reverse-shell-dev-tcp-" + id.substr(0, 2);
    one.alert.severity = store::Severity::critical;
    one.alert.title = "A shell that talks to a socket, and more words than fit a line of eighty columns";
    one.alert.row_json = R"({"zeta":1,"alpha":")" + std::string(9000, 'A') + R"("})";
    raised.push_back(std::move(one));
  }
  ASSERT_TRUE(store::testing::raise(**writer, raised));
  (*writer)->close(Deadline::after(std::chrono::seconds(10)));
}

TEST_F(Cli, TakesTheBeginningOfAnAlertsIdWhereItIsTheOnlyOne) {
  ::mkdir((folder.path() + "/state").c_str(), 0750);
  const std::string first = "6a8d58d1000000000000000000000001", second = "6a8d58d1000000000000000000000002",
                    third = "77770000000000000000000000000003";
  raise_alerts(folder.options(), {first, second, third, "7777"});
  const auto id_of = [&](const std::string& given) {
    const auto ran = cli("alerts", "show", given, "--format", "json");
    const auto document = nlohmann::json::parse(ran.out, nullptr, false);
    return document.is_object() ? document.value("alert_id", "") : ran.err;
  };
  EXPECT_EQ(id_of(first), first);
  EXPECT_EQ(id_of("77770"), third);
  EXPECT_EQ(id_of("7777"), "7777") << "a whole id is that alert, whatever begins so";
  EXPECT_EQ(id_of("777"), "error: no alert '777'\n  the beginning of an id needs 4 characters at least\n");
  EXPECT_EQ(id_of("6a8d"),
            "error: alert '6a8d' is not the only one whose id begins so\n  " + first + "\n  " + second + '\n');
  EXPECT_EQ(cli("alerts", "show", "6a8d").code, 2);
  EXPECT_EQ(cli("alerts", "show", "8a8d").code, 1);
  EXPECT_THAT(cli("alerts", "show", "77770", "--format", "csv").out, HasSubstr(third));
  EXPECT_THAT(cli("report", "77770", "--html", "-").out, HasSubstr(third));
  EXPECT_EQ(cli("report", "6a8d", "--html", "-").code, 2);
  EXPECT_EQ(cli("deliveries", "list", "--alert", "6a8d").code, 2);
  EXPECT_EQ(cli("deliveries", "list", "--alert", "77770").code, 0);
}

TEST_F(Cli, ListsAlertsSoThatTheyCanBeAskedForOnANarrowTerminal) {
  ::mkdir((folder.path() + "/state").c_str(), 0750);
  raise_alerts(folder.options(), {"6a8d58d1000000000000000000000001"});
  columns = 80;
  const auto listed = cli("--no-color", "alerts", "list");
  EXPECT_EQ(listed.out,
            "time (UTC)  severity  alert     rule                     title\n"
            "----------  --------  --------  -----------------------  -----------------------\n"
            "2023-11-14  critical  6a8d58d1  reverse-shell-dev-tcp-…  A shell that talks to …\n");
  columns = 0;
  EXPECT_THAT(cli("alerts", "list").out, HasSubstr("  command line\n"));
  EXPECT_THAT(cli("alerts", "list", "--raw").out, StartsWith("alert_id "));
  columns = 80;
  const auto shown = cli("--no-color", "alerts", "show", "6a8d58d1").out;
  EXPECT_THAT(shown, HasSubstr("\nmatched row\n  zeta   1\n  alpha  AAAA"));
  EXPECT_LT(shown.size(), 3000U) << "what is 9 kB long does not push the rest away";
}

TEST_F(Cli, SaysInWordsWhichNumbersItTakes) {
  for (const auto* pid : {"abc", "0", "1.5", "99999999999999999999"}) {
    const auto ran = cli("tree", pid);
    EXPECT_EQ(ran.code, 2);
    EXPECT_THAT(ran.err,
                StartsWith("error: PID: found '" + std::string(pid) + "'; wanted: a whole number from 1 to 4194304\n"));
  }
  for (const auto& verb : std::vector<std::vector<std::string>>{{"alerts", "list"},
                                                                {"query", "SELECT 1"},
                                                                {"audit", "show"},
                                                                {"rules", "test", "x"},
                                                                {"deadletter", "list"}}) {
    auto words = verb;
    words.insert(words.end(), {"--limit", "0"});
    const auto ran = run_with(words);
    EXPECT_EQ(ran.code, 2) << verb.front();
    EXPECT_THAT(ran.err, StartsWith("error: --limit: found '0'; wanted: a whole number, at least 1\n"));
  }
}

TEST_F(Cli, TellsTheStoresNumbers) {
  make_store();
  const auto stats = cli("db", "stats", "--format", "json");
  EXPECT_EQ(stats.code, 0) << stats.err;
  const auto row = nlohmann::json::parse(stats.out)["rows"][0];
  EXPECT_EQ(row["events"], 6);
  EXPECT_EQ(row["alerts"], 1);
  EXPECT_EQ(row["agent_running"], "no");
  const auto elsewhere = cli("--set", "app.state_dir=/nowhere", "--db", folder.file(), "db", "stats");
  EXPECT_EQ(elsewhere.code, 0) << elsewhere.err;
}

TEST_F(Cli, ReportsHealthFromTheStoreWhenTheAgentIsNotThere) {
  make_store();
  const auto health = cli("health");
  EXPECT_EQ(health.code, 4);
  EXPECT_THAT(health.out, HasSubstr("failed  not running"));
  EXPECT_THAT(health.out, HasSubstr("events_lost from 1970-01-01T00:00:04"));
  const auto document = nlohmann::json::parse(cli("health", "store", "--format", "json").out);
  EXPECT_EQ(document["agent_running"], false);
  EXPECT_EQ(document["components"].size(), 1U);
  EXPECT_EQ(document["components"][0]["details"]["events"], "6");
  EXPECT_EQ(cli("health", "nonsense").code, 2);
  EXPECT_THAT(health.out, StartsWith("DaemonEye  failed  "));
  for (const auto* component : {"config", "collector", "store", "ledger", "rules", "sinks", "capabilities"}) {
    const auto one = cli("health", component);
    EXPECT_EQ(one.code, 4) << component << one.err;
    EXPECT_THAT(one.out, StartsWith(component));
  }
}

std::map<std::string, nlohmann::json> findings_of(const Ran& ran) {
  std::map<std::string, nlohmann::json> findings;
  const auto document = nlohmann::json::parse(ran.out, nullptr, false);
  for (const auto& row : document.value("rows", nlohmann::json::array())) findings.emplace(row["check"], row);
  return findings;
}

TEST_F(Cli, DoctorTellsWhatProcmondTriedAndWhatThatMeans) {
  probe = [](Deadline) -> Result<std::string> {
    return R"({"sources":[{"name":"ebpf","works":false,"problem":"no BTF"},{"name":"netlink","works":true},)"
           R"({"name":"bpf_iter","works":true,"problem":""}]})";
  };
  auto findings = findings_of(cli("doctor", "--format", "json"));
  EXPECT_EQ(findings["proc_connector"]["state"], "ok");
  EXPECT_EQ(findings["bpf"]["found"], "no BTF");
  EXPECT_THAT((std::vector<std::string>{"warn", "unknown"}), testing::Contains(findings["bpf"]["state"]));
  for (const auto* answer : {"", "[]", "{\"sources\":7}", "{\"sources\":[7]}"}) {
    probe = [&](Deadline) -> Result<std::string> { return answer; };
    EXPECT_EQ(findings_of(cli("doctor", "--format", "json"))["bpf"]["state"], "unknown") << answer;
  }
}

TEST_F(Cli, DoctorLooksAtTheRestWhereTheConfigurationIsBroken) {
  write("etc/config.yaml", "app: {batch_size: nonsense}\n");
  const auto broken = cli("doctor", "--format", "json");
  EXPECT_EQ(broken.code, 1) << broken.err;
  auto findings = findings_of(broken);
  EXPECT_EQ(findings["config"]["state"], "fail");
  EXPECT_THAT(findings["config"]["found"].get<std::string>(), HasSubstr("app.batch_size"));
  EXPECT_EQ(findings["sqlite"]["state"], "ok");
  EXPECT_EQ(nlohmann::json::parse(broken.out)["state"], "fail");
}

TEST_F(Cli, DoctorSaysOfADamagedStoreThatItDoesNotOpen) {
  make_store();
  EXPECT_EQ(findings_of(cli("doctor", "--format", "json"))["database_opens"]["state"], "ok");
  std::ofstream(folder.file(), std::ios::trunc) << "this is no database, and never was one\n";
  const auto found = findings_of(cli("doctor", "--format", "json"))["database_opens"];
  EXPECT_EQ(found["state"], "fail") << found;
  EXPECT_THAT(found["fix"].get<std::string>(), HasSubstr("db check"));
}

TEST_F(Cli, ShowsTheConfigurationAndItsErrors) {
  const auto shown = cli("config", "show");
  EXPECT_EQ(shown.code, 0);
  EXPECT_THAT(shown.out, HasSubstr("app:\n  scan_interval_ms: 30000\n"));
  const auto file = write("given.yaml", shown.out);
  EXPECT_EQ(cli("--config", file, "config", "show").out, shown.out);
  EXPECT_THAT(cli("config", "show", "--origin").out, HasSubstr("DAEMONEYE_APP__STATE_DIR"));
  EXPECT_EQ(cli("config", "validate").out, "valid\n");
  const auto bad = write("bad.yaml", "app: {batch_sizes: 5}\nalerting:\n  sinks:\n    - {type: carrier-pigeon}\n");
  const auto ran = cli("--config", bad, "config", "validate");
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, StartsWith("error: the configuration has 2 errors\n"));
  EXPECT_THAT(ran.err, HasSubstr("bad.yaml:1: app.batch_sizes: unknown key; did you mean app.batch_size?"));
  EXPECT_THAT(ran.err, HasSubstr("bad.yaml:4: alerting.sinks[0].type: found the text 'carrier-pigeon'; allowed: "));
  EXPECT_EQ(cli("--set", "collection.exclude=[\"name ==== 3\"]", "config", "validate").code, 2);
  EXPECT_EQ(cli("--config", "/nonexistent.yaml", "config", "show").code, 2);
  EXPECT_EQ(cli("config", "get", "app.batchsize").code, 2);
}

constexpr const char* good_rule = R"(id: test-shell
title: A shell
description: A shell was started.
severity: high
sql: |
  SELECT e.pid, e.name, e.process_key FROM process_events e WHERE e.kind = 'exec' AND e.name = 'bash'
)";

TEST_F(Cli, ValidatesRulesOffline) {
  const auto good = write("rules/good.yaml", good_rule);
  auto ran = cli("rules", "validate", good);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "1 rule is valid\n");
  const auto bad = write("rules/bad.yaml", "id: bad\ntitle: x\nseverity: huge\nsql: SELECT nope FROM processes\n");
  ran = cli("rules", "validate", bad);
  EXPECT_EQ(ran.code, 2);
  EXPECT_THAT(ran.err, HasSubstr("bad.yaml:3"));
  EXPECT_EQ(cli("rules", "validate", folder.path() + "/rules").code, 2);
  EXPECT_EQ(cli("rules", "validate", "/nonexistent").code, 2);
}

TEST_F(Cli, ListsRulesFromTheFoldersWhileThereIsNoStore) {
  write("rules/good.yaml", good_rule);
  write("rules/bad.yaml", "id: bad\n");
  const auto ran = cli("rules", "list");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("test-shell"));
  EXPECT_THAT(ran.out, HasSubstr("unhealthy"));
  EXPECT_THAT(ran.err, HasSubstr("notice: read from the rule folders"));
  EXPECT_THAT(cli("rules", "show", "test-shell").out, HasSubstr("SELECT e.pid"));
  const auto unknown = cli("rules", "show", "test-shel");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean test-shell?"));
}

TEST_F(Cli, TestsARuleOverHistoryAndWritesNoAlert) {
  make_store();
  const auto rule = write("rules/good.yaml", good_rule);
  for (const auto& name : {rule, std::string("test-shell")}) {
    const auto ran = run_with({"rules", "test", name, "--until", "1970-01-01T00:00:03.5Z", "--format", "csv"});
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_THAT(ran.out, StartsWith("pid,name,process_key\r\n10,bash,"));
  }
  EXPECT_EQ(nlohmann::json::parse(cli("db", "stats", "--format", "json").out)["rows"][0]["alerts"], 1);
}

TEST_F(Cli, StopsQuietlyWhenTheOutputIsClosed) {
  make_store();
  class Closed final : public std::streambuf {
    int_type overflow(int_type) override { return traits_type::eof(); }
  } closed;
  std::ostream out(&closed);
  std::istringstream in;
  std::ostringstream err;
  Io io{.in = in, .out = out, .err = err};
  io.sources = [this](auto, auto) {
    config::Sources sources;
    sources.environment = {{"DAEMONEYE_APP__STATE_DIR", folder.path() + "/state"}};
    sources.etc = folder.path();
    return sources;
  };
  EXPECT_EQ(run({"query", early, "--format", "jsonl"}, io), 0);
  EXPECT_THAT(err.str(), Not(HasSubstr("error")));
}

}  // namespace
}  // namespace daemoneye::cli
