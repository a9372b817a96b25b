#include "alert/sinks/transfer.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "alert/sinks/resolve.h"
#include "alert/sinks/sigpipe.h"
#include "base/text.h"

namespace daemoneye::alert {
namespace {

constexpr std::size_t max_idle = 4;  // handles, a sink
constexpr std::size_t max_error_bytes = 300;
constexpr int longest_poll_ms = 1000;
constexpr auto found_for = std::chrono::seconds(60);  // as libcurl keeps names
constexpr std::size_t max_addresses = 16;             // of one name

bool is_literal(const std::string& host) {
  in_addr v4{};
  return host.starts_with('[') || ::inet_pton(AF_INET, host.c_str(), &v4) == 1;
}

// "host:port:address,address"; it may be looked up anew.
std::string resolve_entry(const std::string& host, const std::string& port, const Addresses& addresses) {
  std::vector<std::string> texts;
  for (const addrinfo* one = addresses.get(); one != nullptr && texts.size() < max_addresses; one = one->ai_next) {
    char text[INET6_ADDRSTRLEN + 16];
    if (::getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) continue;
    std::string shown = one->ai_family == AF_INET6 ? '[' + std::string(text) + ']' : std::string(text);
    if (std::ranges::find(texts, shown) == texts.end()) texts.push_back(std::move(shown));
  }
  std::string entry = '+' + host + ':' + port;
  for (std::size_t i = 0; i < texts.size(); ++i) entry += (i == 0 ? ':' : ',') + texts[i];
  return entry;
}

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  std::string out(text);
  curl_free(text);
  return out;
}

}  // namespace

Result<std::unique_ptr<Transfer>> Transfer::make() {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  std::unique_ptr<Transfer> made(new Transfer);
  if (ready == CURLE_OK) {
    made->easy_ = curl_easy_init();
    made->multi_ = curl_multi_init();
  }
  if (made->easy_ == nullptr || made->multi_ == nullptr) return fail(Errc::internal, "libcurl does not start");
  curl_multi_setopt(made->multi_, CURLMOPT_MAXCONNECTS, 2L);
  return made;
}

Transfer::~Transfer() {
  cut_connections();
  curl_easy_cleanup(easy_);
  curl_multi_cleanup(multi_);
  curl_slist_free_all(entries_);
}

curl_socket_t Transfer::open_socket(void* self, curlsocktype, curl_sockaddr* address) {
  const int fd = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd < 0) return CURL_SOCKET_BAD;
  static_cast<Transfer*>(self)->sockets_.push_back(fd);
  return fd;
}

int Transfer::close_socket(void* self, curl_socket_t socket) {
  std::erase(static_cast<Transfer*>(self)->sockets_, socket);
  return ::close(socket);
}

// Before libcurl closes a connection it says goodbye, and waits two minutes for an answer (SMTP's QUIT). Where nobody
// may be there to answer, or nobody may wait, the connection is ended first.
void Transfer::cut_connections() {
  for (const auto socket : sockets_) ::shutdown(socket, SHUT_RDWR);
}

void Transfer::reset(std::chrono::milliseconds connect_timeout) {
  curl_easy_reset(easy_);
  hosts_.clear();
  connect_timeout_ = connect_timeout;
  curl_easy_setopt(easy_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy_, CURLOPT_ERRORBUFFER, error_);
  curl_easy_setopt(easy_, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy_, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(connect_timeout.count()));
  curl_easy_setopt(easy_, CURLOPT_TCP_KEEPALIVE, 1L);
  // What the environment says of proxies is not ours: a proxy is in the configuration or there is none.
  curl_easy_setopt(easy_, CURLOPT_PROXY, "");
  curl_easy_setopt(easy_, CURLOPT_NOPROXY, "");
  curl_easy_setopt(easy_, CURLOPT_OPENSOCKETFUNCTION, &open_socket);
  curl_easy_setopt(easy_, CURLOPT_OPENSOCKETDATA, this);
  curl_easy_setopt(easy_, CURLOPT_CLOSESOCKETFUNCTION, &close_socket);
  curl_easy_setopt(easy_, CURLOPT_CLOSESOCKETDATA, this);
}

void Transfer::set_tls(const TlsFiles& files) {
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(easy_, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!files.ca.empty()) {
    curl_easy_setopt(easy_, CURLOPT_CAINFO, files.ca.c_str());
    curl_easy_setopt(easy_, CURLOPT_CAPATH, nullptr);  // else the system's would count as well
  }
  if (!files.certificate.empty()) {
    curl_easy_setopt(easy_, CURLOPT_SSLCERT, files.certificate.c_str());
    curl_easy_setopt(easy_, CURLOPT_SSLKEY, files.key.c_str());
  }
}

