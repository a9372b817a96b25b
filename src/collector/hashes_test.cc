// What is asked of the hashing helper and told of its answers, with a helper that the test plays.
#include "collector/hashes.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "collector/tracker.h"

namespace daemoneye::collector {
namespace {

using event::EventKind;
using event::EventSource;
using event::ExecutableState;
using nlohmann::json;
using namespace std::string_literals;

const std::string first_hash(64, 'a'), second_hash(64, 'b');

class PlayedHasher final : public sensor::Hasher {
 public:
  Result<void> start(EventLoop&, OnAnswer on_answer) override {
    answer = std::move(on_answer);
    return {};
  }
  bool submit(sensor::HashRequest request) override {
    if (full) return false;
    requests.push_back(std::move(request));
    return true;
  }
  sensor::HasherCounters counters() const override { return {}; }
  std::string problem() const override { return trouble; }
  void set_cpu_percent(unsigned) override {}
  void stop() override {}

  std::vector<sensor::HashRequest> requests;
  OnAnswer answer;
  bool full = false;
  std::string trouble;
};

sensor::FileIdentity file(std::uint64_t inode, std::int64_t ctime = 1) {
  return {.device = 1, .inode = inode, .size = 10, .mtime_ns = 1, .ctime_ns = ctime};
}

class HashesTest : public testing::Test {
 protected:
  HashesTest() { start({}); }
  void start(Hashes::Options options, Tracker::Options of_tracker = {}) {
    auto played = std::make_unique<PlayedHasher>();
    hasher_ = played.get();
    hashes_ = std::make_unique<Hashes>(std::move(options), std::move(played));
    tracker_ = std::make_unique<Tracker>(std::move(of_tracker), event::BootId{7}, Timestamp{1'000'000'000},
                                         [this](const event::ProcessEvent& event, Tracker::Refused) {
                                           if (refuse_) return false;
                                           events_.push_back(event);
                                           return true;
                                         });
    tracker_->use_hashes(*hashes_);
    auto loop = EventLoop::create();
    loop_ = std::move(*loop);
    ASSERT_TRUE(hashes_->start(*loop_, [this](const Hashes::Outcome& outcome) { tracker_->on_hash(outcome, now()); }));
  }
  Moment moment() {
    const auto wall = now();
    return {wall, clock_ * 1'000'000};
  }
  Timestamp now() { return Timestamp{1'000'000'000 + ++clock_ * 1'000'000}; }

  sensor::RawProcess process(event::Pid pid, const std::string& path, const sensor::FileIdentity& identity) {
    sensor::RawProcess raw;
    raw.pid = pid;
    raw.start_ticks = 5;
    raw.ppid = 1;
    raw.comm = "task";
    raw.executable_path = path;
    raw.filename = path;
    raw.arguments = path + "\0"s;
    raw.executable_state = ExecutableState::ok;
    raw.file = identity;
    return raw;
  }
  void tell(sensor::RawKind kind, sensor::RawProcess raw) {
    sensor::RawEvent event;
    event.kind = kind;
    event.time = now();
    event.process = std::move(raw);
    tracker_->on_event(event, EventSource::ebpf);
  }
  void exec(event::Pid pid, const std::string& path, const sensor::FileIdentity& identity) {
    tell(sensor::RawKind::exec, process(pid, path, identity));
  }
  void exit(event::Pid pid) {
    sensor::RawProcess raw;
    raw.pid = pid;
    raw.start_ticks = 5;
    tell(sensor::RawKind::exit, raw);
  }
  void answer(const std::string& hash, ExecutableState state = ExecutableState::ok) {
    const auto request = hasher_->requests.front();
    hasher_->requests.erase(hasher_->requests.begin());
    sensor::HashAnswer answer;
    answer.id = request.id;
    answer.state = state;
    if (!hash.empty()) answer.hash = hash;
    answer.file = request.file;
    if (hash.empty()) answer.error = "no";
    hasher_->answer(answer);
  }
  std::vector<EventKind> kinds() const {
    std::vector<EventKind> kinds;
    for (const auto& event : events_) kinds.push_back(event.kind);
    return kinds;
  }
  json last_detail() const { return json::parse(events_.back().detail); }

  std::unique_ptr<EventLoop> loop_;
  PlayedHasher* hasher_ = nullptr;
  std::unique_ptr<Hashes> hashes_;
  std::unique_ptr<Tracker> tracker_;
  std::vector<event::ProcessEvent> events_;
  bool refuse_ = false;
  std::int64_t clock_ = 0;
};

TEST_F(HashesTest, AFirstRunIsCompletedAndTheNextCarriesTheHashAtOnce) {
  exec(10, "/bin/a", file(1));
  EXPECT_EQ(events_[0].process.executable_hash, std::nullopt);
  ASSERT_EQ(hasher_->requests.size(), 1U);
  EXPECT_EQ(hasher_->requests[0].pid, 10U);
  EXPECT_EQ(hasher_->requests[0].start_ticks, 5U);
  EXPECT_EQ(hasher_->requests[0].file, file(1));
  EXPECT_EQ(hasher_->requests[0].path, "/bin/a");
  answer(first_hash);
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::change}));
  EXPECT_EQ(events_[1].process.executable_hash, first_hash);
  EXPECT_EQ(last_detail(), json({{"executable_hash", {{"new", first_hash}}}}));
  exec(11, "/bin/a", file(1));
  exit(11);
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::change, EventKind::exec, EventKind::exit}));
  EXPECT_EQ(events_[2].process.executable_hash, first_hash);
  EXPECT_EQ(events_[3].process.executable_hash, first_hash);
  EXPECT_TRUE(hasher_->requests.empty());
}

