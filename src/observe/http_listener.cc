#include "observe/http_listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <expected>
#include <map>
#include <optional>

#include "base/unique_fd.h"
#include "observe/http_request.h"
#include "observe/log.h"

namespace daemoneye::observe {
namespace {

constexpr int backlog = 32;
constexpr int max_accepts_a_turn = 8;
// While no descriptor is left for a connection, those that wait would wake the loop again and again.
constexpr std::chrono::milliseconds accept_pause{1000};

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 431: return "Request Header Fields Too Large";
    case 503: return "Service Unavailable";
    default: return "Error";
  }
}

std::string to_bytes(const HttpAnswer& answer, bool with_body) {
  std::string bytes = "HTTP/1.1 " + std::to_string(answer.status) + ' ' + std::string(reason_phrase(answer.status));
  bytes += "\r\nContent-Type: " + answer.content_type;
  bytes += "\r\nContent-Length: " + std::to_string(answer.body.size());
  if (answer.status == 405) bytes += "\r\nAllow: GET, HEAD";
  bytes += "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";
  if (with_body) bytes += answer.body;
  return bytes;
}

HttpAnswer refusal(int status, std::string_view why) { return {.status = status, .body = std::string(why) + '\n'}; }

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto host = ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
    return (host >> 24) == 127;
  }
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

struct Found {
  addrinfo* list = nullptr;
  Found() = default;
  Found(const Found&) = delete;
  Found& operator=(const Found&) = delete;
  ~Found() {
    if (list != nullptr) ::freeaddrinfo(list);
  }
};

Result<void> look_up(const std::string& text, Found& found) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return fail(Errc::invalid_input, text + ": HOST:PORT is needed");
  auto host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  const int error = ::getaddrinfo(host.c_str(), text.substr(colon + 1).c_str(), &hints, &found.list);
  if (error != 0) return fail(Errc::unavailable, text + ": " + ::gai_strerror(error));
  return {};
}

// Or errno.
std::expected<UniqueFd, int> listen_on(const addrinfo& address) {
  UniqueFd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return std::unexpected(errno);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // [::] must not take what 0.0.0.0 of the same list is to have.
  if (address.ai_family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0) return std::unexpected(errno);
  if (::listen(fd.get(), backlog) != 0) return std::unexpected(errno);
  return fd;
}

}  // namespace

struct HttpListener::State : std::enable_shared_from_this<State> {
  struct Connection {
    UniqueFd fd;
    std::string in, out;
    std::size_t sent = 0;
    bool answering = false, all_sent = false;
    EventLoop::TimerId timer = -1;
  };

  State(EventLoop& on, Options with, Pages from) : loop(on), options(std::move(with)), pages(std::move(from)) {}

  void close() {
    while (!connections.empty()) end(connections.begin()->first);
    for (const auto& socket : sockets) {
      if (!paused) loop.remove(socket.get());
    }
    if (paused) loop.remove_timer(*paused);
    paused.reset();
    sockets.clear();
  }

  Result<void> watch_sockets() {
    for (const auto& socket : sockets) {
      DE_CHECK(loop.add(socket.get(), EPOLLIN,
                        [self = shared_from_this(), fd = socket.get()](std::uint32_t) { self->accept_some(fd); }));
    }
    return {};
  }

  void pause() {
    for (const auto& socket : sockets) loop.remove(socket.get());
    auto timer = loop.add_timer(accept_pause, std::chrono::nanoseconds(0), [self = shared_from_this()] {
      self->paused.reset();
      if (auto watched = self->watch_sockets(); !watched) {
        log(Level::error, "observe", "metrics.listen takes no connections any more",
            {{"error", watched.error().message}});
      }
    });
    if (timer) paused = *timer;
  }

