#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

namespace daemoneye::base {
namespace {

class FileTest : public ::testing::Test {
 protected:
  FileTest() {
    char name[] = "/tmp/daemoneye-file-XXXXXX";
    folder = ::mkdtemp(name);
  }
  ~FileTest() override { std::filesystem::remove_all(folder); }
  std::string folder;
};

TEST_F(FileTest, WhatIsWrittenIsReadUpToTheBound) {
  const auto path = folder + "/f";
  const std::string bytes(100'000, 'x');  // more than one piece
  ASSERT_TRUE(write_file_atomic(path, bytes, 0640));
  EXPECT_EQ(read_file(path, bytes.size()).value(), bytes);
  EXPECT_EQ(read_file(path, SIZE_MAX).value(), bytes);
  const auto too_large = read_file(path, bytes.size() - 1);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code, Errc::limit_exceeded);
}

TEST_F(FileTest, ErrorsNameTheFile) {
  const auto missing = read_file(folder + "/missing", 10);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_NE(missing.error().message.find(folder + "/missing"), std::string::npos);
  EXPECT_FALSE(read_file(folder, 10));
  EXPECT_FALSE(write_file_atomic(folder + "/none/f", "x", 0600));
}

TEST_F(FileTest, ReplacingLeavesOneFileOfTheRightMode) {
  const auto path = folder + "/f";
  ASSERT_TRUE(write_file_atomic(path + ".new", "a crash left this", 0666));
  ASSERT_TRUE(write_file_atomic(path, "old", 0600));
  ASSERT_TRUE(write_file_atomic(path, "new", 0640));
  EXPECT_EQ(read_file(path, 10).value(), "new");
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0640U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
}

TEST_F(FileTest, AFailedReplacementLeavesTheOldContent) {
  const auto path = folder + "/f";
  ASSERT_TRUE(std::filesystem::create_directory(path));  // a folder cannot be renamed over
  EXPECT_FALSE(write_file_atomic(path, "new", 0600));
  EXPECT_TRUE(std::filesystem::is_directory(path));
  EXPECT_FALSE(std::filesystem::exists(path + ".new"));
}

TEST_F(FileTest, ReadingGoesOnThroughShortReads) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  std::string wanted;
  for (int i = 0; i < 50'000; ++i) wanted += std::to_string(i);
  std::jthread writer([&, writing = UniqueFd(ends[1])] { EXPECT_TRUE(write_all(writing.get(), wanted)); });
  EXPECT_EQ(read_up_to(reading.get(), 10).value(), wanted.substr(0, 10));
  EXPECT_EQ(read_up_to(reading.get(), SIZE_MAX).value(), wanted.substr(10));
}

TEST(UniqueFd, ClosesOnceAndMoves) {
  UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = first.get();
  ASSERT_TRUE(first);
  UniqueFd second(std::move(first));
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): what moving leaves is what is tested
  EXPECT_EQ(second.get(), number);
  second.reset();
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  UniqueFd third(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd released(third.release());
  EXPECT_FALSE(third);
  EXPECT_NE(::fcntl(released.get(), F_GETFD), -1);
}

}  // namespace
}  // namespace daemoneye::base
