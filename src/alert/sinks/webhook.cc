// webhook: one HTTP request an alert, by libcurl.
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include "alert/format.h"
#include "alert/sinks/options.h"
#include "alert/sinks/retry_after.h"
#include "alert/sinks/secrets.h"
#include "alert/sinks/sinks.h"
#include "alert/sinks/transfer.h"
#include "base/hash.h"
#include "base/text.h"
#include "observe/log.h"

namespace daemoneye::alert {
namespace {

constexpr std::size_t max_answer_bytes = 64 * 1024;  // then the connection is given up
constexpr std::size_t max_shown_answer_bytes = 200, max_shown_error_bytes = 300;
constexpr std::string_view header_prefix = "headers.";

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

// "NAME: VALUE": nothing that could end the header, and none that the request itself is made of.
Result<void> check_header(const std::string& header) {
  constexpr std::string_view token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
  const auto name = lower(header.substr(0, header.find(": ")));
  if (name.empty() || name.size() > 128 || name.find_first_not_of(token) != std::string::npos) {
    return fail(Errc::invalid_input, "'" + base::printable(name.substr(0, 64)) + "' is no name of a header");
  }
  for (const std::string_view own : {"content-length", "content-encoding", "transfer-encoding", "connection", "expect",
                                     "host", "idempotency-key", "x-daemoneye-signature"}) {
    if (name == own) return fail(Errc::invalid_input, "header " + name + " is made by the sink itself");
  }
  if (std::ranges::any_of(header, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
    return fail(Errc::invalid_input, "header " + name + " holds a control character");
  }
  return {};
}

constexpr std::string_view as_secret = "; give it as {env: NAME}, {file: /PATH} or {credential: NAME}";

// What stands in the configuration is shown by `config show`: no password and no token there. A header that is given as
// a secret is asked about as well, with this instead of its value.
constexpr std::string_view secret_value = "secret";

Result<void> check_inline_header(const std::string& header) {
  DE_CHECK(check_header(header));
  const auto colon = header.find(": ");
  const auto name = lower(header.substr(0, colon));
  if (header.substr(colon + 2) == secret_value) return {};
  for (const std::string_view word : {"auth", "cookie", "token", "key", "secret", "passw", "signature", "credential"}) {
    if (name.contains(word)) {
      return fail(Errc::invalid_input, "header " + name + " looks like it holds a secret" + std::string(as_secret));
    }
  }
  return {};
}

Result<void> check_inline_url(const std::string& url, bool proxy) {
  DE_TRY(const auto parts, split_url(url));
  const bool known =
      proxy ? parts.scheme == "http" || parts.scheme == "https" || parts.scheme == "socks5" || parts.scheme == "socks5h"
            : parts.scheme == "https" || parts.scheme == "http";
  if (!known) {
    return fail(Errc::invalid_input, proxy ? "a proxy is http://, https://, socks5:// or socks5h://"
                                           : "it must begin with https:// (or http://, which is not encrypted)");
  }
  const std::string secret_way(as_secret);
  if (!parts.user_info().empty()) return fail(Errc::invalid_input, "it holds a user or a password" + secret_way);
  const auto query =
      lower(parts.path_and_query.substr(std::min(parts.path_and_query.find('?'), parts.path_and_query.size())));
  for (const char* word : {"token=", "key=", "secret=", "password=", "sig=", "signature="}) {
    if (query.contains(word)) return fail(Errc::invalid_input, "its query looks like it holds a secret" + secret_way);
  }
  return {};
}

Result<void> check(const config::SinkSettings& settings) { return check_tls_keys(settings); }

Result<std::string> gzip(std::string_view text) {
  z_stream stream{};
  constexpr int gzip_window = 15 + 16;
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, gzip_window, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return fail(Errc::internal, "zlib does not start");
  }
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int done = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (done != Z_STREAM_END) return fail(Errc::internal, "zlib does not compress");
  return out;
}

std::string hmac_sha256(const std::string& key, const std::string& text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()),
       text.size(), digest, &size);
  return base::to_hex(std::string_view(reinterpret_cast<const char*>(digest), size));
}

// What a request needs of the configuration, secrets resolved.
struct Request {
  std::string url, origin, proxy, signing_key;
  std::vector<UrlParts> places;      // whose names have to be looked up
  std::vector<std::string> headers;  // "Name: value"
  Secrets secrets;
};

void hide_login(Secrets& secrets, const UrlParts& parts) {
  secrets.hide(parts.user_info());
  secrets.hide_login(parts.user, parts.password);
  secrets.hide_login(percent_decoded(parts.user), percent_decoded(parts.password));
}

