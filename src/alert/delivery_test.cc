#include "alert/alert_test_util.h"
#include "alert/breaker.h"

namespace daemoneye::alert::testing {
namespace {

using namespace std::chrono_literals;
using Rows = std::vector<std::pair<std::int64_t, std::string>>;

TEST(Deliverer, DeliversInOrderAndEmptiesTheOutbox) {
  Rig rig;
  auto& sink = rig.add("a");
  rig.start();
  std::vector<std::string> ids;
  for (int i = 0; i < 200; ++i) ids.push_back("alert-" + std::to_string(i));
  rig.raise(ids);
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(sink.attempts(), ids);
  EXPECT_EQ(rig.state("a").delivered, 200U);
  EXPECT_EQ(rig.deliveries("a").size(), 200U);
  EXPECT_TRUE(rig.state("a").health.healthy);
}

TEST(Deliverer, DeliversWhatWasCommittedBeforeItStarted) {
  Rig rig;
  auto& sink = rig.add("a");
  rig.raise({"before"});
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(sink.attempts(), std::vector<std::string>{"before"});
}

TEST(Deliverer, RetriesLaterAndLetsOthersPass) {
  Rig rig;
  std::atomic<int> failures{1};
  auto& sink = rig.add("a", [&](const store::Alert& alert, const std::stop_token&) {
    if (alert.alert_id == "first" && failures-- > 0) return refused();
    return RecordingSink::Outcome(DeliveryResult{});
  });
  rig.start();
  rig.raise({"first", "second"});
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 1; }));
  EXPECT_EQ(sink.attempts(), (std::vector<std::string>{"first", "second"}));
  rig.advance(60s);
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(sink.attempts(), (std::vector<std::string>{"first", "second", "first"}));
  EXPECT_EQ(rig.deliveries("a"), (Rows{{1, "failed"}, {1, "delivered"}, {2, "delivered"}}));
}

TEST(Deliverer, GivesUpIntoTheDeadLetterAfterTheLastRetry) {
  Rig rig;
  auto& sink = rig.add("a", [](const store::Alert&, const std::stop_token&) { return refused(); });
  rig.start();
  rig.raise({"x"});
  for (std::size_t made = 1; made <= 4; ++made) {
    ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == made; })) << made;
    rig.advance(60s);
  }
  EXPECT_EQ(rig.deliveries("a"), (Rows{{1, "failed"}, {2, "failed"}, {3, "failed"}, {4, "dead_letter"}}));
  EXPECT_EQ(rig.state("a").dead_letters, 1U);
  EXPECT_FALSE(rig.state("a").health.healthy);
  EXPECT_EQ(sink.attempts().size(), 4U);
}

TEST(Deliverer, APermanentRefusalIsADeadLetterAtOnceAndDoesNotOpenTheBreaker) {
  Rig rig;
  rig.settings.breaker.failures = 1;
  auto& sink = rig.add("a", [](const store::Alert&, const std::stop_token&) { return refused(true); });
  rig.start();
  rig.raise({"x", "y"});
  ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == 2; }));
  EXPECT_EQ(rig.deliveries("a"), (Rows{{1, "dead_letter"}, {1, "dead_letter"}}));
  EXPECT_EQ(sink.attempts().size(), 2U);
  EXPECT_EQ(rig.state("a").breaker, "closed");
}

