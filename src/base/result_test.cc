#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace daemoneye::base {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return fail(Errc::invalid_input, "odd: " + std::to_string(number));
  return number / 2;
}

Result<int> quarter(int number) {
  DE_TRY(const int once, half(number));
  DE_TRY(const int twice, half(once));
  return twice;
}

Result<void> must_be_even(int number) {
  DE_CHECK(half(number));
  return {};
}

Result<int> take(Result<std::unique_ptr<int>> result) {
  DE_TRY(const auto pointer, std::move(result));
  return *pointer;
}

TEST(Result, TryBindsTheValueOrPassesTheErrorOn) {
  EXPECT_EQ(quarter(8).value(), 2);
  const auto failed = quarter(6);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Errc::invalid_input);
  EXPECT_EQ(failed.error().message, "odd: 3");
}

TEST(Result, CheckPassesTheErrorOnAndForgetsTheValue) {
  EXPECT_TRUE(must_be_even(2));
  EXPECT_EQ(must_be_even(3).error().message, "odd: 3");
}

TEST(Result, TryMovesWhatCannotBeCopied) {
  EXPECT_EQ(take(std::make_unique<int>(5)).value(), 5);
  EXPECT_EQ(take(fail(Errc::timeout, "late")).error().code, Errc::timeout);
}

TEST(Result, ErrnoBecomesACodeAndAText) {
  EXPECT_EQ(fail_errno("open x", ENOENT).error().message, "open x: No such file or directory");
  EXPECT_EQ(fail_errno("", ENOENT).error().code, Errc::not_found);
  EXPECT_EQ(fail_errno("", EACCES).error().code, Errc::permission_denied);
  EXPECT_EQ(fail_errno("", EPERM).error().code, Errc::permission_denied);
  EXPECT_EQ(fail_errno("", ETIMEDOUT).error().code, Errc::timeout);
  EXPECT_EQ(fail_errno("", EIO).error().code, Errc::io);
}

TEST(Result, EveryCodeHasAName) {
  for (int code = 0; code <= static_cast<int>(Errc::internal); ++code) {
    EXPECT_NE(to_string(static_cast<Errc>(code)), "unknown error") << code;
  }
}

}  // namespace
}  // namespace daemoneye::base
