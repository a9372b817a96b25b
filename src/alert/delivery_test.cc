#include <algorithm>

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

TEST(Deliverer, AnAlertThatCannotBeReadIsADeadLetterAndTheOthersPass) {
  Rig rig;
  auto& sink = rig.add("a");
  rig.raise({"x", "y", "z"});
  rig.change([](db::StatementCache& statements) {
    return statements.database().execute("UPDATE alerts SET completeness='?' WHERE alert_id='y'");
  });
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(sink.attempts(), (std::vector<std::string>{"x", "z"}));
  EXPECT_EQ(rig.state("a").dead_letters, 1U);
  ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == 3; }));
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

TEST(Deliverer, NoMoreAreUnderWayThanAllowedOverAllSinks) {
  Rig rig;
  rig.settings.max_parallel_deliveries = 3;
  rig.slow_after = 1h;  // none gives its place away
  std::atomic<int> now{0}, most{0};
  const auto count = [&](const store::Alert&, const std::stop_token&) {
    const int with_me = ++now;
    for (int seen = most; with_me > seen && !most.compare_exchange_weak(seen, with_me);) {
    }
    // Until as many are there as may be, so that one too many would be seen.
    eventually([&] { return most >= 3; });
    --now;
    return RecordingSink::Outcome(DeliveryResult{});
  };
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) rig.add(name, count);
  rig.start();
  rig.raise({"1", "2", "3", "4", "5"});
  for (const char* name : {"a", "b", "c", "d", "e", "f"})
    ASSERT_TRUE(eventually([&] { return rig.waiting(name) == 0; })) << name;
  EXPECT_EQ(most, 3);
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

TEST(Deliverer, ARetryThatTheReceiverAskedForWaitsAsLongAndTheSinkWithIt) {
  Rig rig;
  std::atomic<int> refusals{1};
  auto& sink = rig.add("a", [&](const store::Alert&, const std::stop_token&) {
    if (refusals-- <= 0) return RecordingSink::Outcome(DeliveryResult{});
    return RecordingSink::Outcome(std::unexpected(DeliveryError{"slow down", false, 429, 30s}));
  });
  rig.start();
  rig.raise({"1", "2"});
  ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == 1; }));
  rig.advance(29s);
  rig.raise({"3"});
  rig.advance(0s);
  EXPECT_EQ(sink.attempts(), std::vector<std::string>{"1"}) << "it is the sink that asked, not one alert";
  rig.advance(2s);
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  // Whether the retry goes before the first attempts depends on when the clock was looked at.
  auto rows = rig.deliveries("a");
  std::ranges::sort(rows);
  EXPECT_EQ(rows, (Rows{{1, "delivered"}, {1, "delivered"}, {1, "failed"}, {2, "delivered"}}));
}

TEST(Deliverer, WhatAReceiverAsksForIsBounded) {
  Rig rig;
  std::atomic<int> refusals{1};
  rig.add("a", [&](const store::Alert&, const std::stop_token&) {
    if (refusals-- <= 0) return RecordingSink::Outcome(DeliveryResult{});
    return RecordingSink::Outcome(std::unexpected(DeliveryError{"come back tomorrow", false, 503, 24h}));
  });
  rig.start();
  rig.raise({"1"});
  ASSERT_TRUE(eventually([&] { return rig.deliveries("a").size() == 1; }));
  rig.advance(61s);
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
}

TEST(Deliverer, AnOpenBreakerIsOpenAfterARestart) {
  Rig rig;
  rig.settings.breaker = {2, 30'000};
  const auto refuses = [](const store::Alert&, const std::stop_token&) { return refused(); };
  rig.add("a", refuses);
  rig.start();
  rig.raise({"1", "2", "3"});
  ASSERT_TRUE(eventually([&] { return rig.state("a").breaker == "open" && rig.deliveries("a").size() == 2; }));
  rig.deliverer.reset();
  auto again = std::make_unique<RecordingSink>("a");
  auto& sink = *again;
  rig.sinks.push_back(std::move(again));
  rig.start();
  EXPECT_EQ(rig.state("a").breaker, "open");
  EXPECT_EQ(rig.state("a").last_error, "refused");
  rig.advance(29s);
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 3; }));
  EXPECT_EQ(sink.attempts(), std::vector<std::string>{});
  rig.advance(40s);
  ASSERT_TRUE(eventually([&] { return rig.waiting("a") == 0; }));
  EXPECT_EQ(rig.state("a").breaker, "closed");
  EXPECT_EQ(rig.state("a").last_error, "");
}

