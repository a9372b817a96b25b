#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "observe/exposition.h"
#include "observe/health.h"
#include "observe/latencies.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "observe/process_use.h"
#include "observe/rate.h"

namespace daemoneye::observe {
namespace {

using testing::HasSubstr;
using testing::Not;

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Metrics, GivesTheSameSeriesForTheSameNameAndLabels) {
  counter("daemoneye_test_same_total", "help", {{"a", "1"}}).add(2);
  counter("daemoneye_test_same_total", "help", {{"a", "1"}}).add(3);
  EXPECT_EQ(counter("daemoneye_test_same_total", "help", {{"a", "1"}}).value(), 5);
  EXPECT_EQ(counter("daemoneye_test_same_total", "help", {{"a", "2"}}).value(), 0);
}

TEST(Metrics, HasTheFourFixedNamesWithTheirLabels) {
  collection_duration(true).observe(0.2);
  processes_collected().add(7);
  alerts_generated("high").add();
  alert_deliveries("stdout").add();
  const auto text = metrics_text();
  EXPECT_THAT(text, HasSubstr("daemoneye_collection_duration_seconds_bucket{status=\"success\",le=\"0.25\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("daemoneye_processes_collected_total 7\n"));
  EXPECT_THAT(text, HasSubstr("daemoneye_alerts_generated_total{severity=\"high\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("daemoneye_alert_deliveries_total{sink=\"stdout\"} 1\n"));
}

TEST(Metrics, CountsFromManyThreads) {
  const auto shared = counter("daemoneye_test_threads_total", "help");
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 1000; ++n) shared.add();
      });
    }
  }
  EXPECT_EQ(shared.value(), 4000);
}

TEST(Metrics, TellsTheBucketOfAQuantile) {
  const auto times = histogram("daemoneye_test_quantile_seconds", "help", {}, {1, 2, 4});
  EXPECT_EQ(times.quantile(0.5), 0);
  for (const double value : {0.5, 1.5, 1.6, 3.0}) times.observe(value);
  EXPECT_EQ(times.quantile(0.25), 1);
  EXPECT_EQ(times.quantile(0.5), 2);
  EXPECT_EQ(times.quantile(0.99), 4);
  times.observe(100);
  EXPECT_TRUE(std::isinf(times.quantile(1)));
}

TEST(Metrics, SurvivesANameUsedForTwoKinds) {
  counter("daemoneye_test_kind_total", "help").add(1);
  testing::internal::CaptureStderr();
  gauge("daemoneye_test_kind_total", "help").set(9);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("daemoneye_test_kind_total"));
  EXPECT_THAT(metrics_text(), HasSubstr("daemoneye_test_kind_total 1\n"));
}