Result<Request> make_request(const config::SinkSettings& settings, const Formatter& format) {
  const auto problem = [&](const std::string& text) {
    return fail(Errc::invalid_input, "sink " + settings.name + ": " + text);
  };
  Request request;
  DE_TRY(request.secrets, Secrets::resolve(settings));
  request.url = settings.secrets.contains("url") ? request.secrets.get("url") : text_option(settings, "url");
  auto parts = split_url(request.url);
  if (!parts) return problem("url: " + parts.error().message);
  if (parts->scheme != "https" && parts->scheme != "http")
    return problem("url: it must begin with https:// or http://");
  request.origin = parts->origin;
  if (settings.secrets.contains("url")) {
    hide_login(request.secrets, *parts);
    if (parts->path_and_query.size() > 1) request.secrets.hide(parts->path_and_query);
  }
  request.proxy = settings.secrets.contains("proxy") ? request.secrets.get("proxy") : text_option(settings, "proxy");
  if (!request.proxy.empty()) {
    auto proxy = split_url(request.proxy);
    if (!proxy) return problem("proxy: " + proxy.error().message);
    hide_login(request.secrets, *proxy);
    request.places.push_back(*proxy);
    // Only this kind is given addresses; the others look the name up themselves.
    if (proxy->scheme == "socks5") request.places.push_back(*parts);
  } else {
    request.places.push_back(*parts);
  }
  request.signing_key = request.secrets.get("signing_key");

  bool has_type = false;
  const auto add = [&](const std::string& name, const std::string& value) {
    has_type = has_type || lower(name) == "content-type";
    request.headers.push_back(name + ": " + value);
  };
  for (const auto& [key, value] : settings.options) {
    if (key.starts_with(header_prefix)) add(key.substr(header_prefix.size()), value);
  }
  for (const auto& [key, reference] : settings.secrets) {
    if (key.starts_with(header_prefix)) add(key.substr(header_prefix.size()), request.secrets.get(key));
  }
  if (settings.secrets.contains("bearer_token")) add("Authorization", "Bearer " + request.secrets.get("bearer_token"));
  if (!has_type) add("Content-Type", format.is_json() ? "application/json" : "text/plain; charset=utf-8");
  request.headers.push_back("User-Agent: DaemonEye/" DAEMONEYE_VERSION);
  request.headers.push_back("Expect:");  // no round trip before the body
  return request;
}

struct Answer {
  std::string beginning;
  std::size_t size = 0;
};

std::size_t take_answer(char* bytes, std::size_t, std::size_t count, void* user) {
  auto& answer = *static_cast<Answer*>(user);
  answer.size += count;
  const auto room = max_shown_answer_bytes - std::min(answer.beginning.size(), max_shown_answer_bytes);
  answer.beginning.append(bytes, std::min(room, count));
  return answer.size > max_answer_bytes ? CURL_WRITEFUNC_ERROR : count;
}

class WebhookSink final : public AlertSink {
 public:
  WebhookSink(const config::SinkSettings& settings, Formatter format, Request request)
      : settings_(settings),
        timeouts_(timeouts_of(settings)),
        tls_(tls_files_of(settings)),
        put_(text_option(settings, "method", "POST") == "PUT"),
        gzip_(text_option(settings, "gzip", "false") == "true"),
        format_(std::move(format)),
        request_(std::move(request)) {
    if (request_.origin.starts_with("http://")) {
      const std::string warning = "alerts go to " + request_.origin + " unencrypted (http)";
      status_.warn(warning);
      observe::log(observe::Level::warn, "alert", "a sink is not encrypted",
                   {{"sink", std::string_view(settings_.name)}, {"warning", std::string_view(warning)}});
    }
  }

  std::expected<DeliveryResult, DeliveryError> send(const store::Alert& alert, std::stop_token stop) override {
    auto sent = deliver(alert, stop);
    status_.set(sent ? "" : sent.error().message);
    return sent;
  }

  HealthStatus health_check() override { return status_.get(); }
  [[nodiscard]] std::string_view name() const override { return settings_.name; }
  void reopen() override { reopen_wanted_ = true; }

 private:
  using Sent = std::expected<DeliveryResult, DeliveryError>;

  static Sent failed(std::string message) { return std::unexpected(DeliveryError{std::move(message), false, {}}); }

  // The request as it is now; secrets are read again after a reload.
  Result<Request> request() {
    std::lock_guard lock(mutex_);
    if (reopen_wanted_.exchange(false)) {
      auto made = make_request(settings_, format_);
      if (!made) {
        reopen_wanted_ = true;
        return made;
      }
      request_ = *std::move(made);
    }
    return request_;
  }

  Sent deliver(const store::Alert& alert, const std::stop_token& stop) {
    const auto deadline = Deadline::after(timeouts_.total);
    const auto request = this->request();
    if (!request) return failed(request.error().message);
    std::string body = format_(alert);
    if (gzip_) {
      auto packed = gzip(body);
      if (!packed) return failed(packed.error().message);
      body = *std::move(packed);
    }
    auto transfer = transfers_.take();
    if (!transfer) return failed(transfer.error().message);
    const auto sent = perform(**transfer, *request, alert, body, deadline, stop);
    transfers_.give_back(*std::move(transfer));
    return sent;
  }

