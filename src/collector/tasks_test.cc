#include "collector/tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace daemoneye::collector {
namespace {

class TasksTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/daemoneye-tasks-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    auto ledger = ledger::Ledger::open({.path = folder_ + "/audit.redb", .reader_group = ""});
    ASSERT_TRUE(ledger) << ledger.error().message;
    ledger_ = std::move(*ledger);
    tracker_ = std::make_unique<Tracker>(Tracker::Options{}, event::BootId{}, Timestamp{0},
                                         [](const event::ProcessEvent&, Tracker::Refused) { return true; });
    add_processes(10, 15);
    loop_ = std::move(*EventLoop::create());
    make({});
  }
  void make(Tasks::Options options) {
    tasks_ = std::make_unique<Tasks>(
        *loop_, *tracker_, *ledger_, options, [] { return std::map<std::string, std::string>{{"uid", "7"}}; },
        [this](std::string path, Deadline, std::function<void(Result<std::string>)> done) {
          hashing_.emplace_back(std::move(path), std::move(done));
        });
  }
  void add_processes(event::Pid from, event::Pid to) {
    for (event::Pid pid = from; pid < to; ++pid) {
      sensor::RawEvent raw;
      raw.process.pid = pid;
      raw.process.start_ticks = pid;
      raw.process.comm = "worker";
      raw.process.uid = pid;
      tracker_->on_event(raw, event::EventSource::ebpf);
    }
  }
  void TearDown() override {
    tasks_.reset();
    ledger_.reset();
    std::filesystem::remove_all(folder_);
  }
  // Its reply comes into replies_.
  void send(std::uint64_t id, ipc::RequestKind kind, const std::string& payload, std::uint32_t timeout_ms = 20'000) {
    ipc::Request request;
    request.id = id;
    request.kind = kind;
    request.payload = payload;
    request.timeout_ms = timeout_ms;
    tasks_->handle(request, [this](ipc::Reply reply) { replies_[reply.id].push_back(std::move(reply)); });
  }
  void run_until(const std::function<bool()>& done) {
    const auto deadline = Deadline::after(std::chrono::seconds(20));
    auto timer = loop_->add_timer(std::chrono::milliseconds(1), std::chrono::milliseconds(1), [&] {
      if (done() || deadline.expired()) loop_->stop();
    });
    ASSERT_TRUE(timer);
    if (!done()) loop_->run();
    loop_->remove_timer(*timer);
    ASSERT_TRUE(done()) << "not reached before the deadline";
  }
  ipc::Reply ask(ipc::RequestKind kind, const std::string& payload) {
    constexpr std::uint64_t id = 42;
    replies_.erase(id);
    send(id, kind, payload);
    run_until([&] { return replies_.contains(id); });
    return replies_[id].front();
  }
  std::string folder_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<Tracker> tracker_;
  std::unique_ptr<EventLoop> loop_;
  std::vector<std::pair<std::string, std::function<void(Result<std::string>)>>> hashing_;
  std::map<std::uint64_t, std::vector<ipc::Reply>> replies_;
  std::unique_ptr<Tasks> tasks_;
};

TEST_F(TasksTest, EnumeratesByPredicate) {
  const auto reply = ask(ipc::RequestKind::enumerate, R"({"filter":"uid >= 13"})");
  ASSERT_FALSE(reply.error) << reply.message;
  EXPECT_EQ(reply.id, 42U);
  EXPECT_NE(reply.payload.find("\"pid\":13"), std::string::npos);
  EXPECT_NE(reply.payload.find("\"pid\":14"), std::string::npos);
  EXPECT_EQ(reply.payload.find("\"pid\":12"), std::string::npos);
  EXPECT_NE(reply.payload.find("\"truncated\":false"), std::string::npos);
}

