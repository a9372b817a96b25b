#include "collector/uplink.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "collector/budget.h"
#include "ledger/ledger.h"

namespace daemoneye::collector {
namespace {

event::ProcessEvent make_event(std::uint64_t number) {
  event::ProcessEvent event;
  event.time = Timestamp{1'700'000'000'000'000'000 + static_cast<std::int64_t>(number)};
  event.process.key = {event::BootId{1}, static_cast<event::Pid>(number + 1), number};
  event.process.name = "p" + std::to_string(number);
  event.process.collection_time = event.time;
  return event;
}

std::vector<event::ProcessEvent> events_of(const ipc::BatchReceiver::Incoming& batch) {
  auto decoded = event::decode_batch(batch.canonical);
  EXPECT_TRUE(decoded);
  return decoded ? std::move(decoded->events) : std::vector<event::ProcessEvent>();
}

// The agent's end: acknowledges what it receives, in memory.
class FakeAgent {
 public:
  FakeAgent(EventLoop& loop, UniqueFd socket, std::optional<Timestamp> covered_until, std::uint64_t committed)
      : committed_(committed) {
    auto connection = ipc::Connection::adopt(
        loop, std::move(socket),
        {.on_message = [this, covered_until](const ipc::Message& message) { on_message(message, covered_until); },
         .on_close = [](const std::string&) {},
         .on_drained = {}});
    EXPECT_TRUE(connection) << connection.error().message;
    connection_ = std::move(*connection);
  }
  std::vector<ipc::BatchReceiver::Incoming> batches;
  std::vector<ipc::Heartbeat> beats;
  std::vector<std::uint64_t> acknowledged_at_beats;  // the last batch that was acknowledged before each
  bool hold = false;                                 // acknowledges nothing until release()
  std::uint64_t held = 0;
  void release() {
    hold = false;
    if (held > acknowledged) acknowledge(held);
  }
  std::uint64_t acknowledged = 0;
  std::size_t events() const {
    std::size_t count = 0;
    for (const auto& batch : batches) count += events_of(batch).size();
    return count;
  }

