#include "ipc/audit_queue.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"

namespace daemoneye::ipc {
namespace {

class AuditQueueTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/daemoneye-queue-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::string path() const { return folder_ + "/audit-requests"; }
  static std::string request(int n) { return "{\"n\":" + std::to_string(n) + "}"; }
  static std::vector<std::string> all(AuditQueue& queue) {
    std::vector<std::string> found;
    std::uint64_t id = 1'000'000;
    for (auto next = queue.next(id); next; next = queue.next(++id)) found.push_back(*next);
    return found;
  }
  static void answer(AuditQueue& queue, std::uint64_t id) {
    ASSERT_TRUE(queue.next(id));
    ASSERT_TRUE(queue.answered(id));
  }

  std::string folder_;
};

TEST_F(AuditQueueTest, WhatIsNotAnsweredComesBackInOrder) {
  {
    auto queue = AuditQueue::open(path());
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(queue.push(request(i)));
    ASSERT_TRUE(queue.next(1));
    EXPECT_FALSE(queue.answered(2));
  }
  auto queue = AuditQueue::open(path());
  EXPECT_EQ(all(queue), (std::vector{request(0), request(1), request(2)}));
}

TEST_F(AuditQueueTest, NothingIsLostWhereTheFileIsNeverEmpty) {
  constexpr int total = 2 * AuditQueue::max_requests, left = AuditQueue::max_requests / 2;
  {
    auto queue = AuditQueue::open(path());
    for (int i = 0; i < total; ++i) {
      ASSERT_TRUE(queue.push(request(i))) << i;
      ASSERT_EQ(queue.problem(), "");
      if (i >= left) answer(queue, static_cast<std::uint64_t>(i));
    }
    EXPECT_EQ(queue.waiting(), static_cast<std::size_t>(left));
  }
  auto queue = AuditQueue::open(path());
  const auto found = all(queue);
  EXPECT_EQ(queue.left_out(), 0U);
  ASSERT_GE(found.size(), static_cast<std::size_t>(left));
  EXPECT_LE(found.size(), left + AuditQueue::max_answered_in_file + 1);
  for (int i = 0; i < left; ++i) {
    EXPECT_EQ(found[found.size() - static_cast<std::size_t>(left - i)], request(total - left + i));
  }
}

TEST_F(AuditQueueTest, APartOfARequestDoesNotTakeTheNextOneWithIt) {
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  auto queue = AuditQueue::open(path());
  ASSERT_TRUE(queue.push(request(0)));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit full{.rlim_cur = std::filesystem::file_size(path()) + 3, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  EXPECT_TRUE(queue.push(request(1))) << "it is asked for";
  EXPECT_NE(queue.problem(), "") << "but in memory alone";
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(queue.push(request(2)));
  EXPECT_EQ(queue.problem(), "") << "now both are on the disk";
  std::signal(SIGXFSZ, old_handler);
  auto again = AuditQueue::open(path());
  EXPECT_EQ(all(again), (std::vector{request(0), request(1), request(2)}));
}

TEST_F(AuditQueueTest, WhatCouldNotBeDoneYetIsAskedAgainFirst) {
  auto queue = AuditQueue::open(path());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(queue.push(request(i)));
  ASSERT_TRUE(queue.next(7));
  EXPECT_TRUE(queue.put_back(7));
  EXPECT_FALSE(queue.put_back(7));
  EXPECT_EQ(queue.next(8), request(0));
}

TEST_F(AuditQueueTest, IsEmptyWhenAllIsAnswered) {
  auto queue = AuditQueue::open(path());
  ASSERT_TRUE(queue.push(request(0)));
  answer(queue, 1);
  EXPECT_EQ(std::filesystem::file_size(path()), 0U);
}

TEST_F(AuditQueueTest, RefusesWhatHasNoRoom) {
  auto queue = AuditQueue::open(path());
  EXPECT_FALSE(queue.push(std::string(AuditQueue::max_request_bytes + 1, 'x')));
  EXPECT_FALSE(queue.push("a\nb"));
  for (std::size_t i = 0; i < AuditQueue::max_requests; ++i) ASSERT_TRUE(queue.push(request(1)));
  EXPECT_FALSE(queue.push(request(1)));
}

}  // namespace
}  // namespace daemoneye::ipc
