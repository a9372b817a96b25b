#include "collector/clock_watch.h"

#include <gtest/gtest.h>

namespace daemoneye::collector {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(ClockWatch, TellsStepsInBothDirectionsAndNothingElse) {
  ClockWatch watch;
  Timestamp wall{1'700'000'000'000'000'000};
  std::chrono::nanoseconds boot = seconds(100);
  const auto go_on = [&](std::chrono::nanoseconds of_wall, std::chrono::nanoseconds of_boot) {
    wall.ns += of_wall.count();
    boot += of_boot;
    return watch.look(wall, boot);
  };
  EXPECT_FALSE(go_on(seconds(0), seconds(0)));  // nothing to compare with
  EXPECT_FALSE(go_on(seconds(2), seconds(2)));
  EXPECT_FALSE(go_on(seconds(2) + milliseconds(1), seconds(2)));  // slewed
  EXPECT_FALSE(go_on(seconds(7200), seconds(7200)));              // suspended
  const auto back = go_on(seconds(-3598), seconds(2));
  ASSERT_TRUE(back);
  EXPECT_DOUBLE_EQ(back->seconds, -3600);
  EXPECT_EQ(back->to, wall);
  EXPECT_EQ(back->from.ns, wall.ns + 3'600'000'000'000);
  EXPECT_FALSE(go_on(seconds(2), seconds(2)));  // once
  const auto ahead = go_on(seconds(12), seconds(2));
  ASSERT_TRUE(ahead);
  EXPECT_DOUBLE_EQ(ahead->seconds, 10);
}

TEST(ClockWatch, ASpanHoldsEveryTimeThatTheClockShowed) {
  constexpr std::int64_t second = 1'000'000'000;
  const Moment begin{Timestamp{1000 * second}, 50 * second};
  const auto span = [&](std::int64_t wall) {
    const auto [from, to] = span_between(begin, {Timestamp{wall * second}, 60 * second});
    return std::pair(from.ns / second, to.ns / second);
  };
  EXPECT_EQ(span(1010), std::pair(1000L, 1010L));
  EXPECT_EQ(span(500), std::pair(490L, 1010L)) << "set back at any time in between";
  EXPECT_EQ(span(5000), std::pair(1000L, 5000L));
}

}  // namespace
}  // namespace daemoneye::collector
