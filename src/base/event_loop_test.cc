#include "base/event_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace daemoneye::base {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  void put() const { EXPECT_EQ(::write(write.get(), "x", 1), 1); }
  UniqueFd read, write;
};

class EventLoopTest : public ::testing::Test {
 protected:
  EventLoopTest() : loop(EventLoop::create().value()) {
    // So that a broken loop fails the test instead of hanging it.
    EXPECT_TRUE(loop->add_timer(std::chrono::seconds(60), nanoseconds(0), [this] {
      ADD_FAILURE() << "the loop was not stopped";
      loop->stop();
    }));
  }
  std::unique_ptr<EventLoop> loop;
};

TEST_F(EventLoopTest, CallsTheHandlerOfAReadyDescriptor) {
  const Pipe pipe;
  std::uint32_t seen = 0;
  ASSERT_TRUE(loop->add(pipe.read.get(), EPOLLIN, [&](std::uint32_t events) {
    seen = events;
    loop->stop();
  }));
  pipe.put();
  loop->run();
  EXPECT_EQ(seen, static_cast<std::uint32_t>(EPOLLIN));
}

TEST_F(EventLoopTest, ModifyChangesWhatIsWaitedFor) {
  const Pipe pipe;
  bool called = false;
  ASSERT_TRUE(loop->add(pipe.write.get(), 0, [&](std::uint32_t) {
    called = true;
    loop->stop();
  }));
  loop->post([&] {
    EXPECT_FALSE(called);
    EXPECT_TRUE(loop->modify(pipe.write.get(), EPOLLOUT));
  });
  loop->run();
  EXPECT_TRUE(called);
  EXPECT_FALSE(loop->modify(pipe.read.get(), EPOLLIN));  // never added
}

TEST_F(EventLoopTest, AHandlerMayRemoveAndCloseItself) {
  Pipe pipe;
  int calls = 0;
  ASSERT_TRUE(loop->add(pipe.read.get(), EPOLLIN, [&](std::uint32_t) {
    ++calls;
    loop->remove(pipe.read.get());
    pipe.read.reset();
    loop->post([&] { loop->stop(); });  // after a further round, in which the handler must not come again
  }));
  pipe.put();
  loop->run();
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, ARemovedNeighbourIsNotCalledInTheSameRound) {
  const Pipe a, b;
  int calls = 0;
  const auto handler = [&](const Pipe& other) {
    return [&](std::uint32_t) {
      ++calls;
      loop->remove(other.read.get());
      loop->stop();
    };
  };
  ASSERT_TRUE(loop->add(a.read.get(), EPOLLIN, handler(b)));
  ASSERT_TRUE(loop->add(b.read.get(), EPOLLIN, handler(a)));
  a.put();
  b.put();
  loop->run();
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, AReusedNumberDoesNotGetTheOldOnesEvents) {
  Pipe a, b;
  int stray = 0;
  std::vector<UniqueFd> reused;
  // Whichever comes first replaces the other by a descriptor of the same number that has nothing to read.
  const auto replace = [&](Pipe& other) {
    const int number = other.read.get();
    loop->remove(number);
    other.read.reset();
    const Pipe empty;
    reused.emplace_back(::dup2(empty.read.get(), number));
    reused.emplace_back(::dup(empty.write.get()));  // open, or the end of file would be an event
    EXPECT_TRUE(loop->add(number, EPOLLIN, [&](std::uint32_t) { ++stray; }));
  };
  ASSERT_TRUE(loop->add(a.read.get(), EPOLLIN, [&](std::uint32_t) {
    loop->remove(a.read.get());
    replace(b);
    loop->post([&] { loop->stop(); });
  }));
  ASSERT_TRUE(loop->add(b.read.get(), EPOLLIN, [&](std::uint32_t) {
    loop->remove(b.read.get());
    replace(a);
    loop->post([&] { loop->stop(); });
  }));
  a.put();
  b.put();
  loop->run();
  EXPECT_EQ(stray, 0);
}

TEST_F(EventLoopTest, ATimerFiresOnceOrAgainAndAgain) {
  int once = 0, often = 0;
  ASSERT_TRUE(loop->add_timer(nanoseconds(0), nanoseconds(0), [&] { ++once; }));
  ASSERT_TRUE(loop->add_timer(milliseconds(1), milliseconds(1), [&] {
    if (++often == 3) loop->stop();
  }));
  loop->run();
  EXPECT_EQ(once, 1);
  EXPECT_EQ(often, 3);
}

