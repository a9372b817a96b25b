#include "ledger/format.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

namespace daemoneye::ledger {
namespace {

using nlohmann::json;

TEST(CanonicalJson, IsTakenAsItIsOnlyWhenParsingGivesTheSame) {
  for (const auto* text : {"{}", R"({"a":1})", R"({"a":"x","b":true,"c":null,"d":18446744073})", R"({"":""})"}) {
    EXPECT_TRUE(is_canonical_json(text)) << text;
    EXPECT_EQ(json::parse(text).dump(), text);
  }
  for (const auto* text : {"",
                           "{",
                           "[]",
                           "1",
                           "{ }",
                           R"({"a": 1})",
                           R"({"b":1,"a":1})",
                           R"({"a":1,"a":1})",
                           R"({"a":01})",
                           R"({"a":1.0})",
                           R"({"a":1e3})",
                           R"({"a":-0})",
                           R"({"a":"\\u0041"})",
                           "{\"a\":\"\xc3\xa9\"}",
                           R"({"a":{}})",
                           R"({"a":[]})",
                           R"({"a":1}x)",
                           R"({"a":1)",
                           R"({"a":1,})",
                           R"({"a"})",
                           R"({"a":truee})",
                           R"({a:1})",
                           "{\"a\":\"\n\"}",
                           R"({"a":99999999999999999999})"}) {
    EXPECT_FALSE(is_canonical_json(text)) << text;
  }
}

// Texts one character away from good ones: whatever is taken as it is, the parser gives back unchanged.
TEST(CanonicalJson, AgreesWithTheParser) {
  std::mt19937 random(7);
  const std::string alphabet = R"({}[]":,0123456789 .eE-+truefalsn\ab)";
  std::size_t taken = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text = R"({"a":1,"b":"x","c":true,"d":120,"e":null})";
    for (std::size_t changes = random() % 3 + 1; changes > 0; --changes) {
      text[random() % text.size()] = alphabet[random() % alphabet.size()];
    }
    if (!is_canonical_json(text)) continue;
    ++taken;
    const auto parsed = json::parse(text, nullptr, false);
    ASSERT_TRUE(parsed.is_object()) << text;
    ASSERT_EQ(parsed.dump(), text);
  }
  EXPECT_GT(taken, 1000U);
}

TEST(SealedBatches, HaveOnePackedFormAndOneText) {
  const SealedBatches batches{{1, 2, 3}, 300, 5, digest_of("root"), true};
  std::string text;
  batches.json(text);
  EXPECT_EQ(json::parse(text).dump(), text);
  EXPECT_EQ(SealedBatches::parse(text).value(), batches);
  const auto packed = batches.packed();
  EXPECT_EQ(packed.size(), 1U + 16 + 2 + 1 + 32);
  EXPECT_EQ(SealedBatches::unpack(packed).value(), batches);
  for (std::size_t size = 0; size < packed.size(); ++size) EXPECT_FALSE(SealedBatches::unpack(packed.substr(0, size)));
  auto longer = packed;
  longer[17] = static_cast<char>(0xac);  // 300 as a varint of three bytes
  longer.replace(17, 2, std::string("\xac\x82\x00", 3));
  EXPECT_FALSE(SealedBatches::unpack(longer));
  EXPECT_FALSE(SealedBatches::unpack(packed + "x"));
}

}  // namespace
}  // namespace daemoneye::ledger
