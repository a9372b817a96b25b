#include "sensor/linux/netlink_parse.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace daemoneye::sensor {
namespace {

constexpr std::uint32_t kFork = 1, kExec = 2, kUid = 4, kExit = 0x8000'0000;

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// As the kernel lays it out: netlink header, connector header, event.
std::string datagram(std::uint32_t what, const std::vector<std::uint32_t>& words, std::uint64_t stamp = 12345) {
  std::string event;
  append(event, what);
  append(event, std::uint32_t{1});  // CPU
  append(event, stamp);
  for (const auto word : words) append(event, word);
  std::string bytes;
  append(bytes, static_cast<std::uint32_t>(16 + 20 + event.size()));
  append(bytes, std::uint16_t{3});  // NLMSG_DONE
  append(bytes, std::uint16_t{0});
  append(bytes, std::uint32_t{7});
  append(bytes, std::uint32_t{0});
  append(bytes, std::uint32_t{1});  // CN_IDX_PROC
  append(bytes, std::uint32_t{1});  // CN_VAL_PROC
  append(bytes, std::uint32_t{5});  // seq
  append(bytes, std::uint32_t{78});
  append(bytes, static_cast<std::uint16_t>(event.size()));
  append(bytes, std::uint16_t{0});
  return bytes + event;
}

TEST(ParseProcMessage, ReadsAFork) {
  const auto message = parse_proc_message(datagram(kFork, {10, 9, 21, 20, 0, 0}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, ProcMessageKind::fork);
  EXPECT_EQ(message->parent, 9U);
  EXPECT_EQ(message->pid, 20U);
  EXPECT_EQ(message->thread, 21U);
  EXPECT_FALSE(message->first_thread());
  EXPECT_EQ(message->monotonic_ns, 12345);
}

TEST(ParseProcMessage, ReadsAnExec) {
  const auto message = parse_proc_message(datagram(kExec, {20, 20, 0, 0, 0, 0}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, ProcMessageKind::exec);
  EXPECT_EQ(message->pid, 20U);
  EXPECT_TRUE(message->first_thread());
}

TEST(ParseProcMessage, ReadsAnExitAlsoOfOlderKernels) {
  for (const auto& words : {std::vector<std::uint32_t>{21, 20, 0x0900, 17, 9, 9}, {21, 20, 0x0900, 17}}) {
    const auto message = parse_proc_message(datagram(kExit, words));
    ASSERT_TRUE(message);
    EXPECT_EQ(message->kind, ProcMessageKind::exit);
    EXPECT_EQ(message->pid, 20U);
    EXPECT_EQ(message->thread, 21U);
    EXPECT_EQ(message->wait_status, 0x0900);
  }
}

TEST(ParseProcMessage, ReadsAnAcknowledgement) {
  const auto message = parse_proc_message(datagram(0, {13, 0, 0, 0, 0, 0}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, ProcMessageKind::acknowledgement);
  EXPECT_EQ(message->error, 13U);
  EXPECT_EQ(message->reply_to, 78U);
}

TEST(ParseProcMessage, PassesOverWhatItDoesNotUse) {
  const auto message = parse_proc_message(datagram(kUid, {20, 20, 0, 0, 0, 0}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, ProcMessageKind::other);
}

TEST(ParseProcMessage, RefusesWhatIsNotWhole) {
  const auto whole = datagram(kExit, {21, 20, 0x0900, 17});
  // The last word, the signal to the parent, is not used.
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(parse_proc_message(std::string_view(whole).substr(0, size))) << size;
  }
  for (const auto what : {kFork, kExec, kExit}) EXPECT_FALSE(parse_proc_message(datagram(what, {20}))) << what;
}

TEST(ParseProcMessage, RefusesOtherConnectorsAndImpossiblePids) {
  auto other = datagram(kExec, {20, 20});
  other[16] = 3;  // CN_W1_IDX
  EXPECT_FALSE(parse_proc_message(other));
  auto error = datagram(kExec, {20, 20});
  error[4] = 2;  // NLMSG_ERROR
  EXPECT_FALSE(parse_proc_message(error));
  EXPECT_FALSE(parse_proc_message(datagram(kExec, {20, 0})));
  EXPECT_FALSE(parse_proc_message(datagram(kExec, {20, 0xffff'fff0})));
}

TEST(ParseProcMessage, KeepsStampsWithinWhatCanBeCalculatedWith) {
  const auto message = parse_proc_message(datagram(kExec, {20, 20}, UINT64_MAX));
  ASSERT_TRUE(message);
  EXPECT_GT(message->monotonic_ns, 0);
  EXPECT_LE(message->monotonic_ns, INT64_MAX / 2);
}

TEST(MakeSubscription, HasTheKernelsForm) {
  const auto plain = make_subscription(77), narrow = make_narrow_subscription(77);
  EXPECT_EQ(plain.size(), 40U);
  EXPECT_EQ(narrow.size(), 44U);
  std::uint32_t ack = 0, operation = 0, kinds = 0;
  std::memcpy(&ack, plain.data() + 28, sizeof ack);
  std::memcpy(&operation, plain.data() + 36, sizeof operation);
  std::memcpy(&kinds, narrow.data() + 40, sizeof kinds);
  EXPECT_EQ(ack, 77U);
  EXPECT_EQ(operation, 1U);  // PROC_CN_MCAST_LISTEN
  EXPECT_EQ(kinds, kFork | kExec | kExit);
}

}  // namespace
}  // namespace daemoneye::sensor
