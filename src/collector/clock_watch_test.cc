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

}  // namespace
}  // namespace daemoneye::collector
