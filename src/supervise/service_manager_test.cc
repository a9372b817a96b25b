#include "supervise/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

namespace daemoneye::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::StartsWith;

constexpr int patience_ms = 30'000;  // a bound for a broken test

// What a service manager is to us: a socket that datagrams come to.
class Manager : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/service-manager-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/notify";
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    loop_ = std::move(*loop);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // The next datagram; empty when none comes within the time.
  std::string heard(int milliseconds = patience_ms) {
    pollfd waited{socket_.get(), POLLIN, 0};
    if (::poll(&waited, 1, milliseconds) <= 0) return "";
    std::array<char, 512> buffer{};
    const auto bytes = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    return bytes > 0 ? std::string(buffer.data(), static_cast<std::size_t>(bytes)) : "";
  }
  ServiceManager::Environment environment(const std::string& watchdog = "") const {
    ServiceManager::Environment all = {{"NOTIFY_SOCKET", path_}};
    if (!watchdog.empty()) all["WATCHDOG_USEC"] = watchdog;
    return all;
  }

  std::string folder_, path_;
  UniqueFd socket_;
  std::unique_ptr<EventLoop> loop_;
};

TEST_F(Manager, IsToldOfReadinessReloadAndEnd) {
  auto manager = ServiceManager::connect(environment());
  ASSERT_TRUE(manager) << manager.error().message;
  ASSERT_TRUE(manager->ready(*loop_, "Watching."));
  EXPECT_EQ(heard(), "READY=1\nSTATUS=Watching.");
  manager->reloading();
  EXPECT_THAT(heard(), StartsWith("RELOADING=1\nMONOTONIC_USEC="));
  manager->reloaded();
  EXPECT_EQ(heard(), "READY=1");
  manager->stopping();
  EXPECT_THAT(heard(), StartsWith("STOPPING=1"));
}

TEST_F(Manager, IsFedWhileTheLoopTurnsAndNotWhileItHangs) {
  auto manager = ServiceManager::connect(environment("20000"));
  ASSERT_TRUE(manager);
  EXPECT_EQ(manager->watchdog(), 20ms);
  ASSERT_TRUE(manager->ready(*loop_, ""));
  EXPECT_THAT(heard(), StartsWith("READY=1"));
  std::string while_it_hung;
  std::atomic<bool> hung = false;
  loop_->post([&] {
    while (!heard(0).empty()) {
    }
    while_it_hung = heard(200);  // the loop hangs here, ten times as long as the watchdog allows
    hung = true;
    hung.notify_one();
  });
  std::string afterwards;
  std::jthread listener([&] {
    hung.wait(false);
    afterwards = heard();
    loop_->stop();
  });
  loop_->run();
  listener.join();
  EXPECT_EQ(while_it_hung, "");
  EXPECT_EQ(afterwards, "WATCHDOG=1") << "it turns again";
}

TEST_F(Manager, WatchdogOfAnotherProcessIsNotFed) {
  auto asked = environment("20000");
  asked["WATCHDOG_PID"] = std::to_string(::getpid() + 1);
  const auto others = ServiceManager::connect(asked);
  ASSERT_TRUE(others);
  EXPECT_EQ(others->watchdog(), 0us);
  asked["WATCHDOG_PID"] = std::to_string(::getpid());
  const auto ours = ServiceManager::connect(asked);
  ASSERT_TRUE(ours);
  EXPECT_EQ(ours->watchdog(), 20ms);
}

TEST_F(Manager, OfAnAbstractNameIsReached) {
  const std::string name = "daemoneye-test-" + std::to_string(::getpid());
  const UniqueFd abstract(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(&address.sun_path[1], sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(abstract.get(), reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
            0);
  auto manager = ServiceManager::connect({{"NOTIFY_SOCKET", '@' + name}});
  ASSERT_TRUE(manager) << manager.error().message;
  manager->reloaded();
  std::array<char, 64> buffer{};
  EXPECT_EQ(::recv(abstract.get(), buffer.data(), buffer.size(), MSG_DONTWAIT), 7);
}

TEST_F(Manager, IsNoneWhereNobodyAsked) {
  auto manager = ServiceManager::connect({{"WATCHDOG_USEC", "20000"}});
  ASSERT_TRUE(manager);
  EXPECT_EQ(manager->watchdog(), 0us);
  ASSERT_TRUE(manager->ready(*loop_, ""));
  manager->stopping();
}

TEST_F(Manager, ThatCannotBeReachedOrUnderstoodIsAnError) {
  EXPECT_FALSE(ServiceManager::connect({{"NOTIFY_SOCKET", folder_ + "/nobody"}}));
  EXPECT_FALSE(ServiceManager::connect({{"NOTIFY_SOCKET", "relative"}}));
  EXPECT_FALSE(ServiceManager::connect({{"NOTIFY_SOCKET", "/" + std::string(200, 'x')}}));
  EXPECT_FALSE(ServiceManager::connect(environment("soon")));
}

TEST_F(Manager, ThatDoesNotReadHoldsNobodyUp) {
  auto manager = ServiceManager::connect(environment());
  ASSERT_TRUE(manager);
  for (int i = 0; i < 1000; ++i) manager->reloaded();
  SUCCEED() << "it came back";
}

}  // namespace
}  // namespace daemoneye::supervise
