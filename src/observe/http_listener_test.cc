#include "observe/http_listener.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <thread>

#include "base/file.h"
#include "observe/http_request.h"

namespace daemoneye::observe {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(HttpRequest, TakesThePathOfAWholeHead) {
  const auto plain = parse_http_request("GET /metrics?name=x HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(plain && *plain);
  EXPECT_EQ((*plain)->method, "GET");
  EXPECT_EQ((*plain)->path, "/metrics");
  const auto by_proxy = parse_http_request("HEAD http://host:9/healthz HTTP/1.0\n\n");
  ASSERT_TRUE(by_proxy && *by_proxy);
  EXPECT_EQ((*by_proxy)->path, "/healthz");
}

TEST(HttpRequest, WaitsForTheRestAndBoundsIt) {
  const auto part = parse_http_request("GET / HTTP/1.1\r\nHost: a\r\n");
  ASSERT_TRUE(part);
  EXPECT_FALSE(*part);
  const auto long_head = parse_http_request("GET / HTTP/1.1\r\nX: " + std::string(max_http_head_bytes, 'x'));
  ASSERT_FALSE(long_head);
  EXPECT_EQ(long_head.error().code, Errc::limit_exceeded);
}

TEST(HttpRequest, RefusesWhatIsNone) {
  for (const auto* text :
       {"GET\r\n\r\n", "GET / HTTP/2\r\n\r\n", "get / HTTP/1.1\r\n\r\n", "GET metrics HTTP/1.1\r\n\r\n",
        "GET /a b HTTP/1.1\r\n\r\n", "\x16\x03\x01\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n", "\n\n"}) {
    const auto request = parse_http_request(text);
    EXPECT_FALSE(request) << text;
  }
}

class Listener : public testing::Test {
 protected:
  void SetUp() override {
    loop = std::move(*EventLoop::create());
    auto opened = HttpListener::open(*loop, options, [](std::string_view path) -> HttpAnswer {
      if (path == "/big") return {.body = std::string(4 << 20, 'b')};
      if (path == "/page") return {.body = "hello"};
      return {.status = 404, .body = "no\n"};
    });
    ASSERT_TRUE(opened) << opened.error().message;
    listener = std::move(*opened);
    port = listener->ports().at(0);
    thread = std::thread([this] { loop->run(); });
  }
  void TearDown() override {
    if (!thread.joinable()) return;
    loop->stop();
    thread.join();
  }

  [[nodiscard]] UniqueFd connected() const {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  // Until the server closes.
  [[nodiscard]] static std::string rest(const UniqueFd& fd) {
    return base::read_up_to(fd.get(), 8 << 20).value_or("(reset)");
  }
  [[nodiscard]] std::string ask(const std::string& request) const {
    const auto fd = connected();
    EXPECT_TRUE(base::write_all(fd.get(), request));
    return rest(fd);
  }

  HttpListener::Options options{.address = "127.0.0.1:0", .max_connections = 3};
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<HttpListener> listener;
  std::uint16_t port = 0;
  std::thread thread;
};

TEST_F(Listener, AnswersWithThePageItsLengthAndTheEnd) {
  const auto answer = ask("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_THAT(answer, testing::EndsWith("\r\n\r\nhello"));
  const auto head = ask("HEAD /page HTTP/1.1\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_THAT(head, testing::EndsWith("\r\n\r\n"));
}

TEST_F(Listener, SendsMoreThanTheSocketHolds) {
  const auto answer = ask("GET /big HTTP/1.1\r\n\r\n");
  EXPECT_EQ(answer.size() - answer.find("\r\n\r\n") - 4, std::size_t{4} << 20);
}

TEST_F(Listener, RefusesWithTheStatusThatSaysWhy) {
  EXPECT_THAT(ask("GET /nothing HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("POST /page HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(ask("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nX: " + std::string(max_http_head_bytes, 'x')), StartsWith("HTTP/1.1 431 "));
}

TEST_F(Listener, TakesARequestThatComesInPieces) {
  const auto fd = connected();
  for (const std::string_view piece : {"GE", "T /page HT", "TP/1.1\r\n", "\r", "\n"}) {
    ASSERT_TRUE(base::write_all(fd.get(), piece));
  }
  EXPECT_THAT(rest(fd), testing::EndsWith("hello"));
}

TEST_F(Listener, EndsTheOldestConnectionWhenThereAreTooMany) {
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 3; ++i) idle.push_back(connected());
  EXPECT_THAT(ask("GET /page HTTP/1.1\r\n\r\n"), testing::EndsWith("hello"));
  EXPECT_EQ(rest(idle.front()), "");  // ended without an answer
}

class ImpatientListener : public Listener {
 protected:
  ImpatientListener() { options.patience = std::chrono::milliseconds(30); }
};

TEST_F(ImpatientListener, EndsWhoDoesNotAsk) {
  const auto fd = connected();
  ASSERT_TRUE(base::write_all(fd.get(), "GET /pa"));
  EXPECT_EQ(rest(fd), "");
}

TEST_F(Listener, SaysThatItsPlaceIsTaken) {
  const auto again = HttpListener::open(*loop, {.address = "127.0.0.1:" + std::to_string(port)}, {});
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("in use"));
}

TEST(HttpListener, KnowsWhetherOthersCanReachIt) {
  const auto loop = std::move(*EventLoop::create());
  const auto everywhere = HttpListener::open(*loop, {.address = "0.0.0.0:0"}, {});
  ASSERT_TRUE(everywhere) << everywhere.error().message;
  EXPECT_FALSE((*everywhere)->loopback_only());
  const auto named = HttpListener::open(*loop, {.address = "localhost:0"}, {});
  ASSERT_TRUE(named) << named.error().message;
  EXPECT_TRUE((*named)->loopback_only());
}

}  // namespace
}  // namespace daemoneye::observe
