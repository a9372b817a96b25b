#include "ipc/frame.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "base/bytes.h"

namespace daemoneye::ipc {
namespace {

std::vector<std::string> read_all(FrameReader& reader, std::string& error) {
  std::vector<std::string> payloads;
  for (;;) {
    std::string_view payload;
    auto next = reader.next(payload);
    if (!next) {
      error = next.error().message;
      EXPECT_EQ(next.error().code, Errc::corrupt);
      return payloads;
    }
    if (!*next) return payloads;
    payloads.emplace_back(payload);
  }
}

std::string three_frames() {
  std::string wire;
  append_frame(wire, 1, "one");
  append_frame(wire, 2, "");
  append_frame(wire, 3, std::string(1000, 'x'));
  return wire;
}

TEST(Frame, HasTheDocumentedLayout) {
  std::string wire;
  append_frame(wire, 0x0102030405060708, "abc");
  ASSERT_EQ(wire.size(), frame_header_bytes + 3);
  EXPECT_EQ(wire.substr(0, 12), std::string("\x03\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01", 12));
  // CRC-32 (zlib) over the 12 bytes above and "abc", computed apart from this program.
  EXPECT_EQ(wire.substr(12, 4), std::string("\x24\x1e\x89\xdf", 4));
  EXPECT_EQ(wire.substr(16), "abc");
}

TEST(FrameReader, GivesBackFramesHoweverTheStreamIsCut) {
  const std::string wire = three_frames();
  const std::vector<std::string> expected{"one", "", std::string(1000, 'x')};
  for (std::size_t step = 1; step <= wire.size(); ++step) {
    FrameReader reader;
    std::vector<std::string> got;
    std::string error;
    for (std::size_t at = 0; at < wire.size(); at += step) {
      reader.feed(std::string_view(wire).substr(at, step));
      for (auto& payload : read_all(reader, error)) got.push_back(std::move(payload));
    }
    ASSERT_EQ(error, "");
    ASSERT_EQ(got, expected) << "in steps of " << step;
    ASSERT_FALSE(reader.mid_frame());
  }
}

TEST(FrameReader, RefusesALengthAboveTheBoundBeforeAllocating) {
  FrameReader reader(1000);
  std::string wire;
  base::ByteWriter(wire).u32(1001);
  reader.feed(wire);  // four bytes are enough to know
  std::string error;
  EXPECT_TRUE(read_all(reader, error).empty());
  EXPECT_EQ(error, "frame: length 1001, at most 1000 are allowed");
  // What follows is not kept.
  for (int i = 0; i < 100; ++i) reader.feed(std::string(100'000, 'x'));
  EXPECT_LT(reader.held_bytes(), 1000u);
}

TEST(FrameReader, TakesNoMemoryForAnAnnouncedLength) {
  FrameReader reader;
  std::string wire;
  append_frame(wire, 1, std::string(max_frame_payload_bytes, 'x'));
  reader.feed(std::string_view(wire).substr(0, 64));
  std::string error;
  EXPECT_TRUE(read_all(reader, error).empty());
  EXPECT_EQ(error, "");
  EXPECT_TRUE(reader.mid_frame());
  EXPECT_LT(reader.held_bytes(), 1000u);
}

TEST(FrameReader, TakesTheLargestFrameAndGivesItsMemoryBack) {
  FrameReader reader;
  std::string wire;
  append_frame(wire, 1, std::string(max_frame_payload_bytes, 'x'));
  reader.feed(wire);
  std::string error;
  EXPECT_EQ(read_all(reader, error).size(), 1u);
  std::string small;
  append_frame(small, 2, "y");
  reader.feed(small);
  EXPECT_EQ(read_all(reader, error), std::vector<std::string>{"y"});
  EXPECT_EQ(error, "");
  EXPECT_LT(reader.held_bytes(), 1024u * 1024u);
}

TEST(FrameReader, SeesEveryFlippedBit) {
  const std::string wire = three_frames();
  for (std::size_t bit = 0; bit < wire.size() * 8; ++bit) {
    std::string damaged = wire;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    FrameReader reader;
    reader.feed(damaged);
    std::string error;
    const auto got = read_all(reader, error);
    // A longer length may only make it wait; then the frame after it never comes.
    ASSERT_TRUE(!error.empty() || reader.mid_frame()) << "bit " << bit;
    ASSERT_LT(got.size(), 3u);
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], i == 0 ? "one" : "");
  }
}

TEST(FrameReader, RefusesAWrongSequence) {
  for (const std::uint64_t second : {std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{0}}) {
    std::string wire;
    append_frame(wire, 1, "one");
    append_frame(wire, second, "two");
    FrameReader reader;
    reader.feed(wire);
    std::string error;
    EXPECT_EQ(read_all(reader, error), std::vector<std::string>{"one"});
    EXPECT_EQ(error, "frame: sequence " + std::to_string(second) + ", expected 2");
  }
}

TEST(FrameReader, StaysInErrorAfterAnError) {
  std::string wire;
  append_frame(wire, 7, "x");
  FrameReader reader;
  reader.feed(wire);
  std::string error, again, good;
  read_all(reader, error);
  append_frame(good, 1, "fine");
  reader.feed(good);
  EXPECT_TRUE(read_all(reader, again).empty());
  EXPECT_EQ(again, error);
  EXPECT_NE(error, "");
}

TEST(FrameReader, KnowsThatAFrameIsUnfinished) {
  const std::string wire = three_frames();
  FrameReader reader;
  EXPECT_FALSE(reader.mid_frame());
  reader.feed(std::string_view(wire).substr(0, wire.size() - 1));
  std::string error;
  EXPECT_EQ(read_all(reader, error).size(), 2u);
  EXPECT_TRUE(reader.mid_frame());
}

}  // namespace
}  // namespace daemoneye::ipc
