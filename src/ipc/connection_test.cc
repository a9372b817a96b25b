#include "ipc/connection.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

#include "ipc/codec.h"
#include "ipc/frame.h"
#include "ipc/test_loop.h"

namespace daemoneye::ipc {
namespace {

using testing::run_until;

struct Pair {
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create());
  UniqueFd ours, peer;

  Pair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    ours.reset(ends[0]);
    peer.reset(ends[1]);
  }
};

// A connection that takes down what it hears.
struct Heard {
  std::vector<Message> messages;
  std::optional<std::string> closed;
  std::size_t closes = 0, drained = 0;
  std::unique_ptr<Connection> connection;

  Heard(EventLoop& loop, UniqueFd fd) {
    Connection::Handlers handlers;
    handlers.on_message = [this](Message message) { messages.push_back(std::move(message)); };
    handlers.on_close = [this](std::string why) {
      closed = std::move(why);
      ++closes;
    };
    handlers.on_drained = [this] { ++drained; };
    connection = std::move(*Connection::adopt(loop, std::move(fd), std::move(handlers)));
  }
};

Request request(std::uint64_t id, std::size_t payload = 2) {
  return Request{id, RequestKind::health, std::string(payload, '{'), 1000};
}

std::string frame_of(const Message& message, std::uint64_t sequence = 1) {
  std::string bytes;
  append_frame(bytes, sequence, encode_message(message));
  return bytes;
}

void write_raw(const UniqueFd& fd, const std::string& bytes) {
  ASSERT_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

TEST(Connection, CarriesMessagesBothWaysInOrder) {
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours)), b(*pair.loop, std::move(pair.peer));
  for (std::uint64_t id = 1; id <= 100; ++id) {
    ASSERT_TRUE(a.connection->send(request(id)));
    ASSERT_TRUE(b.connection->send(Cancel{id}));
  }
  ASSERT_TRUE(run_until(*pair.loop, [&] { return a.messages.size() == 100 && b.messages.size() == 100; }));
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(std::get<Cancel>(a.messages[i]).id, i + 1);
    EXPECT_EQ(std::get<Request>(b.messages[i]).id, i + 1);
  }
}

TEST(Connection, KeepsWhatASlowReaderDoesNotTakeAndSaysWhenItIsGone) {
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours));
  constexpr std::uint64_t count = 20;
  for (std::uint64_t id = 1; id <= count; ++id) ASSERT_TRUE(a.connection->send(request(id, 500'000)));
  EXPECT_GT(a.connection->outgoing_bytes(), 5'000'000u);  // far more than a socket buffer
  EXPECT_EQ(a.drained, 0u);
  Heard b(*pair.loop, std::move(pair.peer));
  ASSERT_TRUE(run_until(*pair.loop, [&] { return b.messages.size() == count && a.drained > 0; }));
  EXPECT_EQ(a.connection->outgoing_bytes(), 0u);
  EXPECT_EQ(a.drained, 1u);
  for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(std::get<Request>(b.messages[i]).id, i + 1);
}

TEST(Connection, RefusesMoreThanItsBoundAndGoesOnAfterwards) {
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours));
  std::uint64_t accepted = 0;
  Result<void> sent;
  for (;;) {
    sent = a.connection->send(request(accepted + 1, 1'000'000));
    if (!sent) break;
    ++accepted;
    ASSERT_LE(a.connection->outgoing_bytes(), Connection::max_outgoing_bytes);
  }
  EXPECT_EQ(sent.error().code, Errc::limit_exceeded);
  EXPECT_GE(accepted, 32u);
  // Nothing half-queued: the peer gets all accepted ones, and those sent later.
  Heard b(*pair.loop, std::move(pair.peer));
  ASSERT_TRUE(run_until(*pair.loop, [&] { return a.drained > 0; }));
  ASSERT_TRUE(a.connection->send(request(accepted + 1)));
  ASSERT_TRUE(run_until(*pair.loop, [&] { return b.messages.size() == accepted + 1; }));
  EXPECT_FALSE(b.closed);
}

TEST(Connection, RefusesToSendWhatThePeerWouldRefuse) {
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours));
  const auto sent = a.connection->send(Acknowledge{0});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::invalid_input);
  EXPECT_EQ(a.connection->outgoing_bytes(), 0u);
}

