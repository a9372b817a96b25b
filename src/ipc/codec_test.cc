#include "ipc/codec.h"

#include <gtest/gtest.h>

namespace daemoneye::ipc {
namespace {

// A length-delimited protobuf field, written by hand: what another writer may send. Lengths below 128.
std::string field(unsigned number, const std::string& content) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(content.size())} + content;
}

Hello some_hello() {
  Hello hello;
  hello.program_version = "0.1.0";
  hello.source = "procmond";
  hello.epoch = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff};
  hello.epoch_started = Timestamp{1'700'000'000'000'000'000};
  hello.host = "host";
  return hello;
}

std::vector<Message> one_of_each() {
  return {
      some_hello(),
      Welcome{1, "store", 42, 1000, Timestamp{-5}},
      Welcome{1, "store", 0, 0, std::nullopt},
      Resume{43, std::nullopt},
      Resume{43, Missing{40, 42, Timestamp{1}, Timestamp{2}, 3}},
      Resume{1, Missing{1, 0, Timestamp{1}, Timestamp{2}, 0}},
      BatchMessage{7, std::string("a\0b\xff", 4), std::string(32, 'd'), "scan"},
      Acknowledge{9},
      Heartbeat{Timestamp{17}, "{}", "m 1\n"},
      Request{5, RequestKind::enumerate, R"({"filter":""})", 500},
      Request{6, static_cast<RequestKind>(999), "", 1},
      Cancel{5},
      Reply{5, std::nullopt, "", R"({"a":1})"},
      Reply{5, std::nullopt, "", ""},
      Reply{5, Errc::timeout, "late \xff", ""},
  };
}

template <class T>
void expect_refused(const T& body, const std::string& field) {
  const auto checked = check_message(body);
  ASSERT_FALSE(checked) << field;
  EXPECT_EQ(checked.error().code, Errc::invalid_input);
  EXPECT_NE(checked.error().message.find(field), std::string::npos) << checked.error().message;
  // The receiver holds the same bounds, whatever the sender did.
  const auto decoded = decode_message(encode_message(body));
  ASSERT_FALSE(decoded) << field;
  EXPECT_EQ(decoded.error().code, Errc::corrupt);
  EXPECT_NE(decoded.error().message.find(field), std::string::npos) << decoded.error().message;
}

// A batch is written without protobuf's help, and read with it.
TEST(Codec, BatchesOfEverySizeComeBack) {
  for (const std::uint64_t sequence : {1ULL, 127ULL, 128ULL, 1ULL << 40, ~0ULL - 1}) {
    for (const std::size_t size : {1, 127, 128, 16'383, 16'384, 900'000}) {
      const BatchMessage batch{sequence, std::string(size, 'c'), std::string(digest_bytes, 'd'),
                               std::string(size / 2, 's')};
      std::string out = "before";
      append_message(out, batch);
      ASSERT_TRUE(out.starts_with("before"));
      const auto decoded = decode_message(std::string_view(out).substr(6));
      ASSERT_TRUE(decoded) << decoded.error().message;
      const auto& back = std::get<BatchMessage>(*decoded);
      EXPECT_EQ(back.sequence, sequence);
      EXPECT_TRUE(back.canonical == batch.canonical && back.digest == batch.digest && back.scan == batch.scan) << size;
    }
  }
  // Byte for byte what protobuf writes: fields in order, one that is empty not at all.
  const std::string digest(digest_bytes, 'd');
  EXPECT_EQ(encode_message(BatchMessage{7, "abc", digest, ""}),
            field(4, "\x08\x07" + field(2, "abc") + field(3, digest)));
  EXPECT_EQ(encode_message(BatchMessage{7, "abc", digest, "x"}),
            field(4, "\x08\x07" + field(2, "abc") + field(3, digest) + field(4, "x")));
}

TEST(Codec, GivesEveryMessageBack) {
  for (const Message& message : one_of_each()) {
    ASSERT_TRUE(check_message(message)) << check_message(message).error().message;
    const auto bytes = encode_message(message);
    const auto decoded = decode_message(bytes);
    ASSERT_TRUE(decoded) << decoded.error().message;
    ASSERT_EQ(decoded->index(), message.index());
    EXPECT_EQ(encode_message(*decoded), bytes);
  }
}

TEST(Codec, GivesTheFieldsOfABatchAndAReplyBack) {
  const auto batch = decode_message(encode_message(BatchMessage{7, "canon", std::string(32, 'd'), "scan"}));
  ASSERT_TRUE(batch);
  const auto& got = std::get<BatchMessage>(*batch);
  EXPECT_EQ(got.sequence, 7u);
  EXPECT_EQ(got.canonical, "canon");
  EXPECT_EQ(got.digest, std::string(32, 'd'));
  EXPECT_EQ(got.scan, "scan");

  const auto hello = decode_message(encode_message(some_hello()));
  ASSERT_TRUE(hello);
  EXPECT_EQ(std::get<Hello>(*hello).epoch, some_hello().epoch);
  EXPECT_EQ(std::get<Hello>(*hello).epoch_started, some_hello().epoch_started);
  EXPECT_EQ(std::get<Hello>(*hello).source, "procmond");

  const auto welcome = decode_message(encode_message(Welcome{1, "store", 42, 1000, Timestamp{-5}}));
  ASSERT_TRUE(welcome);
  EXPECT_EQ(std::get<Welcome>(*welcome).covered_until, Timestamp{-5});

  const auto resume = decode_message(encode_message(Resume{43, Missing{40, 42, Timestamp{1}, Timestamp{2}, 3}}));
  ASSERT_TRUE(resume);
  EXPECT_EQ(std::get<Resume>(*resume).missing, (Missing{40, 42, Timestamp{1}, Timestamp{2}, 3}));
}

TEST(Codec, KeepsEveryErrorCode) {
  for (const Errc code :
       {Errc::invalid_input, Errc::not_found, Errc::permission_denied, Errc::unavailable, Errc::corrupt, Errc::timeout,
        Errc::limit_exceeded, Errc::cancelled, Errc::io, Errc::internal}) {
    const auto decoded = decode_message(encode_message(Reply{1, code, "why", ""}));
    ASSERT_TRUE(decoded);
    EXPECT_EQ(std::get<Reply>(*decoded).error, code);
    EXPECT_EQ(std::get<Reply>(*decoded).message, "why");
  }
}

TEST(Codec, TakesAnErrorCodeOfANewerPeerAsInternal) {
  // reply { failure { code: 4711 } }
  const auto decoded = decode_message(field(9, field(3, "\x08\xe7\x24")));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<Reply>(*decoded).error, Errc::internal);
}