 private:
  void acknowledge(std::uint64_t sequence) {
    acknowledged = sequence;
    ASSERT_TRUE(connection_->send(receiver_->on_committed(sequence)));
  }
  void on_message(const ipc::Message& message, std::optional<Timestamp> covered_until) {
    if (const auto* hello = std::get_if<ipc::Hello>(&message)) {
      receiver_.emplace(*hello, committed_);
      ipc::Welcome welcome;
      welcome.store_id = "store";
      welcome.committed_sequence = committed_;
      welcome.credit_records = 100000;
      welcome.covered_until = covered_until;
      ASSERT_TRUE(connection_->send(welcome));
    } else if (const auto* resume = std::get_if<ipc::Resume>(&message)) {
      ASSERT_TRUE(receiver_->on_resume(*resume));
    } else if (const auto* batch = std::get_if<ipc::BatchMessage>(&message)) {
      auto outcome = receiver_->on_batch(*batch);
      ASSERT_TRUE(outcome) << outcome.error().message;
      if (!outcome->batch) return;
      const auto sequence = outcome->batch->id.sequence;
      batches.push_back(std::move(*outcome->batch));
      held = sequence;
      if (!hold) acknowledge(sequence);
    } else if (const auto* beat = std::get_if<ipc::Heartbeat>(&message)) {
      beats.push_back(*beat);
      acknowledged_at_beats.push_back(acknowledged);
    }
  }
  std::uint64_t committed_;
  std::unique_ptr<ipc::Connection> connection_;
  std::optional<ipc::BatchReceiver> receiver_;
};

class UplinkTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/daemoneye-uplink-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    loop_ = std::move(*EventLoop::create());
    auto ledger = ledger::Ledger::open({.path = folder_ + "/audit.redb", .reader_group = ""});
    ASSERT_TRUE(ledger) << ledger.error().message;
    ledger_ = std::move(*ledger);
  }
  void TearDown() override {
    ledger_.reset();
    std::filesystem::remove_all(folder_);
  }
  std::unique_ptr<Uplink> make(std::size_t max_held_bytes = 16 * 1024 * 1024, std::size_t batch_events = 10) {
    Uplink::Options options;
    options.max_held_bytes = max_held_bytes;
    options.batch_events = batch_events;
    return std::make_unique<Uplink>(*loop_, *ledger_, options,
                                    Uplink::Handlers{.on_request = {},
                                                     .on_cancel = {},
                                                     .on_disconnected = {},
                                                     .on_gap =
                                                         [this](const event::Gap& gap) {
                                                           gaps_.push_back(gap);
                                                           if (on_gap_) on_gap_(gap);
                                                         },
                                                     .on_connected = {},
                                                     .on_acknowledged = {},
                                                     .on_leave =
                                                         [this] {
                                                           if (on_leave_) on_leave_();
                                                         }});
  }
  void connect(Uplink& uplink, std::optional<Timestamp> covered_until = std::nullopt, std::uint64_t committed = 0) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    agent_ = std::make_unique<FakeAgent>(*loop_, UniqueFd(ends[0]), covered_until, committed);
    uplink.attach(UniqueFd(ends[1]));
  }
  // More batches than the agent acknowledges together, of one event each, and its silence.
  static constexpr std::size_t behind = ipc::acknowledged_together + 1;
  void leave_unacknowledged(Uplink& uplink) {
    agent_->hold = true;
    for (std::uint64_t i = 0; i < behind; ++i) {
      ASSERT_TRUE(uplink.add(make_event(i)));
      run_until([&] { return agent_->events() == i + 1; });
    }
  }
  // Runs the loop until `done`, at most 20 s.
  void run_until(const std::function<bool()>& done) {
    const auto deadline = Deadline::after(std::chrono::seconds(20));
    auto timer = loop_->add_timer(std::chrono::milliseconds(1), std::chrono::milliseconds(1), [&] {
      if (done() || deadline.expired()) loop_->stop();
    });
    ASSERT_TRUE(timer);
    loop_->run();
    loop_->remove_timer(*timer);
    ASSERT_TRUE(done()) << "not reached before the deadline";
  }

  std::string folder_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<FakeAgent> agent_;
  std::vector<event::Gap> gaps_;
  std::function<void(const event::Gap&)> on_gap_;
  std::function<void()> on_leave_;
};

TEST_F(UplinkTest, WhatWasCollectedBeforeTheAgentCameArrivesInOrderOnce) {
  auto uplink = make();
  for (std::uint64_t i = 0; i < 95; ++i) ASSERT_TRUE(uplink->add(make_event(i)));
  connect(*uplink);
  run_until([&] { return uplink->all_acknowledged(); });
  std::uint64_t expected = 0;
  for (const auto& batch : agent_->batches) {
    EXPECT_LE(events_of(batch).size(), 10U);
    for (const auto& event : events_of(batch)) EXPECT_EQ(event, make_event(expected++));
  }
  EXPECT_EQ(expected, 95U);
}

TEST_F(UplinkTest, WhatIsFoundWhenABatchLeavesComesAlong) {
  auto uplink = make(16 * 1024 * 1024, 1000);
  connect(*uplink);
  constexpr std::uint64_t found = 1'000'000;
  on_leave_ = [&] {
    on_leave_ = nullptr;
    ASSERT_TRUE(uplink->add(make_event(found)));
  };
  // A stream, so that some batch waits for others.
  std::uint64_t next = 0;
  std::vector<event::ProcessEvent> with_it;
  run_until([&] {
    EXPECT_TRUE(uplink->add(make_event(next++)));
    for (const auto& batch : agent_->batches) {
      if (auto events = events_of(batch); events.back() == make_event(found)) with_it = std::move(events);
    }
    return !with_it.empty();
  });
  EXPECT_GE(with_it.size(), 2U);
  EXPECT_EQ(on_leave_, nullptr);
}