  Sent perform(Transfer& transfer, const Request& request, const store::Alert& alert, const std::string& body,
               Deadline deadline, const std::stop_token& stop) {
    CurlList headers;
    for (const auto& header : request.headers) headers.add(header);
    headers.add("Idempotency-Key: " + base::printable(alert.alert_id));
    if (gzip_) headers.add("Content-Encoding: gzip");
    if (!request.signing_key.empty()) {
      const std::string time = std::to_string(base::wall_now().ns / 1'000'000'000);
      headers.add("X-DaemonEye-Signature: t=" + time + ",v1=" + hmac_sha256(request.signing_key, time + '.' + body));
    }
    transfer.reset(timeouts_.connect);
    transfer.set_tls(tls_);
    for (const auto& place : request.places) transfer.look_up(place);
    CURL* handle = transfer.handle();
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(handle, CURLOPT_URL, request.url.c_str());
    curl_easy_setopt(handle, CURLOPT_POST, 1L);
    if (put_) curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, "PUT");
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
    if (!request.proxy.empty()) {
      curl_easy_setopt(handle, CURLOPT_PROXY, request.proxy.c_str());
      curl_easy_setopt(handle, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    }
    Answer answer;
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &take_answer);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, &answer);

    const auto outcome = transfer.run(deadline, stop);
    long code = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &code);
    // An answer that is too long is an answer all the same.
    const bool answered = code != 0 && (outcome.code == CURLE_OK || outcome.code == CURLE_WRITE_ERROR);
    if (!answered) return failed(request.origin + ": " + request.secrets.shown(outcome.error, max_shown_error_bytes));
    if (code >= 200 && code < 300) return DeliveryResult{static_cast<int>(code)};
    return std::unexpected(refusal(handle, static_cast<int>(code), answer, request));
  }

  DeliveryError refusal(CURL* handle, int code, const Answer& answer, const Request& request) const {
    DeliveryError error;
    error.response_code = code;
    error.permanent = code >= 400 && code < 500 && code != 408 && code != 429;
    std::string text = request.origin + ": answered " + std::to_string(code);
    if (code >= 300 && code < 400) text += "; redirects are not followed: set url to where it leads";
    curl_header* header = nullptr;
    if (curl_easy_header(handle, "Retry-After", 0, CURLH_HEADER, -1, &header) == CURLHE_OK) {
      error.retry_after = parse_retry_after(header->value, base::wall_now());
    }
    const auto said = request.secrets.shown(answer.beginning, max_shown_answer_bytes);
    error.message = said.empty() ? text : text + ": " + said;
    return error;
  }

  const config::SinkSettings settings_;
  const Timeouts timeouts_;
  const TlsFiles tls_;
  const bool put_, gzip_;
  const Formatter format_;
  TransferPool transfers_;
  std::mutex mutex_;  // request_
  Request request_;
  std::atomic<bool> reopen_wanted_{false};
  SinkStatus status_;
};

Result<std::unique_ptr<AlertSink>> make(const config::SinkSettings& settings) {
  const auto problem = [&](const Error& error) {
    return fail(error.code, "sink " + settings.name + ": " + error.message);
  };
  DE_TRY(auto format, Formatter::make(settings, "json"));
  if (auto checked = check(settings); !checked) return problem(checked.error());
  DE_TRY(auto request, make_request(settings, format));
  // Wrong files are an error now and not at the first alert.
  if (request.origin.starts_with("https://")) {
    if (auto tls = TlsContext::make(tls_files_of(settings)); !tls) return problem(tls.error());
  }
  return std::make_unique<WebhookSink>(settings, std::move(format), std::move(request));
}

}  // namespace

SinkType webhook_sink_type() {
  SinkKeys keys;
  keys.push_back(
      text_key("url", "",
               "Where each alert is sent. A URL with a token in it, in its path as well, is given as a secret: what "
               "stands here is shown by `config show`. `http://` works, with "
               "a warning at the start and in `health`. Redirects are not followed."));
  keys.back().required = true;
  keys.back().may_be_secret = true;
  keys.back().check = [](const std::string& url) { return check_inline_url(url, false); };
  keys.push_back(choice_key("method", {"POST", "PUT"}, "POST", "Method of the request."));
  keys.push_back(text_key("headers", "",
                          "Further headers; a value may be a secret, and must be one where the name speaks of a token, "
                          "key, password or the like. `Content-Type` may be set here."));
  keys.back().kind = config::SinkKey::Kind::map;
  keys.back().may_be_secret = true;
  keys.back().check = check_inline_header;
  keys.push_back(secret_key("bearer_token", "Sent as `Authorization: Bearer …`."));
  keys.push_back(
      secret_key("signing_key",
                 "Signs each request: `X-DaemonEye-Signature: t=UNIX_SECONDS,v1=HEX`, HEX being the HMAC-SHA256 "
                 "of `UNIX_SECONDS.BODY` with this key; BODY is what is sent, compressed if `gzip` is on."));
  keys.push_back(choice_key("gzip", {"true", "false"}, "false", "Compress the body."));
  keys.push_back(text_key("proxy", "",
                          "`http://`, `https://`, `socks5://` or `socks5h://`; with a user or password as a "
                          "secret. Proxies of the environment are not used."));
  keys.back().may_be_secret = true;
  keys.back().check = [](const std::string& url) { return check_inline_url(url, true); };
  add_tls_keys(keys);
  add_timeout_keys(keys);
  return {"webhook", std::move(keys), make, check};
}

}  // namespace daemoneye::alert