  void accept_some(int socket) {
    for (int turn = 0; turn < max_accepts_a_turn && !sockets.empty(); ++turn) {
      UniqueFd peer(::accept4(socket, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!peer) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) pause();
        return;
      }
      if (connections.size() >= options.max_connections) {
        ++counters.cut_short;
        end(connections.begin()->first);  // the oldest: they are numbered as they come
      }
      begin(std::move(peer));
    }
  }

  void begin(UniqueFd peer) {
    const auto id = next_id++;
    const int fd = peer.get();
    const auto self = shared_from_this();
    auto timer = loop.add_timer(options.patience, std::chrono::nanoseconds(0), [self, id] {
      const auto found = self->connections.find(id);
      if (found == self->connections.end()) return;
      if (!found->second.all_sent) ++self->counters.cut_short;
      self->end(id);
    });
    if (!timer) {
      ++counters.cut_short;
      return;
    }
    Connection connection;
    connection.fd = std::move(peer);
    connection.timer = *timer;
    connections.emplace(id, std::move(connection));
    if (!loop.add(fd, EPOLLIN, [self, id](std::uint32_t) { self->go_on(id); })) {
      loop.remove_timer(*timer);
      connections.erase(id);
      ++counters.cut_short;
    }
  }

  void end(std::uint64_t id) {
    const auto found = connections.find(id);
    if (found == connections.end()) return;
    loop.remove(found->second.fd.get());
    loop.remove_timer(found->second.timer);
    connections.erase(found);
  }

  void go_on(std::uint64_t id) {
    const auto found = connections.find(id);
    if (found == connections.end()) return;
    auto& connection = found->second;
    if (!connection.answering && !read(connection)) return end(id);
    if (!connection.answering) return;
    if (connection.all_sent) return drain(id, connection);
    write(id, connection);
  }

  // False: the peer is gone.
  bool read(Connection& connection) {
    char buffer[4096];
    while (!connection.answering) {
      const auto got = ::recv(connection.fd.get(), buffer, sizeof buffer, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
      if (got == 0) return false;
      connection.in.append(buffer, static_cast<std::size_t>(got));
      const auto request = parse_http_request(connection.in);
      if (request && !*request) continue;
      connection.out = answer_to(request);
      connection.answering = true;
      connection.in = {};
    }
    return true;
  }

  std::string answer_to(const Result<std::optional<HttpRequest>>& request) {
    if (!request) {
      ++counters.refused;
      const int status = request.error().code == Errc::limit_exceeded ? 431 : 400;
      return to_bytes(refusal(status, request.error().message), true);
    }
    const auto& [method, path] = **request;
    const bool head = method == "HEAD";
    if (!head && method != "GET") {
      ++counters.refused;
      return to_bytes(refusal(405, "only GET and HEAD"), true);
    }
    const auto answer = pages(path);
    ++(answer.status >= 400 && answer.status < 500 ? counters.refused : counters.answered);
    return to_bytes(answer, !head);
  }

  void write(std::uint64_t id, Connection& connection) {
    const int fd = connection.fd.get();
    while (connection.sent < connection.out.size()) {
      const auto put =
          ::send(fd, connection.out.data() + connection.sent, connection.out.size() - connection.sent, MSG_NOSIGNAL);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        if (!loop.modify(fd, EPOLLOUT)) end(id);
        return;
      }
      if (put < 0) {
        ++counters.cut_short;
        return end(id);
      }
      connection.sent += static_cast<std::size_t>(put);
    }
    // What the peer may still be sending must not turn the end into a reset that takes the answer away.
    connection.all_sent = true;
    connection.out = {};
    ::shutdown(fd, SHUT_WR);
    if (!loop.modify(fd, EPOLLIN)) return end(id);
    drain(id, connection);
  }

  void drain(std::uint64_t id, Connection& connection) {
    char buffer[4096];
    const auto got = ::recv(connection.fd.get(), buffer, sizeof buffer, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) end(id);
  }

  EventLoop& loop;
  const Options options;
  Pages pages;
  std::vector<UniqueFd> sockets;
  bool loopback = true;
  std::map<std::uint64_t, Connection> connections;
  std::uint64_t next_id = 1;
  std::optional<EventLoop::TimerId> paused;
  Counters counters;
};

HttpListener::HttpListener(std::shared_ptr<State> state) : state_(std::move(state)) {}
HttpListener::~HttpListener() { state_->close(); }
bool HttpListener::loopback_only() const { return state_->loopback; }
const HttpListener::Counters& HttpListener::counters() const { return state_->counters; }

std::vector<std::uint16_t> HttpListener::ports() const {
  std::vector<std::uint16_t> ports;
  for (const auto& socket : state_->sockets) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) continue;
    // Both kinds of address have the port at the same place.
    ports.push_back(ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port));
  }
  return ports;
}

Result<std::unique_ptr<HttpListener>> HttpListener::open(EventLoop& loop, Options options, Pages pages) {
  const auto text = options.address;
  Found found;
  DE_CHECK(look_up(text, found));
  auto state = std::make_shared<State>(loop, std::move(options), std::move(pages));
  int error = EADDRNOTAVAIL;
  for (const auto* address = found.list; address != nullptr; address = address->ai_next) {
    if (state->sockets.size() >= max_addresses) break;
    auto socket = listen_on(*address);
    if (!socket) {
      error = socket.error();
      // A machine without IPv6 still has the name's other address; one that is taken is not to be passed over.
      if (error == EADDRINUSE) return fail_errno(text, error);
      continue;
    }
    state->loopback = state->loopback && is_loopback(address->ai_addr);
    state->sockets.push_back(std::move(*socket));
  }
  if (state->sockets.empty()) return fail_errno(text, error);
  auto listener = std::unique_ptr<HttpListener>(new HttpListener(state));
  DE_CHECK(state->watch_sockets());
  return listener;
}

}  // namespace daemoneye::observe