TEST(Connection, SaysNothingOfAnOrderlyEnd) {
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours));
  write_raw(pair.peer, frame_of(Cancel{1}));
  pair.peer.reset();
  ASSERT_TRUE(run_until(*pair.loop, [&] { return a.closed.has_value(); }));
  EXPECT_EQ(*a.closed, "");
  EXPECT_EQ(a.messages.size(), 1u);  // what came before the end is heard
  EXPECT_EQ(a.connection->send(Cancel{1}).error().code, Errc::unavailable);
}

TEST(Connection, NamesAnEndInTheMiddleOfAFrame) {
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours));
  const auto frame = frame_of(Cancel{1});
  write_raw(pair.peer, frame.substr(0, frame.size() - 1));
  pair.peer.reset();
  ASSERT_TRUE(run_until(*pair.loop, [&] { return a.closed.has_value(); }));
  EXPECT_EQ(*a.closed, "the connection ended in the middle of a frame");
}

TEST(Connection, EndsOnABadFrameOrMessageOnce) {
  const auto whole = frame_of(Cancel{1});
  auto flipped = whole;
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  std::string no_message;
  append_frame(no_message, 1, "\xff\xff");
  for (const auto& [bytes, why] : std::vector<std::pair<std::string, std::string>>{
           {flipped, "frame: CRC does not match at frame 1"},
           {std::string(4, '\xff'), "frame: length 4294967295"},
           {frame_of(Cancel{1}, 2), "frame: sequence 2, expected 1"},
           {no_message, "message: not a protobuf envelope"},
           {frame_of(Acknowledge{0}), "message field acknowledge.sequence"}}) {
    Pair pair;
    Heard a(*pair.loop, std::move(pair.ours));
    write_raw(pair.peer, bytes + whole);  // what follows is not heard
    ASSERT_TRUE(run_until(*pair.loop, [&] { return a.closed.has_value(); })) << why;
    EXPECT_EQ(a.closed->find(why), 0u) << *a.closed;
    EXPECT_TRUE(a.messages.empty());
    EXPECT_EQ(a.closes, 1u);
  }
}

TEST(Connection, MayBeDestroyedInsideEveryHandler) {
  {
    Pair pair;
    std::unique_ptr<Connection> connection;
    std::size_t heard = 0, closed = 0;
    Connection::Handlers handlers;
    handlers.on_message = [&](const Message&) {
      ++heard;
      connection.reset();
    };
    handlers.on_close = [&](const std::string&) { ++closed; };
    connection = std::move(*Connection::adopt(*pair.loop, std::move(pair.ours), std::move(handlers)));
    write_raw(pair.peer, frame_of(Cancel{1}) + frame_of(Cancel{2}, 2));
    ASSERT_TRUE(run_until(*pair.loop, [&] { return heard > 0; }));
    char byte = 0;
    EXPECT_EQ(::recv(pair.peer.get(), &byte, 1, 0), 0);  // the peer sees the end
    EXPECT_EQ(heard, 1u);
    EXPECT_EQ(closed, 0u);  // its owner knows
  }
  {
    Pair pair;
    std::unique_ptr<Connection> connection;
    Connection::Handlers handlers;
    handlers.on_close = [&](const std::string&) { connection.reset(); };
    connection = std::move(*Connection::adopt(*pair.loop, std::move(pair.ours), std::move(handlers)));
    pair.peer.reset();
    ASSERT_TRUE(run_until(*pair.loop, [&] { return connection == nullptr; }));
  }
  {
    Pair pair;
    std::unique_ptr<Connection> connection;
    Connection::Handlers handlers;
    handlers.on_drained = [&] { connection.reset(); };
    connection = std::move(*Connection::adopt(*pair.loop, std::move(pair.ours), std::move(handlers)));
    ASSERT_TRUE(connection->send(request(1, 1'000'000)));
    Heard b(*pair.loop, std::move(pair.peer));
    ASSERT_TRUE(run_until(*pair.loop, [&] { return connection == nullptr && b.closed; }));
    EXPECT_EQ(b.messages.size(), 1u);
  }
}