TEST_F(TasksTest, GivesTheFieldsAskedForAndNamesOneThatIsNone) {
  const auto reply = ask(ipc::RequestKind::enumerate, R"({"fields":["name","pid","cwd"],"filter":"pid = 12"})");
  EXPECT_EQ(reply.payload, R"({"errors":[],"processes":[{"name":"worker","pid":12,"cwd":null}],"truncated":false})");
  for (const std::string fields : {R"(["pid","colour"])", R"(["detail"])", R"([])", R"("pid")", R"([1])"}) {
    const auto refused = ask(ipc::RequestKind::enumerate, R"({"fields":)" + fields + "}");
    EXPECT_EQ(refused.error, Errc::invalid_input) << fields;
  }
  const auto refused = ask(ipc::RequestKind::enumerate, R"({"fields":["pid","colour"]})");
  EXPECT_NE(refused.message.find("'colour'"), std::string::npos) << refused.message;
}

TEST_F(TasksTest, ALongEnumerationLeavesTheLoopItsTurns) {
  add_processes(100, 5000);
  make({.max_concurrent = 10, .slice = std::chrono::microseconds(0)});
  int turns = 0;
  std::function<void()> other = [&] {
    ++turns;
    if (!replies_.contains(1)) loop_->post(other);
  };
  loop_->post(other);
  send(1, ipc::RequestKind::enumerate, R"({"fields":["pid"]})");
  EXPECT_TRUE(replies_.empty());
  run_until([&] { return replies_.contains(1); });
  EXPECT_GE(turns, 100) << "4,905 processes, 32 a slice";
  const auto& reply = replies_[1].front();
  EXPECT_EQ(std::ranges::count(reply.payload, '{'), 1 + 4905);
}

TEST_F(TasksTest, OneMoreThanMayRunIsRefusedByTheNameOfTheBound) {
  make({.max_concurrent = 2, .slice = std::chrono::microseconds(2000)});
  send(1, ipc::RequestKind::hash_path, R"({"path":"/bin/a"})");
  send(2, ipc::RequestKind::hash_path, R"({"path":"/bin/b"})");
  send(3, ipc::RequestKind::hash_path, R"({"path":"/bin/c"})");
  ASSERT_TRUE(replies_.contains(3));
  EXPECT_EQ(replies_[3].front().error, Errc::limit_exceeded);
  EXPECT_NE(replies_[3].front().message.find("ipc.max_concurrent_tasks"), std::string::npos);
  // What is answered at once needs no room.
  EXPECT_FALSE(ask(ipc::RequestKind::capabilities, "{}").error);
  hashing_.at(0).second(std::string(R"({"sha256":"00"})"));
  EXPECT_EQ(replies_[1].front().payload, R"({"sha256":"00"})");
  send(4, ipc::RequestKind::hash_path, R"({"path":"/bin/d"})");
  EXPECT_FALSE(replies_.contains(4));
  EXPECT_EQ(tasks_->running(), 2U);
  EXPECT_EQ(tasks_->counters().refused, 1U);
  EXPECT_EQ(tasks_->counters().failed, 0U) << "what was refused was never begun";
  EXPECT_NE(tasks_->take_record()->find(R"("outcome":"refused")"), std::string::npos);
}

TEST_F(TasksTest, ACancelledTaskSaysSoOnceAndItsLateAnswerIsDropped) {
  add_processes(100, 5000);
  make({.max_concurrent = 10, .slice = std::chrono::microseconds(0)});
  send(1, ipc::RequestKind::hash_path, R"({"path":"/bin/a"})");
  send(2, ipc::RequestKind::enumerate, "{}");
  tasks_->cancel(1);
  tasks_->cancel(2);
  tasks_->cancel(3);
  EXPECT_EQ(replies_[1].front().error, Errc::cancelled);
  EXPECT_EQ(replies_[2].front().error, Errc::cancelled);
  EXPECT_EQ(tasks_->running(), 0U);
  send(1, ipc::RequestKind::hash_path, R"({"path":"/bin/again"})");
  hashing_.at(0).second(std::string("{}"));  // of the first request with that id
  EXPECT_EQ(replies_[1].size(), 1U);
  hashing_.at(1).second(std::string("{}"));
  EXPECT_EQ(replies_[1].size(), 2U);
}

