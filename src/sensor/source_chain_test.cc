#include "sensor/source_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/time.h"

namespace daemoneye::sensor {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NamedSource final : public Source {
 public:
  NamedSource(std::string name, std::string limits) : name_(std::move(name)), limits_(std::move(limits)) {}
  [[nodiscard]] event::EventSource kind() const override { return event::EventSource::ebpf; }
  [[nodiscard]] std::string_view name() const override { return name_; }
  Result<void> start(EventLoop& /*loop*/, std::function<void(const RawEvent&)> /*on_event*/,
                     std::function<void(const Error&)> /*on_failure*/) override {
    return {};
  }
  [[nodiscard]] std::string limits() const override { return limits_; }
  void poll() override {}
  [[nodiscard]] SourceCounters counters() const override { return {}; }
  void stop() override {}

 private:
  std::string name_, limits_;
};

class SourceChain : public ::testing::Test {
 protected:
  SourceChain() {
    std::string name = "/tmp/daemoneye-chain-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    path_ = folder_ + "/source-failures.json";
    boot_.fill(7);
  }
  ~SourceChain() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  Candidate works(const std::string& name, const std::string& limits = "") {
    return {name, [=, this]() -> Result<std::unique_ptr<Source>> {
              opened_.push_back(name);
              return std::make_unique<NamedSource>(name, limits);
            }};
  }
  Candidate fails(const std::string& name) {
    return {name, [=, this]() -> Result<std::unique_ptr<Source>> {
              opened_.push_back(name);
              return fail(Errc::permission_denied, name + " needs more");
            }};
  }
  void write(const std::string& text) { ASSERT_TRUE(base::write_file_atomic(path_, text, 0640)); }

  std::string folder_, path_;
  event::BootId boot_{};
  const Timestamp now_ = base::wall_now();
  std::vector<std::string> opened_;
};

TEST_F(SourceChain, AutoTakesTheBestAndOpensNoOther) {
  const auto choice = choose_source("auto", {works("ebpf"), works("netlink")}, {}, 100s, now_);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->source->name(), "ebpf");
  EXPECT_EQ(choice->limits, "");
  EXPECT_THAT(opened_, ElementsAre("ebpf"));
}

TEST_F(SourceChain, AutoTakesTheNextOneAndSaysWhyAndItsLimits) {
  const auto choice =
      choose_source("auto", {fails("ebpf"), works("netlink", "arguments may be missing")}, {}, 100s, now_);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->source->name(), "netlink");
  EXPECT_THAT(choice->reason, HasSubstr("ebpf: ebpf needs more"));
  EXPECT_EQ(choice->limits, "real-time source netlink (ebpf: ebpf needs more): arguments may be missing");
}

TEST_F(SourceChain, AutoEndsWithScansAlone) {
  const auto choice = choose_source("auto", {fails("ebpf"), fails("netlink")}, {}, 100s, now_);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->source, nullptr);
  EXPECT_THAT(choice->limits, HasSubstr("only scans (ebpf: ebpf needs more; netlink: netlink needs more)"));
}

TEST_F(SourceChain, AutoLeavesOutWhatHasJustFailed) {
  const auto choice = choose_source("auto", {works("ebpf"), works("netlink")},
                                    {{.source = "ebpf", .uptime = 100s, .reason = "the ring is gone"}}, 220s, now_);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->source->name(), "netlink");
  EXPECT_THAT(opened_, ElementsAre("netlink"));
  EXPECT_THAT(choice->limits,
              HasSubstr("ebpf: failed at " + base::to_iso({now_.ns - 120'000'000'000}) +
                        " (the ring is gone), left out until " + base::to_iso({now_.ns + 480'000'000'000}) +
                        ", then tried again when procmond next starts"));
}

TEST_F(SourceChain, ANameTakesThatOneWhateverFailedAndFailsWithIt) {
  const auto choice = choose_source("ebpf", {works("ebpf"), works("netlink")}, {{"ebpf", 100s, "gone"}}, 101s, now_);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->source->name(), "ebpf");
  const auto failed = choose_source("ebpf", {fails("ebpf"), works("netlink")}, {}, 100s, now_);
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("ebpf needs more"));
  EXPECT_FALSE(choose_source("netlink", {works("ebpf")}, {}, 100s, now_));
}

TEST_F(SourceChain, OffOpensNothing) {
  const auto choice = choose_source("off", {works("ebpf")}, {}, 100s, now_);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->source, nullptr);
  EXPECT_THAT(opened_, IsEmpty());
}