TEST_F(HashesTest, EveryPartOfTheIdentityMatters) {
  exec(10, "/bin/a", file(1));
  answer(first_hash);
  for (int part = 0; part < 5; ++part) {
    auto other = file(1);
    (part == 0 ? other.device : part == 1 ? other.inode : other.size) += part < 3 ? 1 : 0;
    if (part == 3) ++other.mtime_ns;
    if (part == 4) ++other.ctime_ns;
    EXPECT_EQ(hashes_->find(other), std::nullopt) << part;
  }
  EXPECT_EQ(hashes_->find(file(1)), first_hash);
  EXPECT_EQ(hashes_->find({}), std::nullopt);
}

TEST_F(HashesTest, ManyThatWaitForOneFileAskOnceAndAreAllTold) {
  for (event::Pid pid = 10; pid < 20; ++pid) exec(pid, "/bin/a", file(1));
  ASSERT_EQ(hasher_->requests.size(), 1U);
  answer(first_hash);
  ASSERT_EQ(events_.size(), 20U);
  for (std::size_t i = 10; i < 20; ++i) {
    EXPECT_EQ(events_[i].kind, EventKind::change);
    EXPECT_EQ(events_[i].process.key.pid, i);
    EXPECT_EQ(events_[i].process.executable_hash, first_hash);
  }
}

TEST_F(HashesTest, AProcessThatEndedIsCompletedAllTheSame) {
  exec(10, "/bin/a", file(1));
  exit(10);
  answer(first_hash);
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::exit, EventKind::change}));
  EXPECT_EQ(events_[2].process.executable_hash, first_hash);
  EXPECT_EQ(events_[2].process.status, event::ProcessStatus::exited);
  EXPECT_EQ(events_[2].process.name, "a");
}

TEST_F(HashesTest, AnImageThatWasLeftIsNotTakenForTheOneThatRuns) {
  exec(10, "/bin/a", file(1));
  exec(10, "/bin/b", file(2));
  answer(first_hash);
  EXPECT_EQ(events_.size(), 2U) << "the former image's hash is nobody's";
  answer(second_hash);
  ASSERT_EQ(events_.size(), 3U);
  EXPECT_EQ(events_[2].process.executable_path, "/bin/b");
  EXPECT_EQ(events_[2].process.executable_hash, second_hash);
  EXPECT_EQ(hashes_->find(file(1)), first_hash) << "but it is known from now on";
}

