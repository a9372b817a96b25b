#include "base/bytes.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/hash.h"

namespace daemoneye::base {
namespace {

TEST(Bytes, WhatIsWrittenIsRead) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    // Of every width, not only the wide ones.
    const std::uint64_t number = random() >> (random() % 64);
    const auto integer = static_cast<std::int64_t>(random() % 2 == 0 ? number : ~number);
    std::string bytes;
    ByteWriter out(bytes);
    out.u8(static_cast<std::uint8_t>(number));
    out.u16(static_cast<std::uint16_t>(number));
    out.u32(static_cast<std::uint32_t>(number));
    out.u64(number);
    out.f64(-1.5);
    out.varint(number);
    out.zigzag(integer);
    out.bytes("abc");
    ByteReader in(bytes);
    ASSERT_EQ(in.u8(), static_cast<std::uint8_t>(number));
    ASSERT_EQ(in.u16(), static_cast<std::uint16_t>(number));
    ASSERT_EQ(in.u32(), static_cast<std::uint32_t>(number));
    ASSERT_EQ(in.u64(), number);
    ASSERT_EQ(in.f64(), -1.5);
    ASSERT_EQ(in.varint(), number);
    ASSERT_EQ(in.zigzag(), integer);
    ASSERT_EQ(in.bytes(), "abc");
    ASSERT_TRUE(in.at_end());
  }
}

TEST(Bytes, IntegersAreLittleEndian) {
  std::string bytes;
  ByteWriter out(bytes);
  out.u16(0x0102);
  out.u32(0x03040506);
  out.varint(300);
  out.zigzag(-2);
  EXPECT_EQ(to_hex(bytes),
            "0201"
            "06050403"
            "ac02"
            "03");
}

TEST(Bytes, ExtremesSurvive) {
  std::string bytes;
  ByteWriter out(bytes);
  out.varint(std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(bytes.size(), 10U);
  out.zigzag(std::numeric_limits<std::int64_t>::min());
  out.zigzag(std::numeric_limits<std::int64_t>::max());
  ByteReader in(bytes);
  EXPECT_EQ(in.varint(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(in.zigzag(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(in.zigzag(), std::numeric_limits<std::int64_t>::max());
  EXPECT_TRUE(in.at_end());
}

TEST(Varint, MalformedOnesFailTheReader) {
  for (const auto* hex : {"", "80", "ffffffffffffffffff", "8000", "ff00", "ac8200",  // short, or longer than needed
                          "ffffffffffffffffff02", "ffffffffffffffffffff01"}) {       // more than 64 bits
    const auto bytes = from_hex(hex).value();
    ByteReader in(bytes);
    EXPECT_EQ(in.varint(), 0U) << hex;
    EXPECT_FALSE(in.ok()) << hex;
    EXPECT_FALSE(in.at_end()) << hex;
  }
  const std::string zero(1, '\0');
  ByteReader in(zero);
  EXPECT_EQ(in.varint(), 0U);
  EXPECT_TRUE(in.at_end());
}

TEST(ByteReader, AfterAFailureEverythingIsEmpty) {
  ByteReader in("ab");
  EXPECT_EQ(in.u32(), 0U);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.u8(), 0U);
  EXPECT_TRUE(in.raw(1).empty());
  EXPECT_TRUE(in.bytes().empty());
  EXPECT_EQ(in.f64(), 0.0);
}

TEST(ByteReader, ALengthBeyondTheInputGivesNothing) {
  std::string bytes;
  ByteWriter out(bytes);
  out.varint(std::numeric_limits<std::uint64_t>::max());
  out.raw("abc");
  ByteReader in(bytes);
  EXPECT_TRUE(in.bytes().empty());
  EXPECT_FALSE(in.ok());
  ByteReader raw("abc");
  EXPECT_TRUE(raw.raw(std::numeric_limits<std::size_t>::max()).empty());
  EXPECT_FALSE(raw.ok());
}

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 hash;
  for (int round = 0; round < 2; ++round) {  // finish() begins anew
    hash.update("a");
    hash.update("");
    hash.update("bc");
    EXPECT_EQ(hash.finish(), sha256("abc"));
  }
}

TEST(Crc32, KnownAnswerAndPieces) {
  EXPECT_EQ(crc32("123456789"), 0xcbf43926U);
  EXPECT_EQ(crc32("6789", crc32("12345")), 0xcbf43926U);
  EXPECT_EQ(crc32(""), 0U);
}

// Long ones go another way, in which every length and beginning matters. Held against the definition.
TEST(Crc32, OfAnyLength) {
  const auto by_definition = [](std::string_view bytes, std::uint32_t crc) {
    crc = ~crc;
    for (const char c : bytes) {
      crc ^= static_cast<unsigned char>(c);
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320U : 0);
    }
    return ~crc;
  };
  const std::string bytes = random_bytes(5000);
  const std::string_view all = bytes;
  for (std::size_t size = 0; size <= 400; ++size) {
    const auto part = all.substr(size % 17, size);
    EXPECT_EQ(crc32(part), by_definition(part, 0)) << size;
    EXPECT_EQ(crc32(part, 0xdeadbeef), by_definition(part, 0xdeadbeef)) << size;
  }
  EXPECT_EQ(crc32(all), by_definition(all, 0));
  EXPECT_EQ(crc32(all.substr(1234), crc32(all.substr(0, 1234))), by_definition(all, 0));
  const std::string zeros(300, '\0'), ones(300, '\xff');
  EXPECT_EQ(crc32(zeros), by_definition(zeros, 0));
  EXPECT_EQ(crc32(ones), by_definition(ones, 0));
}

TEST(Hex, ComesBackAndRefusesOthers) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(from_hex(to_hex(all)).value(), all);
  EXPECT_EQ(from_hex("aAfF").value(), "\xaa\xff");
  for (const auto* bad : {"a", "ag", "0x", " 00", "0-"}) EXPECT_FALSE(from_hex(bad)) << bad;
}

TEST(RandomBytes, AreAsManyAsAskedAndDiffer) {
  EXPECT_EQ(random_bytes(1000).size(), 1000U);
  EXPECT_TRUE(random_bytes(0).empty());
  EXPECT_NE(random_bytes(32), random_bytes(32));
}

}  // namespace
}  // namespace daemoneye::base
