#include "event/merged_reasons.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace daemoneye::event {
namespace {

using ::testing::ElementsAre;

Incompleteness reason(std::string name, std::optional<std::uint64_t> count, std::int64_t from, std::int64_t to) {
  return {std::move(name), count, Timestamp{from}, Timestamp{to}};
}

TEST(MergedReasons, TellsWhatIsMetAgainOnceAndAddsUpWhatOverlapsOrTouches) {
  MergedReasons merged;
  merged.add({{reason("lost", 5, 100, 200), reason("lost", 2, 201, 300), reason("lost", 1, 400, 500)}});
  merged.add({{reason("lost", 2, 201, 300), reason("lost", 5, 100, 200), reason("other", 5, 100, 200)}});
  EXPECT_THAT(merged.all(),
              ElementsAre(reason("lost", 7, 100, 300), reason("lost", 1, 400, 500), reason("other", 5, 100, 200)));
}

TEST(MergedReasons, KeepsApartWhatDoesNotTouchAndForgetsACountThatIsNotKnownOfAll) {
  MergedReasons merged;
  for (std::int64_t i = 0; i < 1000; ++i) merged.add(reason("late", {}, 10 * i, 10 * i + 9));
  merged.add(reason("late", {}, 20'000, 30'000));
  merged.add(reason("lost", 3, 0, 10));
  merged.add(reason("lost", {}, 5, 20));
  merged.add(reason("lost", {}, 22, 30));
  EXPECT_THAT(merged.all(), ElementsAre(reason("late", {}, 0, 9999), reason("late", {}, 20'000, 30'000),
                                        reason("lost", {}, 0, 20), reason("lost", {}, 22, 30)));
}

TEST(MergedReasons, AnEndThatIsOpenStaysSo) {
  MergedReasons merged;
  merged.add({"limit_reached", {}, {}, {}});
  merged.add({"limit_reached", {}, {}, {}});
  merged.add({"before_record", {}, {}, Timestamp{10}});
  merged.add({"before_record", {}, Timestamp{5}, Timestamp{10}});
  merged.add({"late", {}, Timestamp{5}, {}});
  merged.add({"late", {}, Timestamp{7}, Timestamp{8}});
  EXPECT_THAT(merged.all(),
              ElementsAre(Incompleteness{"before_record", {}, {}, Timestamp{10}},
                          Incompleteness{"late", {}, Timestamp{5}, {}}, Incompleteness{"limit_reached", {}, {}, {}}));
}

}  // namespace
}  // namespace daemoneye::event
