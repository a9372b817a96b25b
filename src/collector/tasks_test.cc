#include "collector/tasks.h"

#include <gtest/gtest.h>

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
                                         [](const event::ProcessEvent&) { return true; });
    for (event::Pid pid = 10; pid < 15; ++pid) {
      sensor::RawEvent raw;
      raw.process.pid = pid;
      raw.process.start_ticks = pid;
      raw.process.comm = "worker";
      raw.process.uid = pid;
      tracker_->on_event(raw, event::EventSource::ebpf);
    }
    tasks_ =
        std::make_unique<Tasks>(*tracker_, *ledger_, [] { return std::map<std::string, std::string>{{"uid", "7"}}; });
  }
  void TearDown() override {
    tasks_.reset();
    ledger_.reset();
    std::filesystem::remove_all(folder_);
  }
  ipc::Reply ask(ipc::RequestKind kind, const std::string& payload) {
    ipc::Request request;
    request.id = 42;
    request.kind = kind;
    request.payload = payload;
    return tasks_->handle(request);
  }
  std::string folder_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<Tracker> tracker_;
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

TEST_F(TasksTest, StopsAtTheThresholdAndSaysSo) {
  const auto reply = ask(ipc::RequestKind::enumerate, R"({"threshold":2})");
  ASSERT_FALSE(reply.error) << reply.message;
  EXPECT_NE(reply.payload.find("\"truncated\":true"), std::string::npos);
}

TEST_F(TasksTest, RefusesWhatIsNotInTheTable) {
  EXPECT_EQ(ask(ipc::RequestKind::health, "{}").error, Errc::invalid_input);
  EXPECT_EQ(ask(ipc::RequestKind::enumerate, R"({"filter":"DROP TABLE x"})").error, Errc::invalid_input);
  EXPECT_EQ(ask(ipc::RequestKind::enumerate, "[]").error, Errc::invalid_input);
  EXPECT_EQ(ask(ipc::RequestKind::hash_path, R"({"path":"/bin/true"})").error, Errc::unavailable);
}

TEST_F(TasksTest, TheAgentCannotSpeakInTheCollectorsName) {
  const auto before = ledger_->size();
  EXPECT_EQ(ask(ipc::RequestKind::append_audit, R"({"actor":"procmond","action":"start","payload":{}})").error,
            Errc::invalid_input);
  EXPECT_EQ(ledger_->size(), before);
  const auto reply = ask(ipc::RequestKind::append_audit, R"({"actor":"agent","action":"start","payload":{"a":1}})");
  ASSERT_FALSE(reply.error) << reply.message;
  EXPECT_EQ(ledger_->last()->action, "agent.start");
  EXPECT_EQ(ledger_->last()->actor, "agent");
  const auto operators = ask(ipc::RequestKind::append_audit,
                             R"json({"actor":"uid:1000 (asserted by agent)","action":"reload","payload":{}})json");
  EXPECT_FALSE(operators.error) << operators.message;
}

}  // namespace
}  // namespace daemoneye::collector
