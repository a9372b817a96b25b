#include "collector/collector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>

namespace daemoneye::collector {
namespace {

using sensor::Depth;

struct Scans {
  std::vector<Depth> depths;
  std::vector<sensor::RawProcess> processes;
  std::chrono::nanoseconds cost{0};  // of processor time
  bool fails = false;                // after half of the processes
};

class FakeSnapshot final : public sensor::Snapshot {
 public:
  explicit FakeSnapshot(Scans& scans, std::string_view name = "fake") : scans_(scans), name_(name) {}
  [[nodiscard]] std::string_view name() const override { return name_; }
  Result<sensor::SnapshotResult> scan(Depth depth,
                                      const std::function<void(const sensor::RawProcess&)>& each) override {
    scans_.depths.push_back(depth);
    const auto cpu = [] {
      timespec time{};
      ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
      return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
    };
    for (const auto begin = cpu(); cpu() - begin < scans_.cost;) {
    }
    std::size_t left = scans_.fails ? scans_.processes.size() / 2 : SIZE_MAX;
    for (auto process : scans_.processes) {
      if (left-- == 0) break;
      process.counters_only = depth == Depth::counters;
      each(process);
    }
    if (scans_.fails) return fail(Errc::permission_denied, "not permitted");
    return sensor::SnapshotResult{.processes = scans_.processes.size(), .unreadable = {}};
  }

 private:
  Scans& scans_;
  std::string_view name_;
};

class FakeSource final : public sensor::Source {
 public:
  using OnEvent = std::function<void(const sensor::RawEvent&)>;
  FakeSource(sensor::SourceCounters& counters, std::vector<sensor::RawEvent>& waiting)
      : counters_(counters), waiting_(waiting) {}
  [[nodiscard]] event::EventSource kind() const override { return event::EventSource::ebpf; }
  [[nodiscard]] std::string_view name() const override { return "fake"; }
  Result<void> start(EventLoop&, OnEvent on_event, std::function<void(const Error&)>) override {
    on_event_ = std::move(on_event);
    return {};
  }
  void poll() override {
    for (const auto& event : std::exchange(waiting_, {})) on_event_(event);
  }
  [[nodiscard]] sensor::SourceCounters counters() const override { return counters_; }
  void stop() override {}

 private:
  sensor::SourceCounters& counters_;
  std::vector<sensor::RawEvent>& waiting_;
  OnEvent on_event_;
};

class FakeHasher final : public sensor::Hasher {
 public:
  struct Heard {
    std::vector<sensor::HashRequest> requests;
    OnAnswer answer;
    unsigned cpu_percent = 0;
  };
  explicit FakeHasher(Heard& heard) : heard_(heard) {}
  Result<void> start(EventLoop&, OnAnswer on_answer) override {
    heard_.answer = std::move(on_answer);
    return {};
  }
  bool submit(sensor::HashRequest request) override {
    heard_.requests.push_back(std::move(request));
    return true;
  }
  [[nodiscard]] sensor::HasherCounters counters() const override { return {}; }
  [[nodiscard]] std::string problem() const override { return {}; }
  void set_cpu_percent(unsigned percent) override { heard_.cpu_percent = percent; }
  void stop() override {}

 private:
  Heard& heard_;
};

class CollectorTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/daemoneye-collector-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    loop_ = std::move(*EventLoop::create());
    sensor::RawProcess init;
    init.pid = 1;
    init.start_ticks = 1;
    init.comm = "init";
    scans_.processes.push_back(init);
  }
  void TearDown() override {
    collector_.reset();
    std::filesystem::remove_all(folder_);
  }
  void start(Collector::Options options) {
    auto ledger = ledger::Ledger::open({.path = folder_ + "/audit.redb", .reader_group = ""});
    ASSERT_TRUE(ledger) << ledger.error().message;
    Collector::Parts parts;
    parts.source = std::make_unique<FakeSource>(source_, waiting_);
    parts.hashes = std::make_unique<Hashes>(Hashes::Options{}, std::make_unique<FakeHasher>(hasher_));
    parts.snapshot = std::make_unique<FakeSnapshot>(scans_);
    if (!spare_.processes.empty()) parts.spare_snapshot = std::make_unique<FakeSnapshot>(spare_, "spare");
    parts.ledger = std::move(*ledger);
    collector_ = std::make_unique<Collector>(*loop_, std::move(options), std::move(parts),
                                             [] { return std::map<std::string, std::string>{}; });
    ASSERT_TRUE(collector_->start());
  }
  static Collector::Options often() {
    Collector::Options options;
    options.scan_interval = std::chrono::milliseconds(1);
    options.scan_cpu_percent = 0;  // no bound
    return options;
  }
  void run_until(const std::function<bool()>& done) {
    const auto deadline = Deadline::after(std::chrono::seconds(20));
    auto timer = loop_->add_timer(std::chrono::microseconds(100), std::chrono::microseconds(100), [&] {
      if (done() || deadline.expired()) loop_->stop();
    });
    ASSERT_TRUE(timer);
    loop_->run();
    loop_->remove_timer(*timer);
    ASSERT_TRUE(done()) << "not reached before the deadline";
  }
  [[nodiscard]] std::string detail(const std::string& name) const {
    for (const auto& component : collector_->health()) {
      if (component.component == "collector") return component.details.at(name);
    }
    return {};
  }

  std::string folder_;
  std::unique_ptr<EventLoop> loop_;
  Scans scans_, spare_;  // without processes there is no spare one
  sensor::SourceCounters source_;
  std::vector<sensor::RawEvent> waiting_;  // in the ring
  FakeHasher::Heard hasher_;
  std::unique_ptr<Collector> collector_;
};