TEST_F(SourceChain, RemembersAFailureForABoundedTimeOfThisBoot) {
  ASSERT_TRUE(remember_failure(path_, boot_, {"ebpf", 1000s, "reading the ring:\nbroken"}));
  const auto names = [&](const event::BootId& boot, std::chrono::seconds uptime) {
    std::vector<std::string> found;
    const auto failures = recent_failures(path_, boot, uptime);
    EXPECT_TRUE(failures) << failures.error().message;
    for (const auto& failure : failures.value_or(std::vector<SourceFailure>{})) found.push_back(failure.source);
    return found;
  };
  EXPECT_THAT(names(boot_, 1000s), ElementsAre("ebpf"));
  EXPECT_THAT(names(boot_, 1000s + failed_source_rest), ElementsAre("ebpf"));
  EXPECT_THAT(names(boot_, 1001s + failed_source_rest), IsEmpty());
  EXPECT_THAT(names(boot_, 999s), IsEmpty()) << "the future is not believed";
  event::BootId other = boot_;
  other[0] = 1;
  EXPECT_THAT(names(other, 1000s), IsEmpty());
  ASSERT_TRUE(remember_failure(path_, boot_, {"netlink", 1100s, "closed"}));
  ASSERT_TRUE(remember_failure(path_, boot_, {"ebpf", 1200s, "again"}));
  EXPECT_THAT(names(boot_, 1200s), ElementsAre("netlink", "ebpf"));
}

TEST_F(SourceChain, NoFileMeansNoFailure) {
  const auto failures = recent_failures(path_, boot_, 1s);
  ASSERT_TRUE(failures);
  EXPECT_THAT(*failures, IsEmpty());
}

TEST_F(SourceChain, BelievesNothingOfWhatIsNotExactlySuchAFile) {
  ASSERT_TRUE(remember_failure(path_, boot_, {"ebpf", 5s, "x"}));
  const auto good = base::read_file(path_, 4096).value_or("");
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"\"format\":1", "\"format\":2"},
                                                        {"\"uptime_s\":5", "\"uptime_s\":-5"},
                                                        {"\"uptime_s\":5", "\"uptime_s\":\"5\""},
                                                        {"\"uptime_s\":5", "\"uptime_s\":1e99"},
                                                        {"\"ebpf\"", "null"},
                                                        {"\"reason\":\"x\",", ""},
                                                        {"\"reason\":\"x\"", "\"more\":1,\"reason\":\"x\""},
                                                        {"}\n", ""},
                                                        {"\"x\"", "\"" + std::string(2000, 'x') + "\""}}) {
    auto text = good;
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from << " in " << good;
    text.replace(at, from.size(), to);
    write(text);
    EXPECT_FALSE(recent_failures(path_, boot_, 5s)) << text;
  }
  write(std::string(20000, ' ') + good);
  EXPECT_FALSE(recent_failures(path_, boot_, 5s));
  write("");
  EXPECT_FALSE(recent_failures(path_, boot_, 5s));
  // And a new failure replaces it.
  ASSERT_TRUE(remember_failure(path_, boot_, {"netlink", 6s, "x"}));
  EXPECT_EQ(recent_failures(path_, boot_, 6s)->size(), 1U);
}

TEST_F(SourceChain, FollowsNoLinkAndWaitsForNoPipe) {
  ASSERT_TRUE(remember_failure(folder_ + "/elsewhere", boot_, {"ebpf", 5s, "x"}));
  std::filesystem::create_symlink(folder_ + "/elsewhere", path_);
  EXPECT_FALSE(recent_failures(path_, boot_, 5s));
  std::filesystem::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(recent_failures(path_, boot_, 5s));
}

}  // namespace
}  // namespace daemoneye::sensor
