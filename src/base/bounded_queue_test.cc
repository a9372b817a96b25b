#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <chrono>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace daemoneye::base {
namespace {

const auto at_once = std::chrono::nanoseconds(0);
Deadline soon() { return Deadline::after(std::chrono::milliseconds(1)); }
// Long enough to be no limit where the test works, and an end where it does not.
Deadline patience() { return Deadline::after(std::chrono::seconds(60)); }

TEST(BoundedQueue, GivesBackInOrder) {
  BoundedQueue<int> queue("q", 3, OnFull::wait);
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(queue.push(i), Push::accepted);
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(queue.pop(), i);
  EXPECT_EQ(queue.pop(Deadline::after(at_once)), std::nullopt);
  EXPECT_EQ(queue.name(), "q");
  EXPECT_EQ(queue.capacity(), 3U);
}

TEST(BoundedQueue, WaitTimesOutAndDropsNothing) {
  BoundedQueue<int> queue("q", 1, OnFull::wait);
  EXPECT_EQ(queue.push(1), Push::accepted);
  EXPECT_EQ(queue.push(2, soon()), Push::timed_out);
  const auto counters = queue.counters();
  EXPECT_EQ(counters.pushed, 1U);
  EXPECT_EQ(counters.dropped, 0U);
  EXPECT_EQ(queue.pop(), 1);
}

TEST(BoundedQueue, WaitGoesOnWhenThereIsRoom) {
  BoundedQueue<int> queue("q", 1, OnFull::wait);
  EXPECT_EQ(queue.push(1), Push::accepted);
  std::jthread pusher([&] { EXPECT_EQ(queue.push(2), Push::accepted); });
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.pop(patience()), 2);
}

TEST(BoundedQueue, DropOldestKeepsTheNewest) {
  BoundedQueue<int> queue("q", 2, OnFull::drop_oldest);
  EXPECT_EQ(queue.push(1), Push::accepted);
  EXPECT_EQ(queue.push(2), Push::accepted);
  EXPECT_EQ(queue.push(3), Push::dropped_oldest);
  const auto counters = queue.counters();
  EXPECT_EQ(counters.pushed, 3U);
  EXPECT_EQ(counters.dropped, 1U);
  EXPECT_EQ(counters.depth, 2U);
  EXPECT_EQ(counters.highest_depth, 2U);
  EXPECT_EQ(queue.pop(), 2);
  EXPECT_EQ(queue.pop(), 3);
}

TEST(BoundedQueue, DropNewestKeepsTheOldest) {
  BoundedQueue<int> queue("q", 2, OnFull::drop_newest);
  EXPECT_EQ(queue.push(1), Push::accepted);
  EXPECT_EQ(queue.push(2), Push::accepted);
  EXPECT_EQ(queue.push(3), Push::dropped_newest);
  EXPECT_EQ(queue.counters().pushed, 2U);
  EXPECT_EQ(queue.counters().dropped, 1U);
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.pop(), 2);
  EXPECT_EQ(queue.counters().popped, 2U);
}

TEST(BoundedQueue, CloseRefusesPushesAndLetsTheRestOut) {
  for (const auto policy : {OnFull::wait, OnFull::drop_oldest, OnFull::drop_newest}) {
    BoundedQueue<int> queue("q", 1, policy);
    EXPECT_EQ(queue.push(1), Push::accepted);
    queue.close();
    EXPECT_EQ(queue.push(2), Push::closed) << to_string(policy);
    EXPECT_EQ(queue.counters().dropped, 0U);
    EXPECT_EQ(queue.pop(), 1);
    EXPECT_EQ(queue.pop(), std::nullopt);
  }
}

TEST(BoundedQueue, CloseWakesWhoWaits) {
  BoundedQueue<int> full("full", 1, OnFull::wait), empty("empty", 1, OnFull::wait);
  EXPECT_EQ(full.push(1), Push::accepted);
  std::latch started(2);
  std::jthread pusher([&] {
    started.count_down();
    EXPECT_EQ(full.push(2), Push::closed);
  });
  std::jthread popper([&] {
    started.count_down();
    EXPECT_EQ(empty.pop(), std::nullopt);
  });
  started.wait();
  full.close();
  empty.close();
}

TEST(BoundedQueue, AStopWakesTheReader) {
  BoundedQueue<int> queue("q", 1, OnFull::wait);
  std::latch started(1);
  std::jthread reader([&](std::stop_token stop) {
    started.count_down();
    EXPECT_EQ(queue.pop(Deadline::never(), stop), std::nullopt);
  });
  started.wait();
  reader.request_stop();
}

TEST(BoundedQueue, ANullCapacityIsOne) {
  BoundedQueue<int> queue("q", 0, OnFull::drop_newest);
  EXPECT_EQ(queue.capacity(), 1U);
  EXPECT_EQ(queue.push(1), Push::accepted);
}

TEST(BoundedQueue, HoldsWhatCannotBeCopied) {
  BoundedQueue<std::unique_ptr<int>> queue("q", 1, OnFull::wait);
  queue.push(std::make_unique<int>(5));
  EXPECT_EQ(**queue.pop(), 5);
}

TEST(BoundedQueue, ManyThreadsLoseAndRepeatNothing) {
  constexpr int writers = 3, each = 2000;
  BoundedQueue<int> queue("q", 8, OnFull::wait);
  std::vector<std::jthread> threads;
  for (int w = 0; w < writers; ++w) {
    threads.emplace_back([&queue, w] {
      for (int i = 0; i < each; ++i) queue.push(w * each + i);
    });
  }
  std::vector<int> seen(writers * each);
  for (int i = 0; i < writers * each; ++i) {
    const auto item = queue.pop(patience());
    ASSERT_TRUE(item);
    ++seen[static_cast<std::size_t>(*item)];
  }
  for (const int count : seen) ASSERT_EQ(count, 1);
  const auto counters = queue.counters();
  EXPECT_EQ(counters.pushed, counters.popped);
  EXPECT_LE(counters.highest_depth, 8U);
  EXPECT_EQ(counters.dropped, 0U);
}

}  // namespace
}  // namespace daemoneye::base
