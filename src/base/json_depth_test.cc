#include "base/json_depth.h"

#include <gtest/gtest.h>

#include <string>

namespace daemoneye::base {
namespace {

TEST(JsonDepth, CountsBracketsOutsideOfTexts) {
  EXPECT_FALSE(json_nests_deeper_than("", 0));
  EXPECT_FALSE(json_nests_deeper_than("1", 0));
  EXPECT_FALSE(json_nests_deeper_than(R"({"a":[1,2]})", 2));
  EXPECT_TRUE(json_nests_deeper_than(R"({"a":[1,2]})", 1));
  EXPECT_FALSE(json_nests_deeper_than(R"([[],[],[[]]])", 3));
  EXPECT_FALSE(json_nests_deeper_than(R"({"a":"[[[[[["})", 1));
  EXPECT_FALSE(json_nests_deeper_than(R"({"a":"\"[[[[[["})", 1));
  EXPECT_TRUE(json_nests_deeper_than(R"({"a":"\\","b":[]})", 1));
  EXPECT_TRUE(json_nests_deeper_than(std::string(1'000'000, '['), 64));
}

}  // namespace
}  // namespace daemoneye::base
