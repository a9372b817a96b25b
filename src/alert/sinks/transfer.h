// libcurl for sinks: connections that are kept, an end by deadline and stop, messages without secrets.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "alert/sinks/connection.h"
#include "base/result.h"
#include "base/time.h"

namespace daemoneye::alert {

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
  struct Outcome {
    CURLcode code = CURLE_OK;
    std::string error;  // one line, bounded; may hold what the peer or libcurl says: clean it of secrets
    bool stopped = false;
  };
  Outcome run(Deadline deadline, const std::stop_token& stop);

 private:
  Transfer() = default;
  static curl_socket_t open_socket(void* self, curlsocktype purpose, curl_sockaddr* address);
  static int close_socket(void* self, curl_socket_t socket);
  void cut_connections();
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

// The parts of a URL. `origin` is what may be shown: scheme, host, port.
struct UrlParts {
  std::string scheme, host, origin, user_info, path_and_query;
};
Result<UrlParts> split_url(const std::string& url);

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

 private:
  curl_slist* list_ = nullptr;
};

}  // namespace daemoneye::alert