TEST(Deliverer, HangingSlowRefusingAndFlappingSinksDelayNoOther) {
  Rig rig;
  rig.settings.max_parallel_deliveries = 2;  // fewer places than sinks that hang
  rig.slow_after = 5ms;
  rig.settings.breaker = {3, 1000};
  // The clock below runs as fast as it can: nothing ends by its age.
  rig.settings.max_age_ms = std::chrono::milliseconds(24h * 36'500).count();
  const auto hang = [](const store::Alert&, const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait(lock, stop, [] { return false; });
    return refused();
  };
  std::atomic<int> slow_ones{0}, turn{0};
  for (const char* name : {"hangs", "hangs too", "hangs as well"}) rig.add(name, hang);
  rig.add("slow", [&](const store::Alert&, const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, stop, 20ms, [] { return false; });
    ++slow_ones;
    return RecordingSink::Outcome(DeliveryResult{});
  });
  rig.add("refuses", [](const store::Alert&, const std::stop_token&) { return refused(true); });
  rig.add("down", [](const store::Alert&, const std::stop_token&) { return refused(); });
  rig.add("flaps", [&](const store::Alert&, const std::stop_token&) {
    return turn++ % 2 == 0 ? refused() : RecordingSink::Outcome(DeliveryResult{});
  });
  auto& healthy = rig.add("healthy");
  rig.start();
  std::vector<std::string> ids;
  for (int i = 0; i < 300; ++i) ids.push_back(std::to_string(i));
  rig.raise(ids);
  ASSERT_TRUE(eventually([&] { return rig.waiting("healthy") == 0; }));
  EXPECT_EQ(healthy.attempts(), ids) << "each once, in order";
  EXPECT_LT(slow_ones, 300) << "it waited for none of the others";
  ASSERT_TRUE(eventually([&] { return rig.state("refuses").dead_letters == 300; }));
  ASSERT_TRUE(eventually([&] {
    rig.advance(30s);
    return rig.waiting("flaps") == 0;
  }));
  const auto flaps = rig.state("flaps");
  EXPECT_EQ(flaps.dead_letters + flaps.delivered, 300U)
      << flaps.dead_letters << " + " << flaps.delivered << " " << flaps.health.reason;
  EXPECT_EQ(rig.waiting("down"), 300U);
  EXPECT_EQ(rig.waiting("hangs"), 300U);
  rig.deliverer->stop(Deadline::after(0ms));
}

