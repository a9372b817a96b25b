// Times as text and as columns, held against the standard library's calendar and SQLite's own functions.
#include "sql/time.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <time.h>

#include "sql/test_store.h"

namespace daemoneye::sql {
namespace {

using ::testing::HasSubstr;

std::string two(unsigned value) { return (value < 10 ? "0" : "") + std::to_string(value); }

TEST(Time, TextsMeanWhatTheCalendarSays) {
  test::Dice dice(7);
  for (int i = 0; i < 20'000; ++i) {
    using namespace std::chrono;
    const int y = 1678 + static_cast<int>(dice.below(584));
    const auto m = static_cast<unsigned>(1 + dice.below(12)), d = static_cast<unsigned>(1 + dice.below(31));
    const auto h = static_cast<unsigned>(dice.below(24)), min = static_cast<unsigned>(dice.below(60)),
               s = static_cast<unsigned>(dice.below(60));
    const std::size_t digits = dice.below(10);
    const auto fraction = std::to_string(1'000'000'000 + dice.below(1'000'000'000)).substr(1, digits);
    const auto zone = static_cast<int>(dice.below(49)) - 24;  // half hours
    const year_month_day date{year(y), month(m), day(d)};
    std::string text =
        std::to_string(y) + '-' + two(m) + '-' + two(d) + (dice.one_in(2) ? 'T' : ' ') + two(h) + ':' + two(min);
    const bool has_seconds = digits > 0 || !dice.one_in(5);
    if (has_seconds) text += ':' + two(s);
    if (digits > 0) text += '.' + fraction;
    const auto style = dice.below(4);  // of the offset
    const auto half_hours = static_cast<unsigned>(std::abs(zone));
    if (style == 0) text += 'Z';
    if (style > 1) {
      text +=
          (zone < 0 ? '-' : '+') + two(half_hours / 2) + (style == 2 ? ":" : "") + (half_hours % 2 == 0 ? "00" : "30");
    }
    const auto time = parse_time(text);
    if (!date.ok()) {
      EXPECT_FALSE(time) << text;
      continue;
    }
    ASSERT_TRUE(time) << text;
    auto expected = sys_days(date).time_since_epoch() + hours(h) + minutes(min);
    std::int64_t ns = duration_cast<nanoseconds>(expected).count() + (has_seconds ? s : 0) * test::second;
    if (digits > 0) ns += std::stoll((fraction + "000000000").substr(0, 9));
    if (style > 1) ns -= zone * 1800 * test::second;
    ASSERT_EQ(time->ns, ns) << text;
  }
}

TEST(Time, EveryMomentComesBackFromItsText) {
  test::Dice dice(8);
  for (int i = 0; i < 20'000; ++i) {
    const auto ns = static_cast<std::int64_t>(dice.next()) >> dice.below(40);
    const auto time = parse_time(base::to_iso(Timestamp{ns}));
    ASSERT_TRUE(time) << ns;
    ASSERT_EQ(time->ns, ns);
  }
  for (const auto ns : {INT64_MIN, INT64_MIN + 1, std::int64_t{-1}, std::int64_t{0}, INT64_MAX}) {
    const auto time = parse_time(base::to_iso(Timestamp{ns}));
    ASSERT_TRUE(time) << ns << " " << base::to_iso(Timestamp{ns});
    EXPECT_EQ(time->ns, ns);
  }
  EXPECT_EQ(parse_time("-1795294103000000000")->ns, -1'795'294'103'000'000'000);
}

TEST(Time, WhatIsNoTimeIsNamed) {
  for (const auto* const text : {"",
                                 "now",
                                 "yesterday",
                                 "1795294103",
                                 "2026",
                                 "2026-11",
                                 "2026-13-01",
                                 "2026-02-29",
                                 "1900-02-29",
                                 "2026-11-21 24:00:00",
                                 "2026-11-21 20:60",
                                 "2026-11-21 20:48:60",
                                 "2026-11-21T20",
                                 "20:48:23",
                                 "2026-11-21 20:48:23,5",
                                 "2026-11-21 20:48:23.",
                                 "2026-11-21 20:48:23+25:00",
                                 "2026-11-21x",
                                 "2026-11-21 20:48:23 UTC",
                                 "+2026-11-21",
                                 "9999-12-31",
                                 "1600-01-01",
                                 "2262-04-11 23:47:17",
                                 "99999999999999999999",
                                 "2026-11-21T20:48:23Z;"}) {
    const auto time = parse_time(text);
    ASSERT_FALSE(time) << text << " is " << time->ns;
    EXPECT_THAT(time.error().message, HasSubstr("not a time: '" + std::string(text) + "'"));
  }
}

// Rows whose times are far apart, asked in our words and in SQLite's.
class TimeColumns : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("TZ", "Europe/Berlin", 1);
    ::tzset();
    std::vector<event::ProcessEvent> events;
    for (const auto* const text : {"1999-12-31T23:59:59.999999999Z", "2024-02-29T12:00:00Z", "2026-03-29T00:59:59Z",
                                   "2026-03-29T01:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z",
                                   "2026-11-21T20:48:23.123456789Z", "2038-01-19T03:14:08Z", "2199-07-01T00:00:00Z"}) {
      auto event = test::make_history(1, 1).front();
      event.time = *parse_time(text);
      event.process.collection_time = event.time;
      event.process.start_time = Timestamp{-event.time.ns};  // before 1970
      events.push_back(event);
    }
    test::fill_store(folder_ / "events.redb", events, 2, 4);
    auto connection = Connection::open(folder_ / "events.redb", "");
    ASSERT_TRUE(connection) << connection.error().message;
    connection_ = *std::move(connection);
  }
  void TearDown() override {
    ::unsetenv("TZ");
    ::tzset();
  }

  std::string ask(const std::string& text) {
    const auto compiled = compile(text);
    if (!compiled) return "refused: " + compiled.error().message;
    RunOptions options;
    options.now = *parse_time("2026-11-21 20:48:23");
    std::string all;
    const auto stats = connection_->run(*compiled, options, [&](const Row& row) {
      for (const auto& value : row) {
        if (!all.empty()) all += ' ';
        if (const auto* const one = std::get_if<std::string>(&value)) all += *one;
        if (const auto* const number = std::get_if<std::int64_t>(&value)) all += std::to_string(*number);
        if (std::holds_alternative<std::monostate>(value)) all += "NULL";
      }
      return true;
    });
    return stats ? all : std::string(base::to_string(stats.error().code)) + ": " + stats.error().message;
  }
  // Event ids for a condition on `time`.
  std::string where(const std::string& condition) {
    return ask("SELECT group_concat(event_id, ' ') FROM (SELECT event_id FROM process_events WHERE " + condition +
               " ORDER BY event_id)");
  }

  const test::TemporaryFolder folder_;
  std::unique_ptr<Connection> connection_;
};

