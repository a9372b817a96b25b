// Real receivers (tests/functional/peers.py) and small servers of our own for what real ones do not do.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "alert/alert_test_util.h"
#include "base/unique_fd.h"

namespace daemoneye::alert::testing {

// peers.py KIND: started in a folder of its own, ended with this object.
class Peer {
 public:
  explicit Peer(const std::string& kind) {
    std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) std::abort();
    const std::string script = std::string(DAEMONEYE_SOURCE_DIR) + "/tests/functional/peers.py";
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::execl("/usr/bin/python3", "python3", script.c_str(), kind.c_str(), folder_.path().c_str(), nullptr);
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    to_.reset(in[1]);
    from_.reset(out[0]);
    about_ = nlohmann::json::parse(read_line(), nullptr, false);
    if (!about_.is_object()) ADD_FAILURE() << kind << " does not start (scripts/setup installs it)";
  }
  ~Peer() {
    to_.reset();
    ::waitpid(pid_, nullptr, 0);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  [[nodiscard]] std::string operator[](const std::string& key) const {
    const auto& value = about_.at(key);
    return value.is_string() ? value.get<std::string>() : value.dump();
  }
  void restart() {
    ASSERT_EQ(::write(to_.get(), "restart\n", 8), 8);
    read_line();
  }
  // What it has written down so far, one object for each message.
  [[nodiscard]] std::vector<nlohmann::json> received() const {
    std::vector<nlohmann::json> found;
    std::istringstream lines(read_all((*this)["received"]));
    for (std::string line; std::getline(lines, line) && !lines.eof();) found.push_back(nlohmann::json::parse(line));
    return found;
  }
  [[nodiscard]] std::vector<nlohmann::json> wait_received(std::size_t count) const {
    EXPECT_TRUE(eventually([&] { return received().size() >= count; })) << received().size() << " of " << count;
    return received();
  }
  [[nodiscard]] const TempFolder& folder() const { return folder_; }

 private:
  std::string read_line() {
    std::string line;
    char c = 0;
    while (::read(from_.get(), &c, 1) == 1 && c != '\n') line += c;
    return line;
  }

  TempFolder folder_;
  pid_t pid_ = -1;
  UniqueFd to_, from_;
  nlohmann::json about_;
};

// Listens on loopback; each connection is given to `serve`, one after the other, and closed when it returns.
class SmallServer {
 public:
  explicit SmallServer(std::function<void(int)> serve) : serve_(std::move(serve)) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_.get(), 16) != 0 ||
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      std::abort();
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~SmallServer() {
    stopping_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    if (const int open = connection_.load(); open >= 0) ::shutdown(open, SHUT_RDWR);
    thread_.join();
  }
  SmallServer(const SmallServer&) = delete;
  SmallServer& operator=(const SmallServer&) = delete;
  [[nodiscard]] std::string port() const { return std::to_string(port_); }
  [[nodiscard]] int connections() const { return count_; }

 private:
  void run() {
    while (!stopping_) {
      const UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection) return;
      ++count_;
      connection_ = connection.get();
      if (!stopping_) serve_(connection.get());
      connection_ = -1;
    }
  }
  const std::function<void(int)> serve_;
  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> count_{0}, connection_{-1};
  std::thread thread_;
};

inline bool send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

// Until the peer closes.
inline std::string read_to_end(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t size = 0; (size = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(size));
  }
  return text;
}

// One HTTP request with its body; empty when the peer closed.
inline std::string read_request(int fd) {
  std::string text;
  char buffer[4096];
  std::size_t wanted = std::string::npos;
  while (text.size() < wanted) {
    const auto size = ::recv(fd, buffer, sizeof buffer, 0);
    if (size <= 0) return {};
    text.append(buffer, static_cast<std::size_t>(size));
    const auto end = text.find("\r\n\r\n");
    const auto length = text.find("Content-Length: ");
    if (end != std::string::npos && length != std::string::npos) {
      wanted = end + 4 + std::strtoul(text.c_str() + length + 16, nullptr, 10);
    }
  }
  return text;
}

inline std::unique_ptr<AlertSink> must_make(const config::SinkSettings& settings) {
  auto sink = make_sink(settings);
  if (!sink) {
    ADD_FAILURE() << sink.error().message;
    return nullptr;
  }
  return *std::move(sink);
}

}  // namespace daemoneye::alert::testing
