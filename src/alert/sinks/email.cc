// email: one mail an alert, by SMTP with libcurl.
#include <algorithm>
#include <atomic>
#include <mutex>

#include "alert/format.h"
#include "alert/formats/formats.h"
#include "alert/sinks/mail_message.h"
#include "alert/sinks/options.h"
#include "alert/sinks/secrets.h"
#include "alert/sinks/sinks.h"
#include "alert/sinks/transfer.h"
#include "base/text.h"
#include "observe/log.h"

namespace daemoneye::alert {
namespace {

constexpr std::size_t max_reply_bytes = 200;

std::string security_of(const config::SinkSettings& settings) { return text_option(settings, "security", "starttls"); }

Result<void> check_address(const std::string& address) {
  if (is_mail_address(address)) return {};
  return fail(Errc::invalid_input,
              "'" + base::printable(address.substr(0, 64)) + "' is no mail address like a@b.example");
}

Result<void> check_host(const std::string& host) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:";
  if (!host.empty() && host.size() <= 255 && host.find_first_not_of(allowed) == std::string::npos) return {};
  return fail(Errc::invalid_input, "it is no name or address of a host");
}

Result<void> check(const config::SinkSettings& settings) {
  const bool named = settings.options.contains("username") || settings.secrets.contains("username");
  if (named != settings.secrets.contains("password")) {
    return fail(Errc::invalid_input, "username and password are given together");
  }
  if (security_of(settings) == "none") {
    if (settings.secrets.contains("password")) {
      return fail(Errc::invalid_input, "a password needs security starttls or tls");
    }
    for (const char* key : {"ca_file", "client_certificate", "client_key"}) {
      if (settings.options.contains(key))
        return fail(Errc::invalid_input, std::string(key) + " needs security starttls or tls");
    }
  }
  return check_tls_keys(settings);
}

std::string url_of(const config::SinkSettings& settings) {
  const auto security = security_of(settings);
  const auto host = text_option(settings, "host");
  const std::int64_t port = number_option(settings, "port",
                                          security == "tls"        ? 465
                                          : security == "starttls" ? 587
                                                                   : 25);
  return std::string(security == "tls" ? "smtps://" : "smtp://") + (host.contains(':') ? '[' + host + ']' : host) +
         ':' + std::to_string(port);
}

// The message as libcurl asks for it.
struct Upload {
  std::string_view rest;
};
std::size_t give_message(char* bytes, std::size_t, std::size_t room, void* user) {
  auto& upload = *static_cast<Upload*>(user);
  const auto size = std::min(room, upload.rest.size());
  upload.rest.copy(bytes, size);
  upload.rest.remove_prefix(size);
  return size;
}

// Keeps the server's last refusal: it says why.
std::size_t take_reply(char* bytes, std::size_t, std::size_t count, void* user) {
  if (count > 0 && (*bytes == '4' || *bytes == '5')) {
    static_cast<std::string*>(user)->assign(bytes, std::min(count, max_reply_bytes));
  }
  return count;
}
std::size_t drop_body(char*, std::size_t, std::size_t count, void*) { return count; }

class EmailSink final : public AlertSink {
 public:
  EmailSink(const config::SinkSettings& settings, Formatter format, Secrets secrets)
      : settings_(settings),
        url_(url_of(settings)),
        security_(security_of(settings)),
        timeouts_(timeouts_of(settings)),
        tls_(tls_files_of(settings)),
        head_{text_option(settings, "from"), settings.lists.at("to"),
              text_option(settings, "subject_prefix", "[DaemonEye] ")},
        format_(std::move(format)),
        secrets_(std::move(secrets)) {
    if (security_ == "none") {
      const std::string warning = "alerts go to " + url_ + " unencrypted (security: none)";
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

  Result<Secrets> secrets() {
    std::lock_guard lock(mutex_);
    if (reopen_wanted_.exchange(false)) {
      auto read = Secrets::resolve(settings_);
      if (!read) {
        reopen_wanted_ = true;
        return read;
      }
      secrets_ = *std::move(read);
    }
    return secrets_;
  }

  Sent deliver(const store::Alert& alert, const std::stop_token& stop) {
    const auto deadline = Deadline::after(timeouts_.total);
    const auto failed = [](std::string text) { return std::unexpected(DeliveryError{std::move(text), false, {}}); };
    const auto secrets = this->secrets();
    if (!secrets) return failed(secrets.error().message);
    auto transfer = transfers_.take();
    if (!transfer) return failed(transfer.error().message);
    const auto sent = perform(**transfer, *secrets, alert, deadline, stop);
    transfers_.give_back(*std::move(transfer));
    return sent;
  }

  Sent perform(Transfer& transfer, const Secrets& secrets, const store::Alert& alert, Deadline deadline,
               const std::stop_token& stop) {
    const std::string message = mail_message(alert, head_, format_(alert), format_html(alert));
    const std::string from = '<' + head_.from + '>';
    CurlList recipients;
    for (const auto& one : head_.to) recipients.add('<' + one + '>');
    const std::string username =
        settings_.secrets.contains("username") ? secrets.get("username") : text_option(settings_, "username");
    const std::string password = secrets.get("password");
    Upload upload{message};
    std::string reply;

    transfer.reset(timeouts_.connect);
    transfer.set_tls(tls_);
    CURL* handle = transfer.handle();
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(handle, CURLOPT_URL, url_.c_str());
    curl_easy_setopt(handle, CURLOPT_USE_SSL,
                     static_cast<long>(security_ == "none" ? CURLUSESSL_NONE : CURLUSESSL_ALL));
    if (!password.empty()) {
      curl_easy_setopt(handle, CURLOPT_USERNAME, username.c_str());
      curl_easy_setopt(handle, CURLOPT_PASSWORD, password.c_str());
    }
    curl_easy_setopt(handle, CURLOPT_MAIL_FROM, from.c_str());
    curl_easy_setopt(handle, CURLOPT_MAIL_RCPT, recipients.get());
    curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(handle, CURLOPT_READFUNCTION, &give_message);
    curl_easy_setopt(handle, CURLOPT_READDATA, &upload);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, &take_reply);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, &reply);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &drop_body);

