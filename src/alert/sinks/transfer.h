// libcurl for sinks: connections that are kept, an end by deadline and stop, messages without secrets.
#pragma once

#include <curl/curl.h>

#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "alert/sinks/connection.h"
#include "base/result.h"
#include "base/time.h"

namespace daemoneye::alert {

// The parts of a URL. `origin` is what may be shown: scheme, host, port. User and password as they stand there.
struct UrlParts {
  std::string scheme, host, port, origin, user, password, path_and_query;
  [[nodiscard]] std::string user_info() const { return password.empty() ? user : user + ':' + password; }
};
Result<UrlParts> split_url(const std::string& url);
// %41 is A. What is no escape stays.
std::string percent_decoded(const std::string& text);

// One transfer at a time. The handle's options stay from one to the next until reset(); its connections stay open.
class Transfer {
 public:
  static Result<std::unique_ptr<Transfer>> make();
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  [[nodiscard]] CURL* handle() const { return easy_; }
  // Options as new, with what every transfer needs: no signals, bounded redirects (none), bounded buffers.
  void reset(std::chrono::milliseconds connect_timeout);
  // Verification is always on. Without a CA file the system's CAs count.
  void set_tls(const TlsFiles& files);
  // The transfer will speak to this host. run() looks it up, within the time-outs: libcurl cannot give up a look-up of
  // its own before the resolver does.
  void look_up(const UrlParts& place) { hosts_.push_back({place.host, place.port}); }
  struct Outcome {
    CURLcode code = CURLE_OK;
    std::string error;  // bounded; raw: may hold what the peer or libcurl says, to be shown by Secrets::shown
    bool stopped = false;
  };
  Outcome run(Deadline deadline, const std::stop_token& stop);

 private:
  Transfer() = default;
  static curl_socket_t open_socket(void* self, curlsocktype purpose, curl_sockaddr* address);
  static int close_socket(void* self, curl_socket_t socket);
  void cut_connections();
  struct Host {
    std::string name, port;
    auto operator<=>(const Host&) const = default;
  };
  struct Found {
    std::string entry;  // as CURLOPT_RESOLVE takes it
    base::SteadyClock::time_point until;
  };
  Result<void> find_hosts(Deadline deadline, const std::stop_token& stop);
  std::chrono::milliseconds connect_timeout_{0};
  std::vector<Host> hosts_;
  std::map<Host, Found> found_;
  curl_slist* entries_ = nullptr;  // libcurl reads it during the transfer
  std::vector<curl_socket_t> sockets_;
  CURL* easy_ = nullptr;
  CURLM* multi_ = nullptr;
  char error_[CURL_ERROR_SIZE] = {};
};

// Handles that wait for their next use, so that concurrent sends each keep a connection. Any thread.
class TransferPool {
 public:
  Result<std::unique_ptr<Transfer>> take();
  void give_back(std::unique_ptr<Transfer> transfer);

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Transfer>> idle_;
};

// A list of libcurl's, which copies.
class CurlList {
 public:
  ~CurlList() { curl_slist_free_all(list_); }
  CurlList() = default;
  CurlList(const CurlList&) = delete;
  CurlList& operator=(const CurlList&) = delete;
  void add(const std::string& text) {
    if (auto* longer = curl_slist_append(list_, text.c_str()); longer != nullptr) list_ = longer;
  }
  [[nodiscard]] curl_slist* get() const { return list_; }
  [[nodiscard]] curl_slist* release() { return std::exchange(list_, nullptr); }

 private:
  curl_slist* list_ = nullptr;
};

}  // namespace daemoneye::alert
