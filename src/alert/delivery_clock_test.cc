// A clock that jumps, a sink that was away for long, and an alert that its receiver cannot digest.
#include "alert/alert_test_util.h"
#include "alert/lane.h"

namespace daemoneye::alert::testing {
namespace {

using namespace std::chrono_literals;

// More than a loop of small steps can make up for while a test waits.
constexpr auto very_long = 24h * 400;

// Step by step, as a clock goes, until it holds.
bool in_time(Rig& rig, const std::function<bool()>& condition) {
  return eventually([&] {
    rig.advance(30s);
    return condition();
  });
}

RecordingSink::Answer fails_first(std::atomic<int>& failures, std::optional<std::chrono::milliseconds> retry_after) {
  return [&failures, retry_after](const store::Alert&, const std::stop_token&) -> RecordingSink::Outcome {
    if (failures-- > 0) return std::unexpected(DeliveryError{"busy", false, 429, retry_after});
    return DeliveryResult{};
  };
}

TEST(DelivererClock, ARetryIsMadeAfterTheClockWasSetBack) {
  Rig rig;
  std::atomic<int> failures{1};
  rig.add("a", fails_first(failures, {}));
  rig.start();
  rig.raise({"x"});
  ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == 1; }));
  rig.advance(-very_long);
  EXPECT_TRUE(in_time(rig, [&] { return rig.waiting("a") == 0; }));
}

TEST(DelivererClock, AskedToWaitASinkIsNotKeptWaitingByAClockThatWasSetBack) {
  Rig rig;
  std::atomic<int> failures{1};
  rig.add("a", fails_first(failures, 10s));
  rig.start();
  rig.raise({"x"});
  ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == 1; }));
  rig.advance(-very_long);
  rig.raise({"y"});
  EXPECT_TRUE(in_time(rig, [&] { return rig.waiting("a") == 0; }));
}

TEST(DelivererClock, ASummaryIsWrittenAfterTheClockWasSetBack) {
  Rig rig;
  rig.add("a");
  rig.settings.sinks[0].rate_limit = {1, 60'000};
  rig.start();
  rig.raise({"1", "2"});
  ASSERT_TRUE(eventually([&] { return rig.state("a").delivered == 1; }));
  rig.advance(-very_long);
  EXPECT_TRUE(in_time(rig, [&] { return rig.state("a").delivered == 2; }));
}

TEST(DelivererClock, ARepetitionIsNotMergedIntoAnAlertOfTheFuture) {
  Rig rig;
  auto& sink = rig.add("a");
  rig.start();
  const auto raise = [&](const std::string& id) {
    store::Writer::Raise one;
    one.alert = make_alert(id);
    one.alert.dedup_key = "the same";
    one.alert.time = one.alert.last_seen = rig.clock.now();
    one.dedup_window = 300s;
    one.sinks = route(rig.settings.sinks, one.alert);
    std::promise<bool> merged;
    rig.writer->raise({one}, std::nullopt, [&](auto result) { merged.set_value(result && result->front().merged); });
    const bool was_merged = merged.get_future().get();
    rig.deliverer->wake();
    return was_merged;
  };
  EXPECT_FALSE(raise("first"));
  rig.advance(-60s);
  EXPECT_TRUE(raise("within the window")) << "set back by less than the window";
  rig.advance(-24h * 30);
  EXPECT_FALSE(raise("after the clock was set back"));
  rig.advance(10s);
  EXPECT_TRUE(raise("repeated"));
  rig.advance(1h);
  EXPECT_FALSE(raise("later"));
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(sink.attempts(), (std::vector<std::string>{"first", "after the clock was set back", "later"}));
}

TEST(DelivererClock, AfterALongStopASinkThatIsBackGetsWhatWaitedLongerThanAllowed) {
  Rig rig;
  const std::vector<std::string> ids{"1", "2", "3", "4", "5", "6", "7"};
  rig.add("a", [](const store::Alert&, const std::stop_token&) { return refused(); });
  rig.start();
  rig.raise(ids);
  ASSERT_TRUE(eventually([&] { return rig.state("a").breaker == "open" && rig.deliveries("a").size() == 5; }));
  rig.deliverer.reset();
  rig.clock.advance(48h);
  rig.settings.sinks.clear();
  auto& back = rig.add("a");
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(back.attempts().size(), ids.size());
  EXPECT_EQ(rig.state("a").dead_letters, 0U);
}

TEST(DelivererClock, WhatAReceiverAskedForHoldsAfterARestart) {
  Rig rig;
  std::atomic<int> failures{1};
  rig.add("a", fails_first(failures, 40s));
  rig.add("b");
  rig.start();
  rig.raise({"1"});
  ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == 1; }));
  rig.deliverer.reset();
  rig.settings.sinks.clear();
  auto& again = rig.add("a");
  rig.add("b");
  rig.start();
  rig.raise({"2"});
  rig.advance(30s);
  rig.raise({"3"});
  ASSERT_TRUE(eventually([&] { return rig.waiting("b") == 0; }));
  EXPECT_EQ(again.attempts(), std::vector<std::string>{});
  rig.advance(11s);
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(again.attempts().size(), 3U);
}