TEST_F(UplinkTest, ABatchWaitsForMoreWhileTheAgentIsBehind) {
  auto uplink = make();
  connect(*uplink);
  leave_unacknowledged(*uplink);
  EXPECT_EQ(uplink->counters().deferrals, 0U);
  ASSERT_TRUE(uplink->add(make_event(100)));
  run_until([&] { return uplink->counters().deferrals > 0; });
  EXPECT_EQ(uplink->counters().batches, behind);
  agent_->release();
  run_until([&] { return agent_->events() == behind + 1 && uplink->all_acknowledged(); });
}

TEST_F(UplinkTest, ABatchWaitsForEarlierOnesOnlySoLong) {
  auto uplink = make();
  connect(*uplink);
  leave_unacknowledged(*uplink);
  ASSERT_TRUE(uplink->add(make_event(100)));
  run_until([&] { return agent_->events() == behind + 1; });
  EXPECT_EQ(uplink->counters().deferrals, static_cast<std::uint64_t>(Uplink::max_deferrals) - 1);
}

TEST_F(UplinkTest, TheLedgerHoldsTheRootOfWhatWasSent) {
  auto uplink = make();
  connect(*uplink);
  for (std::uint64_t i = 0; i < 30; ++i) ASSERT_TRUE(uplink->add(make_event(i)));
  run_until([&] { return uplink->all_acknowledged() && agent_->events() == 30; });
  ASSERT_TRUE(ledger_->seal_batches());
  std::vector<std::string> leaves;
  for (const auto& batch : agent_->batches) leaves.emplace_back(base::as_bytes(batch.digest));
  const auto last = ledger_->last();
  ASSERT_TRUE(last);
  EXPECT_EQ(last->action, "batches");
  EXPECT_NE(last->payload.find(base::to_hex(ledger::merkle_root(leaves))), std::string::npos) << last->payload;
}

TEST_F(UplinkTest, NothingIsSentThatTheLedgerCannotRecord) {
  ::signal(SIGXFSZ, SIG_IGN);
  auto uplink = make();
  connect(*uplink);
  run_until([&] { return uplink->connected(); });
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit none{.rlim_cur = 1, .rlim_max = before.rlim_max};  // stands for a full disk
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
  ASSERT_TRUE(uplink->add(make_event(1)));
  uplink->flush();
  EXPECT_FALSE(uplink->ledger_problem().empty());
  EXPECT_FALSE(uplink->all_acknowledged());
  EXPECT_TRUE(agent_->batches.empty());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  run_until([&] { return uplink->all_acknowledged(); });
  EXPECT_EQ(agent_->events(), 1U);
  EXPECT_TRUE(uplink->ledger_problem().empty());
}

// Ten seconds of 2,000 processes a second without an agent, at the default budget.
TEST_F(UplinkTest, HoldsTenSecondsOfABusyMachine) {
  constexpr std::uint64_t events = 40'000, a_flush = 80;
  auto uplink = make(Budget::of(100).held_bytes, 1000);
  for (std::uint64_t i = 0; i < events; ++i) {
    auto event = make_event(i);
    event.process.comm = "make";
    event.process.executable_path = "/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus";
    event.process.arguments = event::Arguments::from_list({"cc1plus", "-quiet", "-I", "src", "-D_GNU_SOURCE",
                                                           "src/module-" + std::to_string(i) + "/file.cc", "-O2", "-o",
                                                           "/tmp/" + base::to_hex(base::random_bytes(6)) + ".s"});
    event.process.cwd = "/home/user/projects/daemon/build";
    event.process.cgroup = "/user.slice/user-1000.slice/session-3.scope";
    event.process.uid = event.process.gid = event.process.euid = 1000;
    event.parent_name = "cc1plus";
    event.parent_command_line = "/usr/bin/c++ -I src -O2 -c src/module-" + std::to_string(i) + "/file.cc";
    ASSERT_TRUE(uplink->add(event)) << "event " << i << ", " << uplink->held_bytes() << " bytes held";
    if (i % a_flush == 0) uplink->flush();
  }
  uplink->flush();
  EXPECT_LE(uplink->held_bytes(), Budget::of(100).held_bytes);
  connect(*uplink);
  run_until([&] { return uplink->all_acknowledged(); });
  EXPECT_EQ(agent_->events(), events);
  EXPECT_EQ(uplink->counters().shed, 0U);
  EXPECT_TRUE(gaps_.empty());
}

