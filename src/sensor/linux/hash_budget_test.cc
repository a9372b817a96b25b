#include "sensor/linux/hash_budget.h"

#include <gtest/gtest.h>

#include "sensor/hash_cache.h"

namespace daemoneye::sensor {
namespace {

using namespace std::chrono_literals;

TEST(CpuBudget, LetsWhatWasSavedBeSpentAtOnceAndNoMore) {
  CpuBudget budget(10, 0s, 0s);
  EXPECT_EQ(budget.rest(1ms, 100ms), 0ns);
  EXPECT_GT(budget.rest(2ms, 300ms), 0ns);
}

TEST(CpuBudget, KeepsToItsShareInTheLongRun) {
  CpuBudget budget(10, 0s, 0s);
  std::chrono::nanoseconds wall = 0s, cpu = 0s;
  for (int i = 0; i < 10'000; ++i) {
    const auto rest = budget.rest(wall, cpu);
    wall += rest;
    if (rest > 0ns) continue;
    wall += 1ms;  // a slice
    cpu += 1ms;
  }
  EXPECT_LE(cpu, wall / 10 + CpuBudget::burst + 1ms);
  EXPECT_GE(cpu, wall / 11);
}

TEST(CpuBudget, RestsJustLongEnough) {
  CpuBudget budget(50, 0s, 0s);
  const auto rest = budget.rest(0s, CpuBudget::burst + 10ms);
  EXPECT_GE(rest, 20ms);
  EXPECT_LE(rest, 21ms);
  EXPECT_EQ(budget.rest(rest, CpuBudget::burst + 10ms), 0ns);
}

TEST(CpuBudget, AnotherShareCountsFromThenOn) {
  CpuBudget budget(10, 0s, 0s);
  const auto cpu = CpuBudget::burst + 10ms;
  EXPECT_GE(budget.rest(0s, cpu), 100ms);
  budget.set_percent(100);
  EXPECT_LE(budget.rest(0s, cpu), 11ms);
  EXPECT_EQ(budget.rest(11ms, cpu), 0ns);
}

TEST(LruMap, ForgetsTheLeastRecentlyUsed) {
  LruMap<int, int> map(2);
  map.put(1, 10);
  map.put(2, 20);
  ASSERT_NE(map.find(1), nullptr);
  map.put(3, 30);
  EXPECT_EQ(map.find(2), nullptr);
  EXPECT_EQ(*map.find(1), 10);
  EXPECT_EQ(*map.find(3), 30);
  EXPECT_EQ(map.evictions(), 1U);
  map.put(1, 11);
  EXPECT_EQ(*map.find(1), 11);
  EXPECT_EQ(map.size(), 2U);
}

}  // namespace
}  // namespace daemoneye::sensor