TEST(Connection, MayGetOtherHandlersInsideItsOwn) {
  Pair pair;
  std::unique_ptr<Connection> connection;
  std::vector<std::uint64_t> first, second;
  Connection::Handlers handlers;
  handlers.on_message = [&](const Message& message) {
    Connection::Handlers others;
    others.on_message = [&](const Message& later) { second.push_back(std::get<Cancel>(later).id); };
    connection->set_handlers(std::move(others));
    first.push_back(std::get<Cancel>(message).id);  // what it captured is still there
  };
  connection = std::move(*Connection::adopt(*pair.loop, std::move(pair.ours), std::move(handlers)));
  write_raw(pair.peer, frame_of(Cancel{1}) + frame_of(Cancel{2}, 2) + frame_of(Cancel{3}, 3));
  ASSERT_TRUE(run_until(*pair.loop, [&] { return second.size() == 2; }));
  EXPECT_EQ(first, std::vector<std::uint64_t>{1});
  EXPECT_EQ(second, (std::vector<std::uint64_t>{2, 3}));
}

TEST(Connection, ReportsAPeerThatDiedWhileMuchWaited) {
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours));
  for (std::uint64_t id = 1; id <= 5; ++id) ASSERT_TRUE(a.connection->send(request(id, 500'000)));
  pair.peer.reset();
  ASSERT_TRUE(run_until(*pair.loop, [&] { return a.closed.has_value(); }));
  EXPECT_EQ(a.closes, 1u);
  EXPECT_EQ(a.connection->outgoing_bytes(), 0u);
}

TEST(Connection, NoticesAPeerThatOnlyStoppedReading) {
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours));
  write_raw(pair.peer, frame_of(Cancel{7}));
  ASSERT_EQ(::shutdown(pair.peer.get(), SHUT_RD), 0);
  const auto sent = a.connection->send(Cancel{1});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::unavailable);
  EXPECT_FALSE(a.closed) << "send() must not call back";
  ASSERT_TRUE(run_until(*pair.loop, [&] { return a.closed.has_value(); }));
  EXPECT_EQ(*a.closed, "send: Broken pipe");
  EXPECT_EQ(a.messages.size(), 1u);
}

TEST(Connection, FlushesBeforeItClosesUntilTheDeadline) {
  {
    Pair pair;
    Heard a(*pair.loop, std::move(pair.ours));
    ASSERT_TRUE(a.connection->send(request(1, 1'000'000)));
    EXPECT_FALSE(a.connection->flush_and_close(Deadline::after(std::chrono::milliseconds(20))));  // nobody reads
    EXPECT_EQ(a.closes, 0u);
  }
  Pair pair;
  Heard a(*pair.loop, std::move(pair.ours));
  ASSERT_TRUE(a.connection->send(request(1, 1'000'000)));
  auto other_loop = std::move(*EventLoop::create());
  Heard b(*other_loop, std::move(pair.peer));
  std::jthread reader([&] { run_until(*other_loop, [&] { return b.closed.has_value(); }); });
  EXPECT_TRUE(a.connection->flush_and_close(Deadline::after(std::chrono::seconds(20))));
  reader.join();
  EXPECT_EQ(b.messages.size(), 1u);
  EXPECT_EQ(b.closed, "");
}

TEST(PeerCredentials, NameTheProcessAndItsGroups) {
  Pair pair;
  const auto peer = peer_credentials(pair.ours.get());
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->uid, ::geteuid());
  EXPECT_EQ(peer->gid, ::getegid());

  std::array<gid_t, 1024> groups{};
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  ASSERT_GE(count, 0);
  std::vector<gid_t> mine(groups.begin(), groups.begin() + count);
  mine.push_back(::getegid());
  std::size_t in = 0, out = 0;
  ::setgrent();
  while (const group* entry = ::getgrent()) {
    const bool member = std::ranges::find(mine, entry->gr_gid) != mine.end();
    EXPECT_EQ(peer_in_group(pair.ours.get(), *peer, entry->gr_name), member) << entry->gr_name;
    ++(member ? in : out);
  }
  ::endgrent();
  EXPECT_GT(in + out, 0u);
  EXPECT_FALSE(peer_in_group(pair.ours.get(), *peer, "no-such-group-here"));
}

}  // namespace
}  // namespace daemoneye::ipc
