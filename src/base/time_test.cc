#include "base/time.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/backoff.h"

namespace daemoneye::base {
namespace {

using std::chrono::milliseconds;

TEST(IsoTime, EveryTimeComesBack) {
  std::mt19937_64 random(1);
  std::vector<std::int64_t> times = {0,
                                     1,
                                     -1,
                                     999'999'999,
                                     1'000'000'000,
                                     -1'000'000'000,
                                     -999'999'999,
                                     std::numeric_limits<std::int64_t>::max(),
                                     std::numeric_limits<std::int64_t>::min()};
  for (int i = 0; i < 5000; ++i) times.push_back(static_cast<std::int64_t>(random()));
  for (const auto ns : times) {
    const auto text = to_iso(Timestamp{ns});
    const auto parsed = parse_iso(text);
    ASSERT_TRUE(parsed) << text;
    ASSERT_EQ(parsed->ns, ns) << text;
  }
}

TEST(IsoTime, HasNineFractionDigitsAndSortsAsTimeDoes) {
  EXPECT_EQ(to_iso(Timestamp{0}), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(to_iso(Timestamp{-1}), "1969-12-31T23:59:59.999999999Z");
  EXPECT_EQ(to_iso(Timestamp{1'795'294'103'123'456'789}), "2026-11-21T20:48:23.123456789Z");
  std::mt19937_64 random(2);
  for (int i = 0; i < 1000; ++i) {
    const Timestamp a{static_cast<std::int64_t>(random())}, b{static_cast<std::int64_t>(random())};
    ASSERT_EQ(a < b, to_iso(a) < to_iso(b));
  }
}

TEST(IsoTime, ReadsTheUsualForms) {
  constexpr std::int64_t second = 1'795'294'103'000'000'000;
  for (const auto& [text, ns] : std::initializer_list<std::pair<const char*, std::int64_t>>{
           {"2026-11-21T20:48:23Z", second},
           {"2026-11-21 20:48:23", second},
           {"2026-11-21T20:48:23.5Z", second + 500'000'000},
           {"2026-11-21T21:48:23+01:00", second},
           {"2026-11-21T15:18:23-0530", second},
           {"2026-11-21T20:48Z", second - 23'000'000'000},
           {"2026-11-21", second - (20 * 3600 + 48 * 60 + 23) * std::int64_t{1'000'000'000}},
           {"2024-02-29", 1'709'164'800'000'000'000},
       }) {
    const auto parsed = parse_iso(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(parsed->ns, ns) << text;
  }
}

TEST(IsoTime, RefusesWhatIsNoTime) {
  for (const auto* text : {"",
                           "now",
                           "2026",
                           "2026-13-01",
                           "2026-00-01",
                           "2026-02-29",
                           "2026-11-31",
                           "2026-11-21T",
                           "2026-11-21T24:00:00",
                           "2026-11-21T20:60:00",
                           "2026-11-21T20:48:60",
                           "2026-11-21T20:48:23.",
                           "2026-11-21T20:48:23.1234567890Z",
                           "2026-11-21T20:48.5",
                           "2026-11-21T20:48:23ZZ",
                           "2026-11-21T20:48:23+25:00",
                           "2026-11-21T20:48:23+1",
                           "-026-11-21",
                           "2026-11-21x",
                           " 2026-11-21",
                           "1676-01-01",
                           "2263-01-01",
                           "1677-01-01",
                           "2262-12-31",
                           "2262-04-11T23:47:16.854775808Z",
                           "1677-09-21T00:12:43.145224191Z"}) {
    EXPECT_FALSE(parse_iso(text)) << text;
  }
}

TEST(Duration, NeedsANumberAndAUnit) {
  using namespace std::chrono_literals;
  EXPECT_EQ(parse_duration("7ns").value(), 7ns);
  EXPECT_EQ(parse_duration("7us").value(), 7us);
  EXPECT_EQ(parse_duration("250ms").value(), 250ms);
  EXPECT_EQ(parse_duration("30s").value(), 30s);
  EXPECT_EQ(parse_duration("5m").value(), 5min);
  EXPECT_EQ(parse_duration("2h").value(), 2h);
  EXPECT_EQ(parse_duration("7d").value(), 168h);
  for (const auto* text : {"", "5", "s", "-5s", "5 s", "5S", "1.5s", "5w", "99999999999999999999s", "40000d"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Deadline, EndsAndNeverEnds) {
  EXPECT_FALSE(Deadline::never().expired());
  EXPECT_TRUE(Deadline::never().is_never());
  EXPECT_EQ(Deadline::never().poll_timeout_ms(), -1);
  EXPECT_EQ(Deadline::never().remaining(), std::chrono::nanoseconds::max());
  const auto past = Deadline::after(milliseconds(-1));
  EXPECT_TRUE(past.expired());
  EXPECT_EQ(past.remaining().count(), 0);
  EXPECT_EQ(past.poll_timeout_ms(), 0);
  const auto future = Deadline::after(std::chrono::hours(1));
  EXPECT_FALSE(future.expired());
  EXPECT_GT(future.remaining(), std::chrono::minutes(30));
  EXPECT_LE(future.poll_timeout_ms(), 3'600'000);
  // Rounded up: a poll that ends early would be made again and again.
  EXPECT_GT(Deadline::after(std::chrono::seconds(10)).poll_timeout_ms(), 0);
  EXPECT_EQ(Deadline::after(std::chrono::hours(24 * 365)).poll_timeout_ms(), std::numeric_limits<int>::max());
}

TEST(Backoff, StaysWithinItsBounds) {
  Backoff backoff(milliseconds(100), milliseconds(5000), 1, milliseconds(10));
  milliseconds ceiling(100);
  for (unsigned i = 0; i < 100; ++i) {
    EXPECT_EQ(backoff.attempts(), i);
    const auto delay = backoff.next();
    EXPECT_GE(delay, milliseconds(10));
    EXPECT_LE(delay, ceiling);
    ceiling = std::min(ceiling * 2, milliseconds(5000));
  }
}

TEST(Backoff, SpreadsOverTheWholeRangeAndBeginsAnew) {
  Backoff backoff(milliseconds(1000), milliseconds(1000), 7);
  milliseconds lowest(1000), highest(0);
  for (int i = 0; i < 200; ++i) {
    const auto delay = backoff.next();
    lowest = std::min(lowest, delay);
    highest = std::max(highest, delay);
  }
  EXPECT_LT(lowest, milliseconds(100));
  EXPECT_GT(highest, milliseconds(900));
  backoff.reset();
  EXPECT_EQ(backoff.attempts(), 0U);
  Backoff growing(milliseconds(1), milliseconds(1'000'000), 7);
  for (int i = 0; i < 40; ++i) growing.next();
  growing.reset();
  EXPECT_LE(growing.next(), milliseconds(1));
}

TEST(Backoff, SameSeedSameDelays) {
  Backoff a(milliseconds(100), milliseconds(5000), 3), b(milliseconds(100), milliseconds(5000), 3);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(a.next(), b.next());
}

}  // namespace
}  // namespace daemoneye::base
