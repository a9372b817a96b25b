#include "sensor/hash_protocol.h"

#include <gtest/gtest.h>

namespace daemoneye::sensor {
namespace {

const FileIdentity file{.device = 1, .inode = 2, .size = 3, .mtime_ns = -4, .ctime_ns = 5};

HashRequest request() { return {.id = 9, .pid = 8, .start_ticks = 7, .file = file, .path = "/bin/true"}; }

HashReply reply() {
  HashReply reply;
  reply.id = 9;
  reply.state = event::ExecutableState::replaced;
  reply.digest = base::sha256("x");
  reply.file = file;
  reply.path = "/bin/true";
  return reply;
}

TEST(HashProtocol, GivesARequestBack) {
  const auto back = decode_hash_request(encode_hash_request(request()));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->id, 9U);
  EXPECT_EQ(back->pid, 8U);
  EXPECT_EQ(back->start_ticks, 7U);
  EXPECT_EQ(back->file, file);
  EXPECT_EQ(back->path, "/bin/true");
}

TEST(HashProtocol, GivesAReplyBack) {
  const auto back = decode_hash_message(encode_hash_reply(reply()));
  ASSERT_TRUE(back) << back.error().message;
  ASSERT_TRUE(back->reply);
  EXPECT_EQ(back->reply->id, 9U);
  EXPECT_EQ(back->reply->state, event::ExecutableState::replaced);
  EXPECT_EQ(back->reply->digest, base::sha256("x"));
  EXPECT_EQ(back->reply->file, file);
  EXPECT_EQ(back->reply->path, "/bin/true");
  HashReply bare;
  bare.error = "why";
  const auto nothing = decode_hash_message(encode_hash_reply(bare));
  ASSERT_TRUE(nothing && nothing->reply);
  EXPECT_FALSE(nothing->reply->state || nothing->reply->digest || nothing->reply->path);
  EXPECT_EQ(nothing->reply->error, "why");
}

TEST(HashProtocol, GivesAHelloBackAndCutsWhatIsTooLong) {
  HashHello hello{.pid = 3, .previous = 4, .error = std::string(10'000, 'e'), .details = {{"a", "1"}, {"b", "2"}}};
  auto back = decode_hash_message(encode_hash_hello(hello));
  ASSERT_TRUE(back && back->hello) << back.error().message;
  EXPECT_EQ(back->hello->error.size(), max_hash_error_bytes);
  EXPECT_EQ(back->hello->previous, 4U);
  EXPECT_EQ(back->hello->details, hello.details);
  for (int i = 0; i < 1000; ++i) hello.details[std::to_string(i)] = std::string(9000, 'v');
  const auto message = encode_hash_hello(hello);
  EXPECT_LE(message.size(), max_hash_message_bytes);
  EXPECT_TRUE(decode_hash_message(message));
}

TEST(HashProtocol, RefusesEveryShorterAndLongerMessage) {
  for (const auto& message : {encode_hash_request(request()), encode_hash_reply(reply()), encode_hash_hello({})}) {
    for (std::size_t size = 0; size < message.size(); ++size) {
      EXPECT_FALSE(decode_hash_request(message.substr(0, size)));
      EXPECT_FALSE(decode_hash_message(message.substr(0, size)));
    }
    EXPECT_FALSE(decode_hash_request(message + "x"));
    EXPECT_FALSE(decode_hash_message(message + "x"));
  }
}

TEST(HashProtocol, TakesNoMessageForOneOfTheOtherDirection) {
  EXPECT_FALSE(decode_hash_message(encode_hash_request(request())));
  EXPECT_FALSE(decode_hash_request(encode_hash_reply(reply())));
}

TEST(HashProtocol, RefusesAPathWithANul) {
  auto hidden = request();
  hidden.path = std::string("/bin/true\0/x", 12);
  EXPECT_FALSE(decode_hash_request(encode_hash_request(hidden)));
}

TEST(HashProtocol, LeavesOutAPathBeyondTheBound) {
  auto longer = request();
  longer.path = "/" + std::string(max_hash_path_bytes, 'x');
  const auto back = decode_hash_request(encode_hash_request(longer));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->path, "");
}

}  // namespace
}  // namespace daemoneye::sensor