TEST(Metrics, ListsEachFamilyOnceWhenAnotherProgramsTextIsJoined) {
  counter("daemoneye_test_joined_total", "ours", {{"who", "agent"}}).add(1);
  gauge("daemoneye_test_joined_depth", "ours").set(3);
  set_foreign_metrics("procmond",
                      "# HELP daemoneye_test_joined_total ours\n# TYPE daemoneye_test_joined_total counter\n"
                      "daemoneye_test_joined_total{who=\"agent\"} 2\n"
                      "daemoneye_test_joined_total{who=\"proc}mond\"} 5\n"
                      "# TYPE daemoneye_test_joined_depth gauge\ndaemoneye_test_joined_depth 8\n"
                      "# HELP daemoneye_test_theirs_seconds t\n# TYPE daemoneye_test_theirs_seconds histogram\n"
                      "daemoneye_test_theirs_seconds_bucket{le=\"+Inf\"} 1\n"
                      "daemoneye_test_theirs_seconds_sum 0.5\ndaemoneye_test_theirs_seconds_count 1\n"
                      "this is { no sample\n");
  const auto text = metrics_text();
  EXPECT_EQ(occurrences(text, "# TYPE daemoneye_test_joined_total "), 1U);
  EXPECT_EQ(occurrences(text, "# HELP daemoneye_test_joined_total "), 1U);
  EXPECT_THAT(text, HasSubstr("daemoneye_test_joined_total{who=\"agent\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("daemoneye_test_joined_total{who=\"proc}mond\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("daemoneye_test_joined_depth 3\ndaemoneye_test_joined_depth{process=\"procmond\"} 8\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE daemoneye_test_theirs_seconds histogram\n"
                              "daemoneye_test_theirs_seconds_bucket{le=\"+Inf\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("daemoneye_foreign_metrics_refused_lines 1\n"));
  set_foreign_metrics("procmond", "");
  EXPECT_THAT(metrics_text(), Not(HasSubstr("daemoneye_test_theirs_seconds")));
}

TEST(Exposition, ReadsBackWhatItWrites) {
  const std::string text =
      "# HELP a_total with \\\\ backslash\n# TYPE a_total counter\na_total{x=\"q\\\"}\",y=\"\"} 1.5\na_total +Inf\n"
      "# TYPE b gauge\nb NaN\n";
  const auto parsed = parse_exposition(text);
  EXPECT_EQ(parsed.refused_lines, 0U);
  EXPECT_EQ(to_text(parsed), text);
}

class LogTest : public testing::Test {
 protected:
  void TearDown() override { start_log("daemoneye", "info", "json"); }

  static std::string line_of(const auto& write) {
    testing::internal::CaptureStderr();
    write();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(LogTest, WritesOneJsonObjectALineWhateverTheFieldsHold) {
  start_log("procmond", "info", "json");
  const std::string hostile = "a\n{\"level\":\"error\"}\x1b[2J\xff\xc2\x9b \"quote\"";
  const auto out = line_of([&] {
    log(Level::warn, "collector", "message",
        {{"text", hostile},
         {"signed", std::int64_t{-3}},
         {"unsigned", std::uint64_t{7}},
         {"real", 0.5},
         {"yes", true},
         {"nan", std::nan("")}});
  });
  ASSERT_EQ(occurrences(out, "\n"), 1U);
  EXPECT_EQ(out.find('\x1b'), std::string::npos);
  EXPECT_EQ(out.find("\xc2\x9b"), std::string::npos);
  const auto line = nlohmann::json::parse(out);
  EXPECT_EQ(line["level"], "warn");
  EXPECT_EQ(line["program"], "procmond");
  EXPECT_EQ(line["component"], "collector");
  EXPECT_EQ(line["message"], "message");
  EXPECT_EQ(line["fields"]["signed"], -3);
  EXPECT_EQ(line["fields"]["unsigned"], 7);
  EXPECT_EQ(line["fields"]["real"], 0.5);
  EXPECT_EQ(line["fields"]["yes"], true);
  EXPECT_TRUE(line["fields"]["nan"].is_null());
  EXPECT_THAT(line["fields"]["text"].get<std::string>(), HasSubstr("\"quote\""));
  EXPECT_EQ(line["time"].get<std::string>().size(), 30U);
}

TEST_F(LogTest, BoundsAFieldAndSaysHowLongItWas) {
  const std::string long_text(100'000, 'x');
  const auto out = line_of([&] { log(Level::error, "test", "m", {{"text", long_text}}); });
  EXPECT_LT(out.size(), 5000U);
  EXPECT_THAT(out, HasSubstr("(100000 bytes)"));
}

TEST_F(LogTest, LeavesOutWhatIsBelowTheLevel) {
  start_log("agent", "error", "json");
  EXPECT_FALSE(log_enabled(Level::warn));
  EXPECT_EQ(line_of([] { log(Level::warn, "test", "quiet"); }), "");
  EXPECT_NE(line_of([] { log(Level::error, "test", "loud"); }), "");
}

TEST_F(LogTest, WritesTextForPeopleWithoutLettingFieldsForgeLines) {
  start_log("agent", "info", "text");
  const auto out = line_of([] {
    log(Level::info, "store", "opened", {{"path", "/var/lib/a b"}, {"rows", std::int64_t{3}}, {"odd", "x\ny=\"z\""}});
  });
  EXPECT_THAT(out, HasSubstr("Z INFO  agent/store: opened path=\"/var/lib/a b\" rows=3 odd=\"x\\ny=\\\"z\\\"\"\n"));
  EXPECT_EQ(occurrences(out, "\n"), 1U);
}

TEST(Health, ReadsBackWhatItWrites) {
  HealthBoard board;
  board.set({"store", HealthState::ok, "", {{"file_bytes", "12"}}});
  board.set({"collector", HealthState::degraded, "no eBPF: \"x\"", {{"source", "scan"}, {"bad \xff", "\xfe"}}});
  board.set({"store", HealthState::failed, "disk full", {}});
  const auto report = board.report();
  ASSERT_EQ(report.size(), 2U);
  EXPECT_EQ(worst(report), HealthState::failed);
  const auto back = parse_health(to_json(report));
  ASSERT_TRUE(back.has_value()) << back.error().message;
  ASSERT_EQ(back->size(), 2U);
  EXPECT_EQ((*back)[0].component, "collector");
  EXPECT_EQ((*back)[0].state, HealthState::degraded);
  EXPECT_EQ((*back)[0].reason, "no eBPF: \"x\"");
  EXPECT_EQ((*back)[0].details.at("source"), "scan");
  EXPECT_EQ((*back)[1].reason, "disk full");
  EXPECT_TRUE((*back)[1].details.empty());
}

TEST(Health, RefusesWhatIsNoReport) {
  for (const auto* text :
       {"", "[]", "{", "{\"components\":{}}", "{\"components\":[1]}",
        "{\"components\":[{\"component\":\"a\",\"state\":\"fine\"}]}", "{\"components\":[{\"state\":\"ok\"}]}",
        "{\"components\":[{\"component\":\"a\",\"state\":\"ok\",\"details\":{\"k\":1}}]}"}) {
    EXPECT_FALSE(parse_health(text).has_value()) << text;
  }
}

TEST(Health, SaysTheWorstFirstInOneLine) {
  EXPECT_EQ(summary({{"store", HealthState::ok, "", {}}}), "everything works");
  EXPECT_EQ(summary({{"rules", HealthState::degraded, "one is broken", {}},
                     {"sinks", HealthState::degraded, "", {}},
                     {"store", HealthState::failed, "full", {}}}),
            "store: full; rules: one is broken; sinks: degraded");
}

TEST(Rate, IsThatOfTheWindow) {
  using std::chrono::seconds;
  const auto begin = base::SteadyClock::now();
  Rate rate;
  EXPECT_EQ(rate.per_second(), std::nullopt);
  rate.sample(100, begin);
  EXPECT_EQ(rate.per_second(), std::nullopt);
  rate.sample(120, begin + seconds(10));
  EXPECT_DOUBLE_EQ(rate.per_second().value(), 2);
  for (int second = 20; second <= 200; second += 10) rate.sample(120, begin + seconds(second));
  EXPECT_DOUBLE_EQ(rate.per_second().value(), 0) << "what is long ago no longer counts";
  rate.sample(5, begin + seconds(210));
  EXPECT_EQ(rate.per_second(), std::nullopt) << "another total was begun";
}

TEST(Rate, KeepsSoManySamplesHoweverOftenItIsAsked) {
  const auto begin = base::SteadyClock::now();
  Rate rate;
  for (int i = 0; i <= 100'000; ++i) rate.sample(i, begin + std::chrono::milliseconds(i));
  EXPECT_NEAR(rate.per_second().value(), 1000, 1);
}

TEST(Latencies, AreThoseOfTheLastOnes) {
  Latencies latencies;
  EXPECT_TRUE(latencies.empty());
  EXPECT_EQ(latencies.quantile_ms(0.5), 0);
  for (int i = 0; i < 1000; ++i) latencies.add(std::chrono::seconds(9));
  for (int i = 1; i <= 512; ++i) latencies.add(std::chrono::milliseconds(i));
  EXPECT_NEAR(latencies.quantile_ms(0.5), 256, 2);
  EXPECT_NEAR(latencies.quantile_ms(0.99), 507, 2);
}

TEST(ProcessUse, IsThatOfARunningProcess) {
  const auto own = read_process_use(::getpid());
  ASSERT_TRUE(own) << own.error().message;
  EXPECT_GT(own->own_bytes, 100'000U);
  EXPECT_GT(own->file_bytes, 100'000U);
  EXPECT_GE(own->cpu_seconds, 0);
  EXPECT_FALSE(read_process_use(0));
}

TEST(ProcessUse, FindsChildrenAndTheirChildren) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const pid_t grandchild = ::fork();
    if (grandchild != 0 && ::write(ends[1], &grandchild, sizeof grandchild) < 0) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  pid_t grandchild = 0;
  ASSERT_EQ(::read(ends[0], &grandchild, sizeof grandchild), static_cast<ssize_t>(sizeof grandchild));
  const auto found = descendants_of(::getpid());
  ::kill(grandchild, SIGKILL);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  if (::access("/proc/thread-self/children", F_OK) != 0) GTEST_SKIP() << "this kernel does not list children";
  EXPECT_THAT(found, testing::UnorderedElementsAre(child, grandchild));
}

}  // namespace
}  // namespace daemoneye::observe