TEST_F(TasksTest, ASliceOfACancelledEnumerationIsNotTakenForTheNextRequestOfThatId) {
  add_processes(100, 5000);
  make({.max_concurrent = 10, .slice = std::chrono::microseconds(0)});
  send(1, ipc::RequestKind::enumerate, "{}");  // its next slice is posted
  tasks_->cancel(1);
  send(1, ipc::RequestKind::hash_path, R"({"path":"/bin/a"})");
  bool slice_ran = false;
  loop_->post([&] { slice_ran = true; });  // after the slice
  run_until([&] { return slice_ran; });
  EXPECT_EQ(tasks_->running(), 1U);
  hashing_.at(0).second(std::string("{}"));
  ASSERT_EQ(replies_[1].size(), 2U);
  EXPECT_EQ(replies_[1].back().payload, "{}");
  // An enumeration is not carried on by the slices of the one before either: each has its own.
  send(1, ipc::RequestKind::enumerate, R"({"fields":["pid"]})");
  tasks_->cancel(1);
  send(1, ipc::RequestKind::enumerate, R"({"fields":["pid"]})");
  run_until([&] { return replies_[1].size() == 4; });
  EXPECT_EQ(std::ranges::count(replies_[1].back().payload, '{'), 1 + 4905);
}

TEST_F(TasksTest, ATaskEndsAtItsDeadline) {
  send(1, ipc::RequestKind::hash_path, R"({"path":"/bin/slow"})", 1);
  run_until([&] { return replies_.contains(1); });
  EXPECT_EQ(replies_[1].front().error, Errc::timeout);
  hashing_.at(0).second(std::string("{}"));
  EXPECT_EQ(replies_[1].size(), 1U);
  EXPECT_EQ(tasks_->counters().late, 1U);
}

TEST_F(TasksTest, NobodyIsAnsweredWhoIsGone) {
  send(1, ipc::RequestKind::hash_path, R"({"path":"/bin/a"})");
  tasks_->cancel_all();
  hashing_.at(0).second(std::string("{}"));
  EXPECT_TRUE(replies_.empty());
  EXPECT_EQ(tasks_->running(), 0U);
  EXPECT_EQ(tasks_->counters().cancelled, 1U);
  const auto record = tasks_->take_record();
  ASSERT_TRUE(record) << "what was begun is recorded, answered or not";
  EXPECT_NE(record->find(R"("outcome":"cancelled","what":"/bin/a")"), std::string::npos) << *record;
}

TEST_F(TasksTest, WhatWasExecutedIsRecordedAndBounded) {
  EXPECT_EQ(tasks_->take_record(), std::nullopt);
  ask(ipc::RequestKind::enumerate, R"({"filter":"uid >= 13"})");
  const auto record = tasks_->take_record();
  ASSERT_TRUE(record);
  EXPECT_NE(record->find(R"("kind":"enumerate")"), std::string::npos) << *record;
  EXPECT_NE(record->find(R"("outcome":"done","what":"uid >= 13")"), std::string::npos) << *record;
  EXPECT_EQ(tasks_->take_record(), std::nullopt);
  for (int i = 0; i < 200; ++i) send(static_cast<std::uint64_t>(i), ipc::RequestKind::hash_path, R"({"path":"x"})");
  const auto bounded = tasks_->take_record();
  ASSERT_TRUE(bounded);
  EXPECT_LT(bounded->size(), ledger::max_payload_bytes);
  EXPECT_NE(bounded->find(R"("more":168})"), std::string::npos) << *bounded;
  EXPECT_TRUE(ledger_->append("procmond", "tasks", *bounded));
}

TEST_F(TasksTest, StopsAtTheThresholdAndSaysSo) {
  const auto reply = ask(ipc::RequestKind::enumerate, R"({"threshold":2})");
  ASSERT_FALSE(reply.error) << reply.message;
  EXPECT_NE(reply.payload.find("\"truncated\":true"), std::string::npos);
}

