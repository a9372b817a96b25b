#include "store/reader_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "store/testing/temp_store.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using namespace store::testing;

class ReaderPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto writer = Writer::open(folder_.options());
    ASSERT_TRUE(writer) << writer.error().message;
    writer_ = std::move(*writer);
  }
  TempFolder folder_;
  std::unique_ptr<Writer> writer_;
};

TEST_F(ReaderPoolTest, UsesAConnectionAgainAndSeesWhatWasCommittedSince) {
  ReaderPool pool(folder_.file(), 2);
  Reader* first = nullptr;
  {
    auto lease = pool.take(Deadline::after(10s));
    ASSERT_TRUE(lease) << lease.error().message;
    first = lease->get();
    EXPECT_EQ(*(*lease)->last_event_id(), 0);
    EXPECT_EQ(pool.state().on_loan, 1U);
  }
  EXPECT_EQ(pool.state().on_loan, 0U);
  EXPECT_EQ(pool.state().idle, 1U);
  ASSERT_TRUE(commit(*writer_, make_batch(1, {make_event(event::EventKind::exec, 5, 1, "a")})));
  auto lease = pool.take(Deadline::after(10s));
  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->get(), first);
  EXPECT_EQ(*(*lease)->last_event_id(), 1);
}

TEST_F(ReaderPoolTest, IsBoundedAndSaysSoAtTheDeadline) {
  ReaderPool pool(folder_.file(), 2);
  auto one = pool.take(Deadline::after(10s));
  auto two = pool.take(Deadline::after(10s));
  ASSERT_TRUE(one && two);
  const auto three = pool.take(Deadline::after(1ms));
  ASSERT_FALSE(three);
  EXPECT_EQ(three.error().code, Errc::limit_exceeded);
  EXPECT_NE(three.error().message.find("all 2 connections"), std::string::npos) << three.error().message;
  EXPECT_EQ(pool.state().refused, 1U);
  // Who waits gets the first that comes back.
  std::atomic<bool> got = false;
  std::thread waiting([&] { got = pool.take(Deadline::after(60s)).has_value(); });
  while (pool.state().waits < 2) std::this_thread::yield();
  one->give_back();
  waiting.join();
  EXPECT_TRUE(got);
}

TEST_F(ReaderPoolTest, ClosesWhatNobodyUsesAndWhatIsNotForOthers) {
  ReaderPool pool(folder_.file(), 3);
  {
    auto plain = pool.take(Deadline::after(10s));
    auto own = pool.take(Deadline::after(10s));
    ASSERT_TRUE(plain && own);
    own->keep_from_others();
  }
  EXPECT_EQ(pool.state().idle, 1U);
  pool.close_idle(1h);
  EXPECT_EQ(pool.state().idle, 1U);
  pool.close_idle(0s);
  EXPECT_EQ(pool.state().idle, 0U);
}

TEST_F(ReaderPoolTest, AConnectionThatCannotBeOpenedTakesNoPlace) {
  ReaderPool pool(folder_.path() + "/nowhere.redb", 1);
  for (int i = 0; i < 3; ++i) {
    const auto lease = pool.take(Deadline::after(10s));
    ASSERT_FALSE(lease);
    EXPECT_EQ(lease.error().code, Errc::not_found);
  }
  EXPECT_EQ(pool.state().on_loan, 0U);
}

}  // namespace
}  // namespace daemoneye::store
