#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "ipc/codec.h"
#include "ipc/connection.h"
#include "ipc/frame.h"
#include "ipc/test_loop.h"

namespace daemoneye::ipc {
namespace {

using testing::TempDir;

// A server in a thread of its own that hands each message to `answer`, which may write raw bytes or close.
class Server {
 public:
  struct Peer {
    UniqueFd socket;
    std::uint64_t next_sequence = 1;
    void reply(const Message& message) {
      std::string bytes;
      append_frame(bytes, next_sequence++, encode_message(message));
      raw(bytes);
    }
    void raw(const std::string& bytes) const {
      EXPECT_EQ(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    }
  };
  using Answer = std::function<void(Peer&, const Message&)>;

  explicit Server(Answer answer)
      : answer_(std::move(answer)),
        listener_(std::move(*Listener::open(*loop_, path(), "",
                                            [this](UniqueFd socket, PeerCredentials) { accept(std::move(socket)); }))),
        thread_([this] { loop_->run(); }) {}
  ~Server() {
    loop_->stop();
    thread_.join();
    if (peer_.socket) loop_->remove(peer_.socket.get());
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  [[nodiscard]] std::string path() const { return dir_.file("s.sock"); }

 private:
  void accept(UniqueFd socket) {
    peer_.socket = std::move(socket);
    const int fd = peer_.socket.get();
    ASSERT_TRUE(loop_->add(fd, 1 /* EPOLLIN */, [this, fd](std::uint32_t) {
      char chunk[4096];
      const auto got = ::recv(fd, chunk, sizeof chunk, MSG_DONTWAIT);
      if (got <= 0) {
        loop_->remove(fd);
        return;
      }
      reader_.feed(std::string_view(chunk, static_cast<std::size_t>(got)));
      std::string_view payload;
      while (true) {
        const auto next = reader_.next(payload);
        ASSERT_TRUE(next) << next.error().message;
        if (!*next) return;
        const auto message = decode_message(payload);
        ASSERT_TRUE(message) << message.error().message;
        answer_(peer_, *message);
        if (!peer_.socket) {
          loop_->remove(fd);
          return;
        }
      }
    }));
  }
  TempDir dir_;
  std::unique_ptr<EventLoop> loop_ = std::move(*EventLoop::create());
  Answer answer_;
  Peer peer_;
  FrameReader reader_;
  std::unique_ptr<Listener> listener_;
  std::thread thread_;
};

Deadline soon() { return Deadline::after(std::chrono::seconds(20)); }
Deadline shortly() { return Deadline::after(std::chrono::milliseconds(50)); }

std::unique_ptr<Client> connected(const Server& server) {
  auto client = Client::connect(server.path(), soon());
  EXPECT_TRUE(client) << client.error().message;
  return std::move(*client);
}

TEST(Client, GetsTheReplyToEachCall) {
  Server server([](Server::Peer& peer, const Message& message) {
    const auto& request = std::get<Request>(message);
    EXPECT_LE(request.timeout_ms, 20'000u);
    EXPECT_GT(request.timeout_ms, 0u);
    peer.reply(Reply{request.id, {}, "", std::string(to_string(request.kind)) + request.payload});
  });
  const auto client = connected(server);
  EXPECT_EQ(client->call(RequestKind::health, "{}", soon()), "health{}");
  EXPECT_EQ(client->call(RequestKind::metrics, R"({"a":1})", soon()), R"(metrics{"a":1})");
}

TEST(Client, TakesAReplyOfTheLargestSize) {
  Server server([](Server::Peer& peer, const Message& message) {
    peer.reply(Reply{std::get<Request>(message).id, {}, "", std::string(100'000, 'r')});
  });
  EXPECT_EQ(connected(server)->call(RequestKind::health, "{}", soon()).value_or("").size(), 100'000u);
}

TEST(Client, PassesTheServersErrorOn) {
  Server server([](Server::Peer& peer, const Message& message) {
    peer.reply(Reply{std::get<Request>(message).id, Errc::permission_denied, "root or daemoneye-admin only", ""});
  });
  const auto reply = connected(server)->call(RequestKind::reload, "{}", soon());
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, Errc::permission_denied);
  EXPECT_EQ(reply.error().message, "root or daemoneye-admin only");
}

TEST(Client, GivesUpAtItsDeadlineTellsTheServerAndCanGoOn) {
  std::optional<std::uint64_t> cancelled;
  Server server([&](Server::Peer& peer, const Message& message) {
    if (const auto* cancel = std::get_if<Cancel>(&message)) {
      cancelled = cancel->id;
      peer.reply(Reply{cancel->id, Errc::cancelled, "late", ""});  // comes to the next call, which skips it
    } else if (const auto& request = std::get<Request>(message); request.kind == RequestKind::metrics) {
      peer.reply(Reply{request.id, {}, "", cancelled ? "after the cancel" : "too early"});
    }
  });
  const auto client = connected(server);
  const auto late = client->call(RequestKind::health, "{}", shortly());
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::timeout);
  EXPECT_EQ(late.error().message, "health: no reply in time");
  EXPECT_EQ(client->call(RequestKind::metrics, "{}", soon()), "after the cancel");
  EXPECT_EQ(client->call(RequestKind::metrics, "{}", Deadline::after(std::chrono::nanoseconds(0))).error().code,
            Errc::timeout);
}

TEST(Client, NamesAServerThatDiedInTheMiddleOfAReply) {
  Server server([](Server::Peer& peer, const Message& message) {
    std::string bytes;
    append_frame(bytes, 1, encode_message(Reply{std::get<Request>(message).id, {}, "", "{}"}));
    peer.raw(bytes.substr(0, bytes.size() - 1));
    peer.socket.reset();
  });
  const auto client = connected(server);
  const auto reply = client->call(RequestKind::health, "{}", soon());
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, Errc::unavailable);
  EXPECT_EQ(reply.error().message, "health: the server died in the middle of a reply");
  // Later calls say so at once.
  EXPECT_EQ(client->call(RequestKind::health, "{}", soon()).error().code, Errc::unavailable);
}

TEST(Client, NamesAServerThatClosedInsteadOfReplying) {
  Server server([](Server::Peer& peer, const Message&) { peer.socket.reset(); });
  const auto reply = connected(server)->call(RequestKind::health, "{}", soon());
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, Errc::unavailable);
  EXPECT_EQ(reply.error().message, "health: the server closed the connection");
}

TEST(Client, RefusesWhatIsNoReplyToIt) {
  for (const Message& wrong : {Message(Cancel{1}), Message(Reply{99, {}, "", "{}"})}) {
    Server server([&](Server::Peer& peer, const Message&) { peer.reply(wrong); });
    const auto reply = connected(server)->call(RequestKind::health, "{}", soon());
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::unavailable);
  }
  Server garbage([](Server::Peer& peer, const Message&) { peer.raw(std::string(64, '\xff')); });
  const auto reply = connected(garbage)->call(RequestKind::health, "{}", soon());
  ASSERT_FALSE(reply);
  EXPECT_NE(reply.error().message.find("frame: length"), std::string::npos);
}

TEST(Client, RefusesAPayloadOutOfBoundsAndCanGoOn) {
  Server server([](Server::Peer& peer, const Message& message) {
    peer.reply(Reply{std::get<Request>(message).id, {}, "", "fine"});
  });
  const auto client = connected(server);
  const auto refused = client->call(RequestKind::health, std::string(max_request_payload_bytes + 1, 'x'), soon());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_input);
  EXPECT_EQ(client->call(RequestKind::health, "{}", soon()), "fine");
}

TEST(Client, SaysThatNoServerListens) {
  const TempDir dir;
  const auto client = Client::connect(dir.file("none.sock"), soon());
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, Errc::unavailable);
}

}  // namespace
}  // namespace daemoneye::ipc
