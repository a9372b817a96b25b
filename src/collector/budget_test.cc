#include "collector/budget.h"

#include <gtest/gtest.h>

#include <bit>

namespace daemoneye::collector {
namespace {

constexpr std::size_t mib = 1024 * 1024;

TEST(BudgetTest, TheDefaultHoldsWhatItsTableSays) {
  const auto budget = Budget::of(100);
  EXPECT_EQ(budget.ring_bytes, 8 * mib);
  EXPECT_GE(budget.processes, 32'768U);
  EXPECT_EQ(budget.held_bytes, 100 * mib / 8);
  EXPECT_GE(budget.hashed_files, 4096U);
}

TEST(BudgetTest, EveryAllowedBudgetGivesUsableBounds) {
  for (std::uint32_t mb = 16; mb <= 65'536; mb = mb * 3 / 2) {
    const auto budget = Budget::of(mb);
    EXPECT_TRUE(std::has_single_bit(budget.ring_bytes)) << mb;
    EXPECT_GE(budget.ring_bytes, mib) << mb;
    EXPECT_GE(budget.processes, 4096U) << mb;
    EXPECT_EQ(budget.table_bytes / budget.processes, 768U) << mb;
    EXPECT_GE(budget.hashes_waiting, 500U) << mb;
    EXPECT_GE(budget.held_bytes, 2 * mib) << mb;
    EXPECT_GE(budget.hashed_files, 500U) << mb;
  }
}

TEST(BudgetTest, NoShareIsMoreThanItsPart) {
  const auto budget = Budget::of(1000);
  EXPECT_LE(2 * budget.ring_bytes + budget.held_bytes + budget.table_bytes + budget.hashes_waiting_bytes,
            1000 * mib * 2 / 3);
}

}  // namespace
}  // namespace daemoneye::collector