TEST(Deliverer, AnAlertThatItsReceiverCannotDigestDoesNotKeepTheOthersWaiting) {
  Rig rig;
  rig.settings.max_age_ms = std::chrono::milliseconds(very_long * 100).count();  // nothing ends by its age
  std::atomic<int> good{0};
  rig.add("a", [&](const store::Alert& alert, const std::stop_token&) {
    if (alert.alert_id.starts_with("poison")) return refused();
    ++good;
    return RecordingSink::Outcome(DeliveryResult{});
  });
  rig.start();
  rig.raise({"poison 1", "poison 2", "poison 3"});
  ASSERT_TRUE(in_time(rig, [&] { return rig.state("a").breaker != "closed"; }));
  std::vector<std::string> ids;
  for (int i = 0; i < 20; ++i) ids.push_back("good " + std::to_string(i));
  rig.raise(ids);
  EXPECT_TRUE(in_time(rig, [&] { return good == 20; })) << good << " of 20";
}

TEST(Deliverer, WhileTheClockRunsAFlappingSinkGetsEachAlertOnceOrItIsGivenUp) {
  Rig rig;
  rig.settings.breaker = {3, 1000};
  rig.settings.max_age_ms = 600'000;
  std::atomic<int> turn{0};
  std::mutex mutex;
  std::map<std::string, int> delivered;
  rig.add("flaps", [&](const store::Alert& alert, const std::stop_token&) {
    if (turn++ % 2 == 0) return refused();
    const std::lock_guard lock(mutex);
    ++delivered[alert.alert_id];
    return RecordingSink::Outcome(DeliveryResult{});
  });
  rig.add("down", [](const store::Alert&, const std::stop_token&) { return refused(); });
  rig.start();
  std::vector<std::string> ids;
  for (int i = 0; i < 300; ++i) ids.push_back(std::to_string(i));
  rig.raise(ids);
  ASSERT_TRUE(in_time(rig, [&] { return rig.waiting("flaps") == 0 && rig.waiting("down") == 0; }));
  const auto flaps = rig.state("flaps");
  EXPECT_EQ(flaps.dead_letters + flaps.delivered, 300U) << flaps.dead_letters << " + " << flaps.delivered;
  EXPECT_EQ(rig.state("down").dead_letters, 300U);
  const std::lock_guard lock(mutex);
  EXPECT_EQ(delivered.size(), flaps.delivered);
  for (const auto& [id, times] : delivered) EXPECT_EQ(times, 1) << id;
}

TEST(Deliverer, TellsItsStateWhileOthersHoldEveryReader) {
  Rig rig;
  rig.add("a", [](const store::Alert&, const std::stop_token&) { return refused(true); });
  rig.start();
  rig.raise({"1", "2"});
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  std::vector<store::ReaderLease> leases;
  while (auto lease = rig.readers->take(Deadline::after(0s))) leases.push_back(*std::move(lease));
  EXPECT_EQ(rig.state("a").dead_letters, 2U);
  EXPECT_EQ(rig.state("a").health.reason, "refused");
  EXPECT_EQ(rig.deliverer->retired(), (std::map<std::string, std::uint64_t>{}));
}

store::Delivery delivery(std::int64_t id, std::uint32_t attempts) {
  store::Delivery one;
  one.outbox_id = id;
  one.attempts = attempts;
  return one;
}

TEST(Lane, ProbesWithAFirstAttemptAndARetryInTurnAndEachRetryInTurn) {
  Lane lane("a", "test", std::make_unique<RecordingSink>("a"), Breaker(1, 1s));
  lane.add_retries({delivery(1, 1), delivery(2, 1)});
  lane.fetched.push_back(delivery(3, 0));
  lane.fetched.push_back(delivery(4, 0));
  std::vector<std::int64_t> probed;
  for (int i = 0; i < 7; ++i) {
    const auto task = lane.take(true);
    probed.push_back(task.outbox_id);
    lane.add_retries({delivery(task.outbox_id, 1)});  // it failed, and is due again
  }
  EXPECT_EQ(probed, (std::vector<std::int64_t>{3, 1, 4, 2, 3, 1, 4}));
  EXPECT_EQ(lane.take(false).outbox_id, 2) << "otherwise in order";
}

}  // namespace
}  // namespace daemoneye::alert::testing
