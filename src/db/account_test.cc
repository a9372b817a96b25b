#include "db/account.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

namespace daemoneye::db {
namespace {

TEST(Account, RefusesLargePiecesOnceItIsToldTo) {
  ASSERT_TRUE(accounts_installed());
  constexpr std::uint64_t large = 1024 * 1024;
  Account account(0, 0);
  bool stop = false;
  int asked = 0;
  account.refuse_large_when([&] {
    ++asked;
    return stop;
  });
  void* memory = sqlite3_malloc64(large);
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(asked, 1);
  stop = true;
  EXPECT_EQ(sqlite3_malloc64(large), nullptr);
  EXPECT_EQ(sqlite3_realloc64(memory, 3 * large), nullptr);  // and leaves the memory as it is
  void* const little = sqlite3_malloc64(100);
  EXPECT_NE(little, nullptr) << "what ends the work needs memory, too";
  EXPECT_EQ(account.reached(), Account::Limit::none);
  sqlite3_free(little);
  sqlite3_free(memory);
  const Account inner(0, 0);
  memory = sqlite3_malloc64(large);
  EXPECT_NE(memory, nullptr) << "it is the account's, not the thread's";
  sqlite3_free(memory);
}

}  // namespace
}  // namespace daemoneye::db
