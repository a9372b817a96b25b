// Serves a few pages to whoever monitors this machine: HTTP/1, GET and HEAD, a request a connection. Everything is
// bounded: connections, the request's head, the time that one may take.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"

namespace daemoneye::observe {

struct HttpAnswer {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8", body = {};
};

// Loop thread only.
class HttpListener {
 public:
  struct Options {
    std::string address;  // "HOST:PORT"; an IPv6 host stands in brackets; port 0: any that is free
    // When one more comes, the one that has been there longest is ended.
    std::size_t max_connections = 16;
    std::chrono::milliseconds patience{5000};  // for the request, the answer and the end
  };
  using Pages = std::function<HttpAnswer(std::string_view path)>;

  // Every address that the host has (at most max_addresses). Names are looked up here, which may take a while.
  static Result<std::unique_ptr<HttpListener>> open(EventLoop& loop, Options options, Pages pages);
  ~HttpListener();

  static constexpr std::size_t max_addresses = 4;
  [[nodiscard]] std::vector<std::uint16_t> ports() const;
  [[nodiscard]] bool loopback_only() const;
  struct Counters {
    std::uint64_t answered = 0, refused = 0, cut_short = 0;  // refused: 4xx; cut short: before there was a whole answer
  };
  [[nodiscard]] const Counters& counters() const;

 private:
  struct State;
  explicit HttpListener(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared: the loop's handlers hold it while they run
};

}  // namespace daemoneye::observe