TEST_F(HashesTest, AnotherFileAtTheSamePathIsToldWithOldAndNew) {
  exec(10, "/bin/a", file(1));
  answer(first_hash);
  exec(11, "/bin/a", file(2));
  answer(second_hash);
  EXPECT_EQ(last_detail(), json({{"executable_hash", {{"old", first_hash}, {"new", second_hash}}}}));
  // The first one again, known by now: the exec carries it, and the change is told all the same.
  exec(12, "/bin/a", file(1));
  ASSERT_EQ(events_.back().kind, EventKind::change);
  EXPECT_EQ(events_[events_.size() - 2].process.executable_hash, first_hash);
  EXPECT_EQ(last_detail(), json({{"executable_hash", {{"old", second_hash}, {"new", first_hash}}}}));
  exec(13, "/bin/a", file(1));
  EXPECT_EQ(events_.back().kind, EventKind::exec) << "told once";
}

TEST_F(HashesTest, TheSameContentInAnotherFileIsNoChange) {
  exec(10, "/bin/a", file(1));
  answer(first_hash);
  exec(11, "/bin/a", file(2));
  answer(first_hash);
  EXPECT_EQ(last_detail(), json({{"executable_hash", {{"new", first_hash}}}}));
}

TEST_F(HashesTest, TheSamePathOnAnotherDeviceIsAnotherPlace) {
  exec(10, "/usr/bin/python3", file(1));
  answer(first_hash);
  auto container = file(1);
  container.device = 99;
  exec(11, "/usr/bin/python3", container);
  answer(second_hash);
  EXPECT_EQ(last_detail(), json({{"executable_hash", {{"new", second_hash}}}}));
}

TEST_F(HashesTest, StatesAreToldAndTheOnesThatAScanCannotTellStay) {
  exec(10, "/bin/a", file(1));
  answer(first_hash, ExecutableState::replaced);
  EXPECT_EQ(events_.back().process.executable_state, ExecutableState::replaced);
  EXPECT_EQ(last_detail()["executable_state"], json({{"old", "ok"}, {"new", "replaced"}}));
  const auto told = events_.size();
  for (int i = 0; i < 3; ++i) {
    tracker_->begin_scan(1 + static_cast<std::uint64_t>(i), moment(), true);
    auto raw = process(10, "/bin/a", file(1));
    raw.executable_state = ExecutableState::deleted;
    tracker_->on_scanned(raw, moment());
    tracker_->end_scan(moment());
  }
  EXPECT_EQ(events_.size(), told);
  EXPECT_TRUE(hasher_->requests.empty());
}

TEST_F(HashesTest, WhatIsDeletedWhileItRunsIsAskedAgainOnce) {
  exec(10, "/bin/a", file(1));
  answer(first_hash);
  auto raw = process(10, "/bin/a", file(1, 2));  // the unlink changed its change time
  raw.executable_state = ExecutableState::deleted;
  for (std::uint64_t i = 1; i < 4; ++i) {
    tracker_->begin_scan(i, moment(), true);
    tracker_->on_scanned(raw, moment());
    tracker_->end_scan(moment());
  }
  EXPECT_EQ(events_.back().process.executable_state, ExecutableState::deleted);
  ASSERT_EQ(hasher_->requests.size(), 1U);
  answer(first_hash, ExecutableState::replaced);
  EXPECT_EQ(last_detail(), json({{"executable_state", {{"old", "deleted"}, {"new", "replaced"}}}}));
  EXPECT_EQ(events_.back().process.executable_hash, first_hash);
}