TEST_F(UplinkTest, ShedsWhenItMayHoldNoMoreAndReportsExactlyHowMuch) {
  auto uplink = make(2 * 1024 * 1024);
  std::uint64_t refused = 0, taken = 0;
  for (std::uint64_t i = 0; refused < 25; ++i) {
    auto event = make_event(i);
    event.process.cwd = std::string(20'000, 'x');
    ++(uplink->add(event) ? taken : refused);
  }
  connect(*uplink);
  run_until([&] { return uplink->held_batches() == 0; });
  ASSERT_TRUE(gaps_.empty());
  EXPECT_FALSE(uplink->all_acknowledged()) << "the loss is not told yet";
  uplink->heartbeat(base::wall_now(), "", "");
  run_until([&] { return uplink->all_acknowledged(); });
  EXPECT_EQ(agent_->events(), taken + 1) << "all that was taken, and the gap";
  ASSERT_EQ(gaps_.size(), 1U);
  EXPECT_EQ(gaps_[0].reason, "events_shed");
  EXPECT_EQ(gaps_[0].count, refused);
  EXPECT_EQ(uplink->counters().shed, refused);
}

// Owed ends are told with the times they had: the last one refused is not the latest.
TEST_F(UplinkTest, AShedGapReachesFromTheEarliestOfWhatIsMissingToWhenTheLastWasDropped) {
  auto uplink = make(2 * 1024 * 1024);
  auto event = make_event(0);
  event.process.cwd = std::string(20'000, 'x');
  while (uplink->offer(event)) {
  }
  const auto before = base::wall_now();
  const Timestamp early{before.ns - 60'000'000'000}, late{before.ns + 60'000'000'000};
  for (const auto time : {Timestamp{before.ns - 1}, late, early}) {
    event.time = time;
    EXPECT_FALSE(uplink->add(event));
  }
  event.time = Timestamp{1};
  EXPECT_FALSE(uplink->offer(event)) << "and is kept by whoever offers it";
  connect(*uplink);
  run_until([&] { return uplink->held_batches() == 0; });
  uplink->heartbeat(base::wall_now(), "", "");
  ASSERT_EQ(gaps_.size(), 1U);
  EXPECT_EQ(gaps_[0], (event::Gap{"events_shed", early, late, 3}));
}

TEST_F(UplinkTest, AShedGapReachesToTheMomentOfTheLastDrop) {
  auto uplink = make(2 * 1024 * 1024);
  auto event = make_event(0);
  event.process.cwd = std::string(20'000, 'x');
  const auto before = base::wall_now();
  while (uplink->add(event)) {
  }
  connect(*uplink);
  run_until([&] { return uplink->held_batches() == 0; });
  uplink->heartbeat(base::wall_now(), "", "");
  ASSERT_EQ(gaps_.size(), 1U);
  EXPECT_EQ(gaps_[0].from, event.time);
  EXPECT_GE(gaps_[0].to, before);
}

TEST_F(UplinkTest, AnEventLargerThanABatchIsAGap) {
  auto uplink = make();
  connect(*uplink);
  auto event = make_event(1);
  const std::string longest(event::max_text_bytes, 'x');
  event.detail = longest;
  event.process.cwd = event.process.cgroup = event.process.executable_path = event.parent_command_line = longest;
  EXPECT_TRUE(uplink->add(event)) << "to offer it again would not help";
  uplink->flush();
  run_until([&] { return uplink->all_acknowledged(); });
  ASSERT_EQ(gaps_.size(), 1U);
  EXPECT_EQ(gaps_[0].from, event.time);
  EXPECT_EQ(gaps_[0].count, 1U);
}

// The clock is set back and forth, the agent stops and goes on, there is little room: whatever is not stored lies in a
// gap that is stored; and no heartbeat claims a time of which something was to come yet.
TEST_F(UplinkTest, WhatIsMissingLiesInAGapWhateverTheClockDoes) {
  std::mt19937_64 random(42);
  const auto pick = [&](std::uint64_t n) { return random() % n; };
  auto uplink = make(1536 * 1024);
  connect(*uplink);
  struct Added {
    Timestamp time;
    bool taken = false;
  };
  std::vector<Added> added;
  std::vector<std::pair<Timestamp, std::size_t>> claimed;  // `until` of each heartbeat, and what was added before it
  auto clock = base::wall_now();
  constexpr std::int64_t second = 1'000'000'000;
  for (int step = 0; step < 150; ++step) {
    if (step % 30 == 5) agent_->hold = true;
    if (step % 30 == 25) agent_->release();
    if (pick(8) == 0) clock.ns += (static_cast<std::int64_t>(pick(7200)) - 3600) * second;
    for (auto events = 1 + pick(12); events > 0; --events) {
      clock.ns += static_cast<std::int64_t>(pick(second));
      auto event = make_event(added.size());
      event.time = clock;
      event.process.cwd = base::to_hex(base::random_bytes(6'000));
      added.push_back({event.time, uplink->add(event)});
    }
    run_until([] { return true; });
    if (uplink->connected() && pick(3) == 0) {
      claimed.emplace_back(clock, added.size());
      uplink->heartbeat(clock, std::to_string(claimed.size()), "");
    }
  }
  agent_->release();
  run_until([&] { return uplink->held_batches() == 0; });
  uplink->heartbeat(clock, "last", "");
  run_until([&] { return uplink->all_acknowledged() && agent_->beats.back().health_json == "last"; });

  constexpr std::uint64_t never = UINT64_MAX;
  std::vector<std::uint64_t> stored_with(added.size(), never);  // the batch
  std::vector<std::pair<event::Gap, std::uint64_t>> gaps;
  for (const auto& batch : agent_->batches) {
    for (const auto& event : events_of(batch)) {
      if (event.kind == event::EventKind::gap)
        gaps.emplace_back(*event::parse_gap(event.detail), batch.id.sequence);
      else
        stored_with[event.process.key.start_ticks] = batch.id.sequence;
    }
  }
  // The batch with which it was stored, or the first one with a gap that holds it.
  const auto accounted_with = [&](std::size_t number) {
    if (added[number].taken) return stored_with[number];
    for (const auto& [gap, sequence] : gaps) {
      if (gap.from <= added[number].time && added[number].time <= gap.to) return sequence;
    }
    return never;
  };
  std::uint64_t refused = 0, counted = 0;
  for (std::size_t i = 0; i < added.size(); ++i) {
    refused += added[i].taken ? 0 : 1;
    EXPECT_NE(accounted_with(i), never) << "event " << i << (added[i].taken ? "" : ", refused");
  }
  for (const auto& [gap, sequence] : gaps) counted += gap.count.value_or(0);
  EXPECT_EQ(counted, refused);
  EXPECT_GT(gaps.size(), 2U);
  ASSERT_EQ(agent_->beats.size(), claimed.size() + 1);
  for (std::size_t beat = 0; beat < claimed.size(); ++beat) {
    for (std::size_t i = 0; i < claimed[beat].second; ++i) {
      if (added[i].time > agent_->beats[beat].time || added[i].time > claimed[beat].first) continue;
      EXPECT_TRUE(added[i].time == agent_->beats[beat].time || accounted_with(i) <= agent_->acknowledged_at_beats[beat])
          << "beat " << beat << " claims the time of event " << i;
    }
  }
}

TEST_F(UplinkTest, ARecordThatEndsAfterThisEpochBeganIsAGapToo) {
  auto uplink = make();
  const Timestamp ahead{base::wall_now().ns + 3'600'000'000'000};  // the clock was set back since
  connect(*uplink, ahead);
  run_until([&] { return !gaps_.empty(); });
  EXPECT_EQ(gaps_[0].reason, "collector_unavailable");
  EXPECT_LT(gaps_[0].from, ahead);
  EXPECT_EQ(gaps_[0].to, ahead);
}

TEST_F(UplinkTest, TheTimeBeforeThisEpochIsAGapWhenTheStoreReachesOnlySoFar) {
  auto uplink = make();
  connect(*uplink, Timestamp{1'000});
  run_until([&] { return !gaps_.empty(); });
  EXPECT_EQ(gaps_[0].reason, "collector_unavailable");
  EXPECT_EQ(gaps_[0].from.ns, 1'000);
  EXPECT_EQ(gaps_[0].count, std::nullopt);
  run_until([&] { return uplink->all_acknowledged(); });
  connect(*uplink, Timestamp{1'000}, agent_->batches.back().id.sequence);
  run_until([&] { return uplink->connected(); });
  EXPECT_EQ(gaps_.size(), 1U) << "a new connection in the same epoch is no gap";
}

TEST_F(UplinkTest, AHeartbeatClaimsNothingBeyondAHoleUntilItsGapIsAcknowledged) {
  auto uplink = make();
  on_gap_ = [&](const event::Gap&) {
    // Runs when the batch is sent, and before its acknowledgement can have been read.
    loop_->post([&] { uplink->heartbeat(base::wall_now(), "", ""); });
  };
  connect(*uplink, Timestamp{1'000});
  run_until([&] { return !agent_->beats.empty(); });
  EXPECT_EQ(agent_->beats[0].time.ns, 1'000);
  run_until([&] { return uplink->all_acknowledged(); });
  uplink->heartbeat(base::wall_now(), "", "");
  run_until([&] { return agent_->beats.size() == 2; });
  EXPECT_GT(agent_->beats[1].time.ns, 1'000);
}

TEST_F(UplinkTest, AGapThatFindsNoRoomWaitsAndKeepsItsSpanAndCount) {
  auto uplink = make(2 * 1024 * 1024);
  auto event = make_event(1);
  event.process.cwd = std::string(20'000, 'x');
  while (uplink->add(event)) {
  }
  const event::Gap lost{"events_lost", Timestamp{10}, Timestamp{20}, 5000};
  uplink->add_gap(lost);
  connect(*uplink);
  run_until([&] { return uplink->held_batches() == 0; });
  uplink->heartbeat(base::wall_now(), "", "");
  run_until([&] { return uplink->all_acknowledged(); });
  std::vector<event::Gap> told;
  for (const auto& batch : agent_->batches) {
    for (const auto& arrived : events_of(batch)) {
      if (arrived.kind == event::EventKind::gap) told.push_back(*event::parse_gap(arrived.detail));
    }
  }
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0], lost);
  EXPECT_EQ(told[1].reason, "events_shed");
  EXPECT_EQ(told[1].count, 1U);
}

TEST_F(UplinkTest, AHeartbeatNeverClaimsWhatIsNotAcknowledged) {
  auto uplink = make();
  connect(*uplink);
  run_until([&] { return uplink->connected(); });
  ASSERT_TRUE(uplink->add(make_event(5)));
  uplink->heartbeat(base::wall_now(), "", "");
  run_until([&] { return !agent_->beats.empty(); });
  EXPECT_EQ(agent_->beats[0].time, make_event(5).time);
}

}  // namespace
}  // namespace daemoneye::collector