TEST_F(CollectorTest, LooksAtEverythingFirstAndThenAtCountersAndNowAndThenAtEverythingAgain) {
  start(often());
  constexpr std::size_t every = Collector::full_scan_every;
  run_until([&] { return scans_.depths.size() > 2 * every; });
  for (std::size_t i = 0; i <= 2 * every; ++i) {
    EXPECT_EQ(scans_.depths[i], i % every == 0 ? Depth::full : Depth::counters) << "scan " << i;
  }
}

TEST_F(CollectorTest, LooksAtEverythingAtOnceWhenCountersMeetAProcessThatIsNotKnown) {
  start(often());
  sensor::RawProcess missed;
  missed.pid = 50;
  missed.start_ticks = 50;
  missed.comm = "missed";
  scans_.processes.push_back(missed);
  run_until([&] { return scans_.depths.size() >= 4; });
  EXPECT_EQ((std::vector(scans_.depths.begin(), scans_.depths.begin() + 4)),
            (std::vector{Depth::full, Depth::counters, Depth::full, Depth::counters}));
  EXPECT_EQ(detail("processes"), "2");
}

TEST_F(CollectorTest, ASnapshotThatFailsIsReplacedUntilItWorksAgain) {
  for (event::Pid pid = 2; pid <= 5; ++pid) {
    sensor::RawProcess process;
    process.pid = pid;
    process.start_ticks = pid;
    process.comm = "task";
    scans_.processes.push_back(process);
  }
  spare_.processes = scans_.processes;
  start(often());
  EXPECT_EQ(detail("snapshot"), "fake");
  scans_.fails = true;
  run_until([&] { return spare_.depths.size() > 2 * std::size_t{Collector::full_scan_every}; });
  EXPECT_EQ(detail("snapshot"), "spare");
  EXPECT_EQ(detail("snapshot_problem"), "not permitted");
  EXPECT_EQ(detail("scans_failed"), "0");
  EXPECT_EQ(detail("processes"), "5");
  EXPECT_EQ(detail("events_emitted"), "5") << "nothing vanished and came again";
  const auto health = collector_->health();
  const auto collector = std::ranges::find(health, "collector", &observe::ComponentHealth::component);
  EXPECT_EQ(collector->state, observe::HealthState::degraded);
  EXPECT_NE(collector->reason.find("scans by fake fail (not permitted): spare is read instead"), std::string::npos)
      << collector->reason;
  scans_.fails = false;
  run_until([&] { return detail("snapshot") == "fake"; });
  spare_.fails = scans_.fails = true;
  run_until([&] { return collector_->scans().failed > 0; });
  EXPECT_EQ(detail("processes"), "5");
}

TEST_F(CollectorTest, LooksAtEverythingAfterALoss) {
  start(often());
  run_until([&] { return scans_.depths.size() >= 2; });
  const auto before = scans_.depths.size();
  ASSERT_LT(before + 1, std::size_t{Collector::full_scan_every}) << "none was due by itself";
  source_.lost = 3;
  run_until([&] { return scans_.depths.size() > before; });
  EXPECT_EQ(scans_.depths[before], Depth::full);
  EXPECT_EQ(detail("events_lost"), "3");
}

TEST_F(CollectorTest, ScansThatCostTooMuchComeLessOften) {
  auto options = often();
  options.scan_cpu_percent = 20;
  scans_.cost = std::chrono::milliseconds(5);  // of 25 then
  const auto begin = base::SteadyClock::now();
  start(std::move(options));
  run_until([&] { return collector_->scans().stretched > 0 && scans_.depths.size() >= 4; });
  EXPECT_GE(base::SteadyClock::now() - begin, 3 * std::chrono::milliseconds(25)) << "between four scans";
  EXPECT_NE(detail("scans_stretched"), "0");
}

TEST_F(CollectorTest, WhatHappenedBeforeAHashCameIsHeardBeforeIt) {
  start({});
  const auto exec = [](const std::string& path, std::uint64_t inode) {
    sensor::RawEvent event;
    event.kind = sensor::RawKind::exec;
    event.time = base::wall_now();
    event.process.pid = 50;
    event.process.start_ticks = 50;
    event.process.comm = "task";
    event.process.executable_path = path;
    event.process.file = {.device = 1, .inode = inode, .size = 1, .mtime_ns = 1, .ctime_ns = 1};
    event.process.executable_state = event::ExecutableState::ok;
    return event;
  };
  hasher_.requests.clear();
  waiting_ = {exec("/bin/a", 7)};
  run_until([&] { return !hasher_.requests.empty(); });  // the next beat hears it
  const auto emitted = std::stoull(detail("events_emitted"));
  waiting_ = {exec("/bin/b", 8)};
  sensor::HashAnswer answer;
  answer.id = hasher_.requests[0].id;
  answer.hash = std::string(64, 'a');
  answer.file = hasher_.requests[0].file;
  hasher_.answer(answer);
  EXPECT_TRUE(waiting_.empty());
  EXPECT_EQ(std::stoull(detail("events_emitted")), emitted + 1) << "an exec, and no change of what was left";
}

TEST_F(CollectorTest, AReloadReachesTheHasherToo) {
  start({});
  Collector::Live live;
  live.hash_cpu_percent = 33;
  ASSERT_TRUE(collector_->reconfigure(std::move(live)));
  EXPECT_EQ(hasher_.cpu_percent, 33U);
}

TEST_F(CollectorTest, HealthSaysWhatEachPredicateLeftOut) {
  auto options = often();
  options.tracker.exclude.push_back(*predicate::Predicate::parse("comm = 'init'"));
  start(std::move(options));
  EXPECT_EQ(detail("excluded by comm = 'init'"), "1");
}

}  // namespace
}  // namespace daemoneye::collector