TEST_F(HashesTest, FillsInThePathThatTheSourceDidNotSee) {
  sensor::RawProcess raw = process(10, "/bin/a", {});
  raw.executable_path.reset();
  raw.executable_state.reset();
  tell(sensor::RawKind::exec, raw);
  ASSERT_EQ(hasher_->requests.size(), 1U);
  sensor::HashAnswer answer;
  answer.id = hasher_->requests[0].id;
  answer.state = ExecutableState::ok;
  answer.hash = first_hash;
  answer.path = "/bin/a";
  answer.file = file(1);
  hasher_->answer(answer);
  ASSERT_EQ(events_.back().kind, EventKind::change);
  EXPECT_EQ(events_.back().process.executable_path, "/bin/a");
  EXPECT_EQ(last_detail()["executable_path"], json({{"new", "/bin/a"}}));
  // Its children join the completed path.
  sensor::RawProcess child = process(11, "/bin/b", file(2));
  child.ppid = 10;
  child.parent_start_ticks = 5;
  tell(sensor::RawKind::exec, child);
  EXPECT_EQ(events_.back().parent_executable_path, "/bin/a");
}

TEST_F(HashesTest, KernelThreadsAreNotAsked) {
  auto raw = process(10, "/x", {});
  raw.executable_path.reset();
  raw.kernel_thread = true;
  raw.executable_state = ExecutableState::kernel;
  tracker_->begin_scan(1, moment(), false);
  tracker_->on_scanned(raw, moment());
  EXPECT_TRUE(hasher_->requests.empty());
}

TEST_F(HashesTest, WhatCouldNotBeHashedIsNotAskedAgainForTheSameImage) {
  exec(10, "/bin/a", file(1));
  answer("", ExecutableState::unreadable);
  EXPECT_EQ(last_detail(), json({{"executable_state", {{"old", "ok"}, {"new", "unreadable"}}}}));
  tracker_->begin_scan(1, moment(), true);
  tracker_->on_scanned(process(10, "/bin/a", file(1)), moment());
  EXPECT_TRUE(hasher_->requests.empty());
}

TEST_F(HashesTest, AFileThatHungTheHelperIsNotAskedForAgain) {
  exec(10, "/bin/a", file(1));
  sensor::HashAnswer late;
  late.id = hasher_->requests[0].id;
  late.error = "late";
  late.hopeless = true;
  hasher_->requests.clear();
  hasher_->answer(late);
  exec(11, "/bin/a", file(1));
  EXPECT_TRUE(hasher_->requests.empty());
  EXPECT_EQ(hashes_->counters().hopeless, 1U);
}

TEST_F(HashesTest, TheHelperCannotSpeakOfOtherFilesThanItWasAskedFor) {
  exec(10, "/bin/a", file(1));
  sensor::HashAnswer lie;
  lie.id = hasher_->requests[0].id;
  lie.hash = first_hash;
  lie.file = file(2);
  hasher_->answer(lie);
  EXPECT_EQ(hashes_->find(file(2)), std::nullopt);
  EXPECT_EQ(hashes_->find(file(1)), std::nullopt);
  lie.id = 4711;  // and answers to nothing are nothing
  hasher_->answer(lie);
}

TEST_F(HashesTest, TheHelperCannotNameAFileOrAPathThatWasNotKnown) {
  exec(10, "/bin/a", file(1));
  answer(first_hash);
  sensor::RawProcess raw = process(11, "/bin/mine", {});
  raw.executable_path.reset();
  tell(sensor::RawKind::exec, raw);
  ASSERT_EQ(hasher_->requests.size(), 1U);
  sensor::HashAnswer lie;
  lie.id = hasher_->requests[0].id;
  lie.state = ExecutableState::ok;
  lie.hash = second_hash;
  lie.path = "/bin/a";
  lie.file = file(1);
  hasher_->answer(lie);
  EXPECT_EQ(events_.back().process.executable_hash, second_hash) << "of the process that was asked for it counts";
  EXPECT_EQ(hashes_->find(file(1)), first_hash);
  EXPECT_EQ(last_detail()["executable_hash"], json({{"new", second_hash}})) << "no change of a path was seen";
  EXPECT_EQ(hashes_->note(1, "/bin/a", first_hash), std::nullopt) << "the last hash of that path is still its own";
  EXPECT_EQ(hashes_->counters().changed, 0U);
}