TEST_F(TimeColumns, AreComparedWithWhatTextMeans) {
  EXPECT_EQ(where("time >= '2026-03-29 01:00'"), "4 5 6 7 8 9");
  EXPECT_EQ(where("time < '2000-01-01'"), "1");
  EXPECT_EQ(where("time > '1999-12-31T23:59:59.999999998Z' AND time < '2000-01-01'"), "1");
  EXPECT_EQ(where("time = '2026-11-21 21:48:23.123456789+01:00'"), "7");
  EXPECT_EQ(where("time = '2026-11-21 20:48:23.123'"), "NULL");
  EXPECT_EQ(where("time BETWEEN '2026-03-29 02:00+02:00' AND '2026-03-29 03:00+02:00'"), "3 4");
  EXPECT_EQ(where("time IN ('2038-01-19 03:14:08', '2199-07-01')"), "8 9");
  EXPECT_EQ(where("time NOT BETWEEN '2000-01-01' AND '2199-01-01'"), "1 9");
  EXPECT_EQ(where("(time, event_id) > ('2038-01-19 03:14:08', 7)"), "8 9");
  EXPECT_EQ(where("(time, event_id) = (SELECT '2199-07-01', 9)"), "9");
  EXPECT_EQ(where("(time, event_id) IN (SELECT '2199-07-01', 9)"), "9");
  EXPECT_EQ(where("CASE time WHEN '2024-02-29 12:00' THEN 1 END"), "2");
  EXPECT_EQ(where("start_time < '1969-12-31 23:59:59' AND start_time > '1934-01-01'"), "1");
  EXPECT_EQ(where("time = NULL"), "NULL");
  EXPECT_EQ(where("time IS NOT NULL AND exit_time IS '2000-01-01'"), "NULL");
}

TEST_F(TimeColumns, AreComparedWithWhatFunctionsSay) {
  EXPECT_EQ(where("time > datetime('now', '-5 minutes')"), "7 8 9");
  EXPECT_EQ(where("time > ago('300s') AND time < datetime()"), "NULL");  // 123 ms after the second
  EXPECT_EQ(where("time > ago('300s') AND time < datetime('now', '+1 second')"), "7");
  EXPECT_EQ(where("time >= date('now', 'start of year') AND time < date('now', '+1 day')"), "3 4 5 6 7");
  EXPECT_EQ(where("date(time) = '2026-03-29'"), "3 4");
  EXPECT_EQ(where("date(time) = date('now')"), "7");
  EXPECT_EQ(where("strftime('%Y', time) = '2024'"), "2");
  EXPECT_EQ(where("unixepoch(time) = 951825600 OR unixepoch(time) = 1709208000"), "2");
  EXPECT_EQ(where("julianday(time) > julianday('2100-01-01')"), "9");
  EXPECT_EQ(where("time > CURRENT_DATE"), "7 8 9");
  EXPECT_THAT(where("time > strftime('%s', 'now')"), HasSubstr("invalid input: not a time: '1795294103'"));
  EXPECT_THAT(where("time > name"), HasSubstr("invalid input: not a time: '"));
}

// Hours of a clock on the wall are asked for in so many words; nothing depends on where the machine stands otherwise.
TEST_F(TimeColumns, AreUtcUnlessLocalTimeIsAskedFor) {
  const auto hours = [&](const std::string& modifier) {
    return ask("SELECT strftime('%H:%M', time" + modifier + ") FROM process_events WHERE event_id BETWEEN 3 AND 6");
  };
  EXPECT_EQ(hours(""), "00:59 01:00 00:30 01:30");
  EXPECT_EQ(hours(", 'localtime'"),
            "01:59 03:00 02:30 02:30");  // in spring an hour is missing, in autumn one comes twice
  EXPECT_EQ(where("time = datetime('2026-03-29 03:00:00', 'utc')"), "4");
  EXPECT_EQ(where("date(time, 'localtime') = '2000-01-01'"), "1");
  EXPECT_EQ(where("date(time) = '2000-01-01'"), "NULL");
  EXPECT_EQ(ask("SELECT iso(time) FROM process_events WHERE event_id = 4"), "2026-03-29T01:00:00.000000000Z");
  EXPECT_EQ(ask("SELECT datetime('now'), datetime('now', 'localtime')"), "2026-11-21 20:48:23 2026-11-21 21:48:23");
}

}  // namespace
}  // namespace daemoneye::sql