    const auto outcome = transfer.run(deadline, stop);
    long code = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &code);
    if (outcome.code == CURLE_OK) return DeliveryResult{static_cast<int>(code)};
    DeliveryError error;
    if (code != 0) error.response_code = static_cast<int>(code);
    // A 5xx to the mail itself. What the server says of our name and password is for the operator to mend: the alert
    // waits for that.
    const bool about_login = code == 530 || code == 534 || code == 535;
    error.permanent = (outcome.code == CURLE_SEND_ERROR || outcome.code == CURLE_WEIRD_SERVER_REPLY) && code >= 500 &&
                      code < 600 && !about_login;
    std::string text = url_ + ": " + outcome.error;
    if (code >= 400 && !base::trim(reply).empty()) text += " (" + base::printable(base::trim(reply)) + ')';
    error.message = secrets.clean(text);
    return std::unexpected(std::move(error));
  }

  const config::SinkSettings settings_;
  const std::string url_, security_;
  const Timeouts timeouts_;
  const TlsFiles tls_;
  const MailHead head_;
  const Formatter format_;
  TransferPool transfers_;
  std::mutex mutex_;  // secrets_
  Secrets secrets_;
  std::atomic<bool> reopen_wanted_{false};
  SinkStatus status_;
};

Result<std::unique_ptr<AlertSink>> make(const config::SinkSettings& settings) {
  const auto problem = [&](const Error& error) {
    return fail(error.code, "sink " + settings.name + ": " + error.message);
  };
  DE_TRY(auto format, Formatter::make(settings, "text"));
  if (auto checked = check(settings); !checked) return problem(checked.error());
  if (!settings.lists.contains("to")) return problem({Errc::invalid_input, "`to` is required"});
  if (security_of(settings) != "none") {
    if (auto tls = TlsContext::make(tls_files_of(settings)); !tls) return problem(tls.error());
  }
  DE_TRY(auto secrets, Secrets::resolve(settings));
  return std::make_unique<EmailSink>(settings, std::move(format), std::move(secrets));
}

}  // namespace

SinkType email_sink_type() {
  SinkKeys keys;
  keys.push_back(text_key("host", "", "The SMTP server."));
  keys.back().required = true;
  keys.back().check = check_host;
  keys.push_back(number_key("port", 1, 65'535, 587, "Its port."));
  keys.push_back(
      choice_key("security", {"starttls", "tls", "none"}, "starttls",
                 "`starttls` and `tls` send nothing before the connection is encrypted and the server verified; "
                 "the port is 587, 465 or (`none`, with a warning) 25 unless set."));
  keys.push_back(text_key("username", "", "Name to log in with; with `password`."));
  keys.back().may_be_secret = true;
  keys.push_back(secret_key("password", "Never sent unencrypted."));
  keys.push_back(text_key("from", "", "Address of the sender."));
  keys.back().required = true;
  keys.back().check = check_address;
  keys.push_back(text_key("to", "", "Addresses of the recipients."));
  keys.back().required = true;
  keys.back().kind = config::SinkKey::Kind::list;
  keys.back().check = check_address;
  keys.push_back(text_key("subject_prefix", "[DaemonEye] ", "Before severity, title and host."));
  add_tls_keys(keys);
  add_timeout_keys(keys);
  return {"email", std::move(keys), make, check};
}

}  // namespace daemoneye::alert