TEST_F(HashesTest, AStateIsToldOfEachProcessThatSharesTheImage) {
  exec(10, "/bin/a", file(1));
  sensor::RawProcess child = process(11, "/bin/a", {});
  child.ppid = 10;
  child.parent_start_ticks = 5;
  tell(sensor::RawKind::fork, child);
  sensor::RawProcess grandchild = process(12, "/bin/b", file(2));
  grandchild.ppid = 11;
  grandchild.parent_start_ticks = 5;
  tell(sensor::RawKind::exec, grandchild);  // tells of its parent first
  ASSERT_EQ(kinds(), (std::vector{EventKind::exec, EventKind::seen, EventKind::exec}));
  events_.clear();
  answer(first_hash, ExecutableState::replaced);
  ASSERT_EQ(events_.size(), 2U);
  const auto both =
      json({{"executable_hash", {{"new", first_hash}}}, {"executable_state", {{"old", "ok"}, {"new", "replaced"}}}});
  for (const auto& told : events_) {
    EXPECT_EQ(json::parse(told.detail), both) << told.process.key.pid;
    EXPECT_EQ(told.process.executable_state, ExecutableState::replaced);
  }
}

TEST_F(HashesTest, AnEndThatWasRefusedIsCompletedAllTheSame) {
  exec(10, "/bin/a", file(1));
  refuse_ = true;
  exit(10);
  refuse_ = false;
  answer(first_hash);
  ASSERT_EQ(events_.back().kind, EventKind::change);
  EXPECT_EQ(events_.back().process.key.pid, 10U);
  EXPECT_EQ(events_.back().process.executable_hash, first_hash);
  tracker_->begin_scan(1, moment(), true);
  tracker_->end_scan(moment());
  ASSERT_EQ(events_.back().kind, EventKind::exit);
  EXPECT_EQ(events_.back().process.executable_hash, first_hash) << "told after the hash was known";
}

TEST_F(HashesTest, WhatDidNotFitIsTakenUpByTheNextScan) {
  start({.files = 10, .paths = 10, .waiting = 1, .problem = "", .details = {}});
  exec(10, "/bin/a", file(1));
  exec(11, "/bin/a", file(1));
  EXPECT_EQ(hashes_->counters().refused, 1U);
  answer(first_hash);
  EXPECT_EQ(events_.size(), 3U);
  tracker_->begin_scan(1, moment(), true);
  tracker_->on_scanned(process(11, "/bin/a", file(1)), moment());
  EXPECT_EQ(hashes_->counters().asked, 1U) << "known by now: nothing has to be asked";
  ASSERT_EQ(events_.size(), 4U);
  EXPECT_EQ(events_[3].process.key.pid, 11U);
  EXPECT_EQ(events_[3].process.executable_hash, first_hash);
}