TEST(Deliverer, AnOpenBreakerKeepsAlertsWaitingWithoutUsingUpRetries) {
  Rig rig;
  rig.settings.breaker = {2, 30'000};
  std::atomic<bool> down{true};
  auto& sink = rig.add("a", [&](const store::Alert&, const std::stop_token&) {
    return down ? refused() : RecordingSink::Outcome(DeliveryResult{});
  });
  rig.start();
  rig.raise({"1", "2", "3", "4"});
  ASSERT_TRUE(eventually([&] { return rig.state("a").breaker == "open"; }));
  EXPECT_EQ(sink.attempts(), (std::vector<std::string>{"1", "2"}));
  // Ten probes fail: far more than the retries an alert has.
  for (std::size_t probe = 0; probe < 10; ++probe) {
    rig.advance(30s);
    ASSERT_TRUE(eventually([&] { return sink.attempts().size() == 3 + probe; })) << probe;
    ASSERT_TRUE(eventually([&] { return rig.state("a").breaker == "open"; })) << probe;
  }
  EXPECT_EQ(rig.state("a").dead_letters, 0U);
  EXPECT_EQ(rig.waiting("a"), 4U);
  down = false;
  ASSERT_TRUE(eventually([&] {
    rig.advance(30s);
    return rig.waiting("a") == 0;
  }));
  EXPECT_EQ(rig.state("a").delivered, 4U);
  EXPECT_EQ(rig.state("a").breaker, "closed");
}

TEST(Deliverer, WhatWaitedLongerThanAllowedBehindAnOpenBreakerIsADeadLetter) {
  Rig rig;
  rig.settings.breaker = {1, 1000};
  rig.settings.max_age_ms = 10'000;
  rig.add("a", [](const store::Alert&, const std::stop_token&) { return refused(); });
  rig.start();
  rig.raise({"1", "2", "3"});
  ASSERT_TRUE(eventually([&] { return rig.state("a").breaker == "open"; }));
  rig.advance(11s);
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(rig.state("a").dead_letters, 3U);
  EXPECT_EQ(rig.deliveries("a"), (Rows{{1, "failed"}, {1, "dead_letter"}, {1, "dead_letter"}, {1, "dead_letter"}}));
}

TEST(Deliverer, ASinkThatHangsDelaysNoOtherAndEndsWithTheStop) {
  Rig rig;
  rig.settings.max_parallel_deliveries = 2;
  std::atomic<bool> hanging{false};
  rig.add("hangs", [&](const store::Alert&, const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    hanging = true;
    never.wait(lock, stop, [] { return false; });
    return refused();
  });
  auto& healthy = rig.add("healthy");
  rig.start();
  std::vector<std::string> ids;
  for (int i = 0; i < 50; ++i) ids.push_back(std::to_string(i));
  rig.raise(ids);
  ASSERT_TRUE(eventually([&] { return rig.waiting("healthy") == 0 && hanging; }));
  EXPECT_EQ(healthy.attempts(), ids);
  rig.deliverer->stop(Deadline::after(0ms));
  rig.deliverer.reset();
  // Cut off by us: not an attempt that counts.
  EXPECT_EQ(rig.deliveries("hangs"), Rows{});
  EXPECT_EQ(rig.waiting("hangs"), 50U);
}

TEST(Deliverer, NothingIsLostWhenItEndsInTheMiddle) {
  Rig rig;
  std::vector<std::string> ids;
  for (int i = 0; i < 100; ++i) ids.push_back(std::to_string(i));
  std::map<std::string, int> received;
  std::mutex mutex;
  const auto take = [&](const store::Alert& alert, const std::stop_token&) {
    std::lock_guard lock(mutex);
    ++received[alert.alert_id];
    return RecordingSink::Outcome(DeliveryResult{});
  };
  rig.add("a", take);
  rig.raise(ids);
  for (int round = 0; round < 20 && rig.waiting("a") > 0; ++round) {
    rig.start();
    const std::size_t before = [&] {
      std::lock_guard lock(mutex);
      return received.size();
    }();
    eventually([&] {
      std::lock_guard lock(mutex);
      return received.size() > before || received.size() == ids.size();
    });
    rig.deliverer.reset();
    rig.sinks.push_back(std::make_unique<RecordingSink>("a", take));
  }
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(received.size(), ids.size());
}

TEST(Deliverer, StopFinishesTheAttemptUnderWayAndRecordsIt) {
  Rig rig;
  std::promise<void> entered, leave;
  auto leaving = leave.get_future().share();
  rig.add("a", [&](const store::Alert&, const std::stop_token&) {
    entered.set_value();
    leaving.wait();
    return RecordingSink::Outcome(DeliveryResult{});
  });
  rig.start();
  rig.raise({"x"});
  entered.get_future().wait();
  std::thread stopper([&] { rig.deliverer->stop(Deadline::after(20s)); });
  leave.set_value();
  stopper.join();
  EXPECT_EQ(rig.deliveries("a"), (Rows{{1, "delivered"}}));
  EXPECT_EQ(rig.waiting("a"), 0U);
}

TEST(Deliverer, ASinkThatThrowsHasFailed) {
  Rig rig;
  rig.add("a", [](const store::Alert&, const std::stop_token&) -> RecordingSink::Outcome {
    throw std::runtime_error("broken sink");
  });
  rig.start();
  rig.raise({"x"});
  ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == 1; }));
  EXPECT_NE(rig.state("a").health.reason.find("broken sink"), std::string::npos);
}

TEST(Route, TakesTheSinksWhoseSeverityIsReached) {
  config::SinkSettings all, only_critical;
  all.name = "all";
  only_critical.name = "critical";
  only_critical.min_severity = "critical";
  EXPECT_EQ(route({all, only_critical}, make_alert("x", store::Severity::high)), std::vector<std::string>{"all"});
  EXPECT_EQ(route({all, only_critical}, make_alert("x", store::Severity::critical)),
            (std::vector<std::string>{"all", "critical"}));
}

TEST(Breaker, OpensAfterFailuresInARowOnly) {
  Breaker breaker(3, 10s);
  const Timestamp now{1'000'000'000'000};
  breaker.failed(now);
  breaker.failed(now);
  breaker.succeeded();
  breaker.failed(now);
  breaker.failed(now);
  EXPECT_EQ(breaker.state(now), Breaker::State::closed);
  breaker.failed(now);
  EXPECT_EQ(breaker.state(now), Breaker::State::open);
  const Timestamp later{now.ns + 10'000'000'000};
  EXPECT_EQ(breaker.state(Timestamp{later.ns - 1}), Breaker::State::open);
  EXPECT_EQ(breaker.state(later), Breaker::State::half_open);
  breaker.failed(later);
  EXPECT_EQ(breaker.state(later), Breaker::State::open);
  EXPECT_EQ(breaker.open_until().ns, later.ns + 10'000'000'000);
}

}  // namespace
}  // namespace daemoneye::alert::testing