TEST_F(EventLoopTest, ATimerMayRemoveItself) {
  EventLoop::TimerId id = 0;
  int fired = 0;
  id = loop->add_timer(milliseconds(1), milliseconds(1),
                       [&] {
                         ++fired;
                         loop->remove_timer(id);
                       })
           .value();
  ASSERT_TRUE(loop->add_timer(milliseconds(20), nanoseconds(0), [&] { loop->stop(); }));
  loop->run();
  EXPECT_EQ(fired, 1);
}

TEST_F(EventLoopTest, ARemovedTimerNeverFires) {
  const auto id = loop->add_timer(milliseconds(1), nanoseconds(0), [&] { ADD_FAILURE(); }).value();
  loop->remove_timer(id);
  loop->remove_timer(id);  // harmless
  ASSERT_TRUE(loop->add_timer(milliseconds(10), nanoseconds(0), [&] { loop->stop(); }));
  loop->run();
}

TEST_F(EventLoopTest, TheIdOfAFiredTimerEndsNoOtherTimer) {
  EventLoop::TimerId first = 0;
  bool fired = false;
  first = loop->add_timer(nanoseconds(0), nanoseconds(0),
                          [&] {
                            EXPECT_TRUE(loop->add_timer(milliseconds(1), nanoseconds(0), [&] {
                              fired = true;
                              loop->stop();
                            }));
                            loop->remove_timer(first);  // its descriptor's number may be the new timer's by now
                          })
              .value();
  loop->run();
  EXPECT_TRUE(fired);
}

TEST_F(EventLoopTest, SignalsBecomeCalls) {
  sigset_t before;
  ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &before), 0);
  std::vector<int> seen;
  ASSERT_TRUE(loop->on_signals({SIGUSR1, SIGUSR2}, [&](int signal) {
    seen.push_back(signal);
    if (seen.size() == 2) loop->stop();
  }));
  EXPECT_FALSE(loop->on_signals({SIGHUP}, [](int) {}));
  ASSERT_EQ(::pthread_kill(::pthread_self(), SIGUSR1), 0);
  ASSERT_EQ(::pthread_kill(::pthread_self(), SIGUSR2), 0);
  loop->run();
  EXPECT_EQ(seen, (std::vector<int>{SIGUSR1, SIGUSR2}));
  ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
}

TEST_F(EventLoopTest, PostedWorkRunsInTheLoopsThreadWhoeverPosts) {
  constexpr int threads = 4, each = 1000;
  const auto loop_thread = std::this_thread::get_id();
  int done = 0;
  bool elsewhere = false;
  std::vector<std::jthread> posters;
  for (int t = 0; t < threads; ++t) {
    posters.emplace_back([&] {
      for (int i = 0; i < each; ++i) {
        loop->post([&] {
          elsewhere = elsewhere || std::this_thread::get_id() != loop_thread;
          if (++done == threads * each) loop->stop();
        });
      }
    });
  }
  loop->run();
  EXPECT_EQ(done, threads * each);
  EXPECT_FALSE(elsewhere);
}

TEST_F(EventLoopTest, PostedWorkKeepsItsOrderAndMayPost) {
  std::vector<int> order;
  loop->post([&] {
    order.push_back(1);
    loop->post([&] {
      order.push_back(3);
      loop->stop();
    });
  });
  loop->post([&] { order.push_back(2); });
  loop->run();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST_F(EventLoopTest, WorkThatPostsItselfLetsDescriptorsHaveTheirTurn) {
  const Pipe pipe;
  pipe.put();
  ASSERT_TRUE(loop->add(pipe.read.get(), EPOLLIN, [&](std::uint32_t) { loop->stop(); }));
  int posted = 0;
  const std::function<void()> again = [&] {
    if (++posted < 100'000)
      loop->post(again);
    else
      loop->stop();
  };
  loop->post(again);
  loop->run();
  EXPECT_LT(posted, 100);
}

TEST_F(EventLoopTest, AStopBeforeRunHolds) {
  loop->post([] { ADD_FAILURE() << "stopped before"; });
  loop->stop();
  loop->run();
}

TEST_F(EventLoopTest, AStopFromAnotherThreadEndsTheWait) {
  const std::jthread stopper([&] { loop->stop(); });
  loop->run();
}

}  // namespace
}  // namespace daemoneye::base