// Each runs the same large file with 16 KiB of arguments and is gone at once.
TEST_F(HashesTest, WhatEndedAndWaitsForItsHashKeepsToTheBudget) {
  constexpr std::size_t max_bytes = 1024 * 1024;
  Tracker::Options options;
  options.max_bytes = max_bytes;
  start({}, std::move(options));
  constexpr event::Pid last = 4000;
  std::size_t most = 0;
  for (event::Pid pid = 10; pid <= last; ++pid) {
    auto raw = process(pid, "/bin/large", file(1));
    raw.arguments = "large\0"s + std::string(16'000, 'x') + '\0';
    raw.arguments_bytes = raw.arguments->size();
    tell(sensor::RawKind::exec, std::move(raw));
    most = std::max(most, tracker_->bytes());
    exit(pid);
    most = std::max(most, tracker_->bytes());
    if (pid % 100 == 0) events_.clear();
  }
  EXPECT_LE(most, max_bytes + 64 * 1024) << "and what is being told";
  EXPECT_GT(tracker_->counters().shortened, 0U);
  events_.clear();
  answer(first_hash);
  EXPECT_GT(events_.size(), 500U);
  const auto& counters = tracker_->counters();
  EXPECT_EQ(events_.size() + counters.not_kept_for_hash + counters.untracked, last - 9U) << "the others are counted";
  EXPECT_EQ(events_.back().kind, EventKind::change);
  EXPECT_EQ(events_.back().process.executable_hash, first_hash);
  EXPECT_EQ(events_.back().process.status, event::ProcessStatus::exited);
  EXPECT_LT(tracker_->bytes(), max_bytes / 4);
}

TEST_F(HashesTest, RequestsThatWaitKeepToTheirBytes) {
  start({.files = 10, .paths = 10, .waiting = 100, .waiting_bytes = 20'000, .problem = "", .details = {}});
  const std::string folder = '/' + std::string(4000, 'x') + '/';
  for (event::Pid pid = 10; pid < 20; ++pid) exec(pid, folder + std::to_string(pid), file(pid));
  EXPECT_EQ(hashes_->counters().asked, 3U);
  EXPECT_EQ(hashes_->counters().refused, 7U);
  for (int i = 0; i < 3; ++i) answer(first_hash);
  EXPECT_EQ(hashes_->health().details.at("waiting_bytes"), "0");
}

TEST_F(HashesTest, AChangeAtALongPathIsSeenAsWell) {
  const std::string path = '/' + std::string(4000, 'x');
  EXPECT_EQ(hashes_->note(1, path, first_hash), std::nullopt);
  EXPECT_EQ(hashes_->note(1, path + "y", "other"), std::nullopt);
  EXPECT_EQ(hashes_->note(1, path, "new"), first_hash);
}

TEST_F(HashesTest, ForgetsTheLeastRecentlyUsedAndCountsIt) {
  start({.files = 2, .paths = 2, .waiting = 10, .problem = "", .details = {}});
  for (event::Pid pid = 10; pid < 13; ++pid) {
    exec(pid, "/bin/" + std::to_string(pid), file(pid));
    answer(first_hash);
  }
  EXPECT_EQ(hashes_->find(file(10)), std::nullopt);
  EXPECT_EQ(hashes_->find(file(12)), first_hash);
  EXPECT_EQ(hashes_->health().details.at("files_forgotten"), "1");
}

TEST_F(HashesTest, HealthSaysWhatIsWrong) {
  EXPECT_EQ(hashes_->health().state, observe::HealthState::ok);
  hasher_->trouble = "gone";
  EXPECT_EQ(hashes_->health().state, observe::HealthState::degraded);
  EXPECT_EQ(hashes_->health().reason, "gone");
  Hashes none({.files = 1, .paths = 1, .waiting = 1, .problem = "no helper", .details = {}}, nullptr);
  EXPECT_EQ(none.health().reason, "no helper");
  EXPECT_FALSE(none.ask({}, file(1), "/bin/a"));
}

TEST_F(HashesTest, AnswersOperators) {
  Result<std::string> told = fail(Errc::internal, "nothing");
  hashes_->hash_path("/bin/a", [&](Result<std::string> hash) { told = std::move(hash); });
  ASSERT_EQ(hasher_->requests.size(), 1U);
  EXPECT_EQ(hasher_->requests[0].pid, 0U);
  answer(first_hash);
  EXPECT_EQ(told, first_hash);
  hashes_->hash_path("/etc/shadow", [&](Result<std::string> hash) { told = std::move(hash); });
  answer("");
  ASSERT_FALSE(told);
  EXPECT_NE(told.error().message.find("/etc/shadow"), std::string::npos);
  EXPECT_TRUE(events_.empty());
}

}  // namespace
}  // namespace daemoneye::collector