TEST(Deliverer, HoldsAWindowOfTheOutboxInMemoryAndNotAllOfIt) {
  Rig rig;
  std::atomic<bool> up{false};
  rig.add("a", [&](const store::Alert&, const std::stop_token&) {
    return up ? RecordingSink::Outcome(DeliveryResult{}) : refused();
  });
  rig.settings.breaker = {2, 30'000};
  rig.start();
  std::vector<std::string> ids;
  for (int i = 0; i < 5000; ++i) ids.push_back(std::to_string(i));
  rig.raise(ids);
  ASSERT_TRUE(eventually([&] { return rig.state("a").breaker == "open"; }));
  EXPECT_LE(rig.deliverer->in_memory("a"), 1024U);
  EXPECT_GE(rig.deliverer->in_memory("a"), 1U);
  up = true;
  ASSERT_TRUE(eventually([&] {
    rig.advance(30s);
    return rig.waiting("a") == 0;
  }));
  EXPECT_EQ(rig.state("a").delivered, 5000U);
  EXPECT_EQ(rig.deliverer->in_memory("a"), 0U);
}

TEST(Deliverer, WhatWaitsForASinkThatIsNotConfiguredAnyMoreIsADeadLetterAndCanBeTriedWhenItIsBack) {
  Rig rig;
  rig.add("a");
  rig.add("b");
  std::vector<std::string> ids;
  for (int i = 0; i < 1200; ++i) ids.push_back(std::to_string(i));  // more than one change takes
  rig.raise(ids);
  rig.settings.sinks.pop_back();
  rig.sinks.pop_back();
  rig.start();
  ASSERT_TRUE(eventually([&] { return rig.waiting("b") == 0; }));
  EXPECT_EQ(rig.deliverer->retired(), (std::map<std::string, std::uint64_t>{{"b", 1200}}));
  EXPECT_EQ(rig.deliveries("b").size(), 1200U);
  rig.deliverer.reset();
  rig.sinks.push_back(std::make_unique<RecordingSink>("a"));
  auto& back = rig.add("b");
  rig.start();
  rig.retry_dead_letters("b");
  ASSERT_TRUE(eventually([&] { return rig.state("b").delivered == 1200; }));
  EXPECT_EQ(back.attempts(), ids);
  EXPECT_EQ(rig.state("b").dead_letters, 0U);
}

TEST(Deliverer, ARateLimitEndsInASummaryWhenItsWindowIsOver) {
  Rig rig;
  std::vector<store::Alert> sent;
  std::mutex mutex;
  rig.add("a", [&](const store::Alert& alert, const std::stop_token&) {
    const std::lock_guard lock(mutex);
    sent.push_back(alert);
    return RecordingSink::Outcome(DeliveryResult{});
  });
  rig.settings.sinks[0].rate_limit = {2, 60'000};
  rig.start();
  rig.raise({"1", "2", "3", "4", "5"});
  ASSERT_TRUE(eventually([&] { return rig.state("a").delivered == 2; }));
  rig.advance(59s);
  EXPECT_EQ(rig.state("a").delivered, 2U);
  ASSERT_TRUE(eventually([&] {
    rig.advance(1s);
    return rig.state("a").delivered == 3;
  }));
  const std::lock_guard lock(mutex);
  EXPECT_EQ(sent.back().rule_id, store::rate_limit_rule);
  EXPECT_EQ(sent.back().title, "3 alerts were held back by the rate limit of sink a");
}

TEST(Deliverer, ATestOfTheSinksTellsOfEachAndMovesNothing) {
  Rig rig;
  rig.settings.breaker.failures = 1;
  auto& good = rig.add("good");
  rig.add("bad", [](const store::Alert&, const std::stop_token&) { return refused(); });
  rig.add("hangs", [](const store::Alert&, const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait(lock, stop, [] { return false; });
    return refused();
  });
  rig.start();
  const auto results = rig.deliverer->test("", Deadline::after(100ms));
  ASSERT_TRUE(results) << results.error().message;
  ASSERT_EQ(results->size(), 3U);
  EXPECT_TRUE((*results)[0].delivered);
  EXPECT_EQ((*results)[1].error, "refused");
  EXPECT_FALSE((*results)[2].delivered);
  EXPECT_EQ(rig.deliverer->test("none", Deadline::after(1s)).error().code, Errc::not_found);
  ASSERT_EQ(good.attempts().size(), 1U);
  EXPECT_TRUE(good.attempts()[0].starts_with("sink-test-"));
  EXPECT_EQ(rig.state("bad").breaker, "closed");
  EXPECT_EQ(rig.state("good").delivered, 0U);
  ASSERT_TRUE(eventually([&] { return rig.deliveries("good") == Rows{{0, "delivered"}}; }));
  EXPECT_EQ(rig.deliveries("bad"), (Rows{{0, "failed"}}));
}

TEST(Route, TakesTheSinksWhoseSeverityIsReached) {
  config::SinkSettings all, only_critical;
  all.name = "all";
  only_critical.name = "critical";
  only_critical.min_severity = "critical";
  EXPECT_EQ(route({all, only_critical}, make_alert("x", store::Severity::high)), std::vector<store::Route>{"all"});
  EXPECT_EQ(route({all, only_critical}, make_alert("x", store::Severity::critical)),
            (std::vector<store::Route>{"all", "critical"}));
}

TEST(Route, ByRulesAndTagsWhereExcludeIsStronger) {
  config::SinkSettings sink;
  sink.name = "a";
  auto alert = make_alert("x");
  alert.rule_id = "web-shell";
  alert.tags = {"attack.t1059.004", "web"};
  const auto wanted = [&] { return !route({sink}, alert).empty(); };
  EXPECT_TRUE(wanted());
  sink.rules.include = {"db-*", "web-*"};
  EXPECT_TRUE(wanted());
  sink.tags.include = {"attack.t1059*"};
  EXPECT_TRUE(wanted());
  sink.tags.exclude = {"we?"};
  EXPECT_FALSE(wanted());
  sink.tags.exclude = {};
  sink.rules.exclude = {"*-shell"};
  EXPECT_FALSE(wanted());
  sink.rules.exclude = {};
  alert.tags = {};
  EXPECT_FALSE(wanted()) << "an alert without tags has none that is wanted";
  sink.tags.include = {};
  alert.rule_id = "other";
  EXPECT_FALSE(wanted());
}

TEST(Breaker, IsAfterARestartAsItWasButNeverOpenForLongerThanToday) {
  Breaker breaker(3, 10s);
  const Timestamp now{1'000'000'000'000};
  breaker.restore(Breaker::State::open, 7, Timestamp{now.ns + 5'000'000'000}, now);
  EXPECT_EQ(breaker.state(now), Breaker::State::open);
  EXPECT_EQ(breaker.state(Timestamp{now.ns + 5'000'000'000}), Breaker::State::half_open);
  breaker.restore(Breaker::State::open, 7, Timestamp{now.ns + 3'600'000'000'000}, now);
  EXPECT_EQ(breaker.open_until().ns, now.ns + 10'000'000'000);
  EXPECT_EQ(breaker.state(Timestamp{now.ns - 60'000'000'000}), Breaker::State::open) << "a clock that was set back";
  EXPECT_EQ(breaker.open_until().ns, now.ns - 50'000'000'000);
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