Result<void> Transfer::find_hosts(Deadline deadline, const std::stop_token& stop) {
  curl_slist_free_all(std::exchange(entries_, nullptr));
  CurlList entries;
  const auto until = Deadline::after(std::min<std::chrono::nanoseconds>(deadline.remaining(), connect_timeout_));
  for (const auto& host : hosts_) {
    if (is_literal(host.name)) continue;
    const auto now = base::SteadyClock::now();
    auto known = found_.find(host);
    if (known == found_.end() || known->second.until <= now) {
      const auto port = base::parse_integer<std::uint16_t>(host.port).value_or(0);
      DE_TRY(const auto addresses, resolve(host.name, port, SOCK_STREAM, until, stop));
      known =
          found_.insert_or_assign(host, Found{resolve_entry(host.name, host.port, addresses), now + found_for}).first;
    }
    entries.add(known->second.entry);
  }
  entries_ = entries.release();
  curl_easy_setopt(easy_, CURLOPT_RESOLVE, entries_);
  return {};
}

Transfer::Outcome Transfer::run(Deadline deadline, const std::stop_token& stop) {
  const SigpipeBlock no_sigpipe;
  Outcome outcome;
  error_[0] = '\0';
  if (auto found = find_hosts(deadline, stop); !found) {
    outcome.stopped = found.error().code == Errc::cancelled;
    outcome.code = outcome.stopped ? CURLE_ABORTED_BY_CALLBACK : CURLE_COULDNT_RESOLVE_HOST;
    outcome.error = std::move(found).error().message;
    return outcome;
  }
  curl_multi_add_handle(multi_, easy_);
  {
    const std::stop_callback wake(stop, [this] { curl_multi_wakeup(multi_); });
    for (bool done = false; !done;) {
      int running = 0;
      if (curl_multi_perform(multi_, &running) != CURLM_OK) outcome.code = CURLE_FAILED_INIT;
      int left = 0;
      while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        outcome.code = message->data.result;
        done = true;
      }
      if (done || outcome.code != CURLE_OK) break;
      if (stop.stop_requested()) {
        outcome.stopped = true;
        outcome.code = CURLE_ABORTED_BY_CALLBACK;
      } else if (deadline.expired()) {
        outcome.code = CURLE_OPERATION_TIMEDOUT;
      }
      if (outcome.code != CURLE_OK) break;
      curl_multi_poll(multi_, nullptr, 0, std::clamp(deadline.poll_timeout_ms(), 1, longest_poll_ms), nullptr);
    }
  }
  if (outcome.stopped || outcome.code == CURLE_OPERATION_TIMEDOUT) cut_connections();
  curl_multi_remove_handle(multi_, easy_);
  if (outcome.stopped) {
    outcome.error = "stopped";
  } else if (outcome.code == CURLE_OPERATION_TIMEDOUT && error_[0] == '\0') {
    outcome.error = "no answer in time";
  } else if (outcome.code != CURLE_OK) {
    outcome.error = error_[0] != '\0' ? error_ : curl_easy_strerror(outcome.code);
  }
  outcome.error.resize(std::min(outcome.error.size(), max_error_bytes));
  // Where a name led nowhere it is looked up again.
  if (outcome.code != CURLE_OK) found_.clear();
  return outcome;
}

Result<std::unique_ptr<Transfer>> TransferPool::take() {
  {
    std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto transfer = std::move(idle_.back());
      idle_.pop_back();
      return transfer;
    }
  }
  return Transfer::make();
}

void TransferPool::give_back(std::unique_ptr<Transfer> transfer) {
  std::lock_guard lock(mutex_);
  if (idle_.size() < max_idle) idle_.push_back(std::move(transfer));
}

Result<UrlParts> split_url(const std::string& url) {
  struct Free {
    void operator()(CURLU* parsed) const { curl_url_cleanup(parsed); }
  };
  const std::unique_ptr<CURLU, Free> parsed(curl_url());
  // Never quotes the URL: it may hold a token.
  if (!parsed || !url.contains("://") ||
      curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK) {
    return fail(Errc::invalid_input, "it is not a URL like https://host/path");
  }
  UrlParts parts;
  parts.scheme = part_of(parsed.get(), CURLUPART_SCHEME);
  parts.host = part_of(parsed.get(), CURLUPART_HOST, CURLU_PUNYCODE);
  if (parts.host.empty()) parts.host = part_of(parsed.get(), CURLUPART_HOST);
  parts.port = part_of(parsed.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  if (parts.host.empty()) return fail(Errc::invalid_input, "it is not a URL like https://host/path");
  const auto port = part_of(parsed.get(), CURLUPART_PORT);
  parts.origin = parts.scheme + "://" + base::printable(parts.host) + (port.empty() ? "" : ':' + port);
  parts.user = part_of(parsed.get(), CURLUPART_USER);
  parts.password = part_of(parsed.get(), CURLUPART_PASSWORD);
  const auto query = part_of(parsed.get(), CURLUPART_QUERY);
  parts.path_and_query = part_of(parsed.get(), CURLUPART_PATH) + (query.empty() ? "" : '?' + query);
  return parts;
}

std::string percent_decoded(const std::string& text) {
  int size = 0;
  char* decoded = curl_easy_unescape(nullptr, text.data(), static_cast<int>(text.size()), &size);
  if (decoded == nullptr) return text;
  std::string out(decoded, static_cast<std::size_t>(size));
  curl_free(decoded);
  return out;
}

}  // namespace daemoneye::alert