TEST(Codec, CutsAnErrorMessageAtItsBound) {
  const auto decoded = decode_message(encode_message(Reply{1, Errc::io, std::string(1'000'000, 'e'), ""}));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<Reply>(*decoded).message.size(), max_reply_message_bytes);
}

TEST(Codec, RefusesFieldsOutOfTheirBoundsAndNamesThem) {
  auto hello = some_hello();
  hello.source = std::string(event::max_source_bytes + 1, 's');
  expect_refused(hello, "hello.source");
  hello.source.clear();
  expect_refused(hello, "hello.source");
  hello = some_hello();
  hello.host = std::string(max_host_bytes + 1, 'h');
  expect_refused(hello, "hello.host");
  hello = some_hello();
  hello.program_version = std::string(max_program_version_bytes + 1, 'v');
  expect_refused(hello, "hello.program_version");

  expect_refused(Welcome{1, std::string(max_store_id_bytes + 1, 'i'), 0, 1, {}}, "welcome.store_id");
  expect_refused(Welcome{1, "", 0, 1, {}}, "welcome.store_id");
  expect_refused(Welcome{1, "s", ~std::uint64_t{0}, 1, {}}, "welcome.committed_sequence");

  expect_refused(Resume{0, {}}, "resume.first_sequence");
  expect_refused(Resume{~std::uint64_t{0}, {}}, "resume.first_sequence");
  expect_refused(Resume{5, Missing{1, 3, {}, {}, 0}}, "resume.missing");
  expect_refused(Resume{5, Missing{6, 4, {}, {}, 0}}, "resume.missing");
  expect_refused(Resume{5, Missing{1, 4, Timestamp{2}, Timestamp{1}, 0}}, "resume.missing.to");

  const std::string digest(32, 'd');
  expect_refused(BatchMessage{0, "c", digest, ""}, "batch.sequence");
  expect_refused(BatchMessage{1, "", digest, ""}, "batch.canonical");
  expect_refused(BatchMessage{1, std::string(event::max_batch_bytes + 1, 'c'), digest, ""}, "batch.canonical");
  expect_refused(BatchMessage{1, "c", std::string(31, 'd'), ""}, "batch.digest");
  expect_refused(BatchMessage{1, "c", digest, std::string(event::max_scan_bytes + 1, 's')}, "batch.scan");

  expect_refused(Acknowledge{0}, "acknowledge.sequence");
  expect_refused(Heartbeat{{}, std::string(max_health_bytes + 1, 'h'), ""}, "heartbeat.health_json");
  expect_refused(Heartbeat{{}, "", std::string(max_metrics_bytes + 1, 'm')}, "heartbeat.metrics_text");
  expect_refused(Request{1, RequestKind::health, std::string(max_request_payload_bytes + 1, 'p'), 1},
                 "request.payload");
  expect_refused(Request{1, RequestKind::health, "", 0}, "request.timeout_ms");
  expect_refused(Request{1, RequestKind::health, "", max_request_timeout_ms + 1}, "request.timeout_ms");
  expect_refused(Reply{1, {}, "", std::string(max_reply_payload_bytes + 1, 'p')}, "reply.payload");
}

TEST(Codec, TakesTheLargestOfEachWithinAFrame) {
  const BatchMessage batch{1, std::string(event::max_batch_bytes, 'c'), std::string(32, 'd'),
                           std::string(event::max_scan_bytes, 's')};
  EXPECT_TRUE(decode_message(encode_message(batch)));
  EXPECT_TRUE(decode_message(encode_message(Reply{1, {}, "", std::string(max_reply_payload_bytes, 'p')})));
}

TEST(Codec, RefusesAnEpochThatIsNot16Bytes) {
  const auto decoded = decode_message(field(1, field(3, "procmond") + field(4, std::string(15, 'e'))));
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().message, "message field hello.epoch: 15 bytes, 16 are expected");
}

TEST(Codec, RefusesWhatIsNoMessage) {
  for (const std::string_view bytes : {"", "\xff\xff\xff", "no protobuf", "\x0a"}) {
    const auto decoded = decode_message(bytes);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, Errc::corrupt);
  }
  EXPECT_FALSE(decode_message(field(9, "\x08\x01")));  // reply { id: 1 }, without an outcome
}

TEST(Codec, SkipsFieldsThatANewerPeerAdds) {
  auto bytes = encode_message(Acknowledge{9});
  bytes += std::string("\xfa\x07\x03new", 6);  // field 127 of the envelope, length-delimited
  const auto decoded = decode_message(bytes);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(std::get<Acknowledge>(*decoded).sequence, 9u);
  // An unknown body alone is not a message.
  EXPECT_FALSE(decode_message(std::string("\xfa\x07\x03new", 6)));
}

}  // namespace
}  // namespace daemoneye::ipc