TEST_F(TasksTest, RefusesWhatIsNotInTheTable) {
  // Those that operators ask the agent for, and numbers that are nobody's.
  for (std::uint32_t kind = 7; kind < 256; ++kind) {
    EXPECT_EQ(ask(static_cast<ipc::RequestKind>(kind), "{}").error, Errc::invalid_input) << kind;
  }
  EXPECT_EQ(ask(static_cast<ipc::RequestKind>(0), "{}").error, Errc::invalid_input);
  EXPECT_EQ(ask(ipc::RequestKind::enumerate, R"({"filter":"DROP TABLE x"})").error, Errc::invalid_input);
  EXPECT_EQ(ask(ipc::RequestKind::enumerate, "[]").error, Errc::invalid_input);
  EXPECT_EQ(ask(ipc::RequestKind::hash_path, R"({"path":"bin/true"})").error, Errc::invalid_input);
}

TEST_F(TasksTest, TheAgentCannotSpeakInTheCollectorsName) {
  const auto before = ledger_->size();
  for (const std::string actor : {"procmond", "ledger", "root", "uid:0", "uid:0 (asserted by agent) ",
                                  "uid: (asserted by agent)", "uid:-1 (asserted by agent)", ""}) {
    EXPECT_EQ(
        ask(ipc::RequestKind::append_audit, R"({"actor":")" + actor + R"(","action":"start","payload":{}})").error,
        Errc::invalid_input)
        << actor;
  }
  EXPECT_EQ(ledger_->size(), before);
  const auto reply = ask(ipc::RequestKind::append_audit, R"({"actor":"agent","action":"start","payload":{"a":1}})");
  ASSERT_FALSE(reply.error) << reply.message;
  EXPECT_EQ(ledger_->last()->action, "agent.start");
  EXPECT_EQ(ledger_->last()->actor, "agent");
  const auto operators = ask(ipc::RequestKind::append_audit,
                             R"json({"actor":"uid:1000 (asserted by agent)","action":"reload","payload":{}})json");
  EXPECT_FALSE(operators.error) << operators.message;
}

// By an agent that was taken over: what is parsed and printed is followed on the stack.
TEST_F(TasksTest, NestingAndLengthAreRefusedBeforeTheyAreParsed) {
  const std::string nested = std::string(200'000, '[') + std::string(200'000, ']');
  for (const auto& payload : {R"({"actor":"agent","action":"x","payload":{"a":)" + nested + "}}",
                              R"({"actor":"agent","action":"x","payload":{"a":)" + nested.substr(199'900, 200) + "}}",
                              R"({"actor":")" + std::string(200'000, 'x') + R"("})"}) {
    for (const auto kind : {ipc::RequestKind::append_audit, ipc::RequestKind::rotate_key, ipc::RequestKind::enumerate,
                            ipc::RequestKind::hash_path}) {
      EXPECT_EQ(ask(kind, payload).error, Errc::limit_exceeded);
    }
  }
}

TEST_F(TasksTest, AnAgentThatAsksForTooMuchIsHeldBackAndThatIsRecorded) {
  const auto before = ledger_->size();
  std::size_t taken = 0;
  ipc::Reply reply;
  do {
    reply = ask(ipc::RequestKind::append_audit, R"({"actor":"agent","action":"flood"})");
    taken += reply.error ? 0 : 1;
  } while (!reply.error && taken < 100'000);
  EXPECT_EQ(reply.error, Errc::unavailable) << "to be asked again";
  EXPECT_EQ(ledger_->size(), before + taken);
  for (int i = 0; i < 10 && reply.error != Errc::invalid_input; ++i) {
    reply = ask(ipc::RequestKind::rotate_key, R"({"actor":"agent"})");
  }
  const auto record = tasks_->take_record();
  ASSERT_TRUE(record);
  EXPECT_NE(record->find("\"held_back\":{\"append_audit\":"), std::string::npos) << *record;
}

}  // namespace
}  // namespace daemoneye::collector
