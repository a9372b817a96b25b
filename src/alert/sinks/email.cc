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
#include "alert/sinks/smtp_dialogue.h"
#include "alert/sinks/transfer.h"
#include "base/text.h"
#include "observe/log.h"

namespace daemoneye::alert {
namespace {

constexpr std::size_t max_shown_bytes = 300;

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

std::string username_of(const config::SinkSettings& settings, const Secrets& secrets) {
  return settings.secrets.contains("username") ? secrets.get("username") : text_option(settings, "username");
}

Result<Secrets> resolve_secrets(const config::SinkSettings& settings) {
  DE_TRY(auto secrets, Secrets::resolve(settings));
  secrets.hide_login(username_of(settings, secrets), secrets.get("password"));
  return secrets;
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

// Every line that is said, the mail itself excepted. Nothing of it is kept but refusals.
int listen(CURL*, curl_infotype type, char* bytes, std::size_t count, void* user) {
  auto& dialogue = *static_cast<SmtpDialogue*>(user);
  if (type == CURLINFO_HEADER_OUT) dialogue.command({bytes, count});
  if (type == CURLINFO_HEADER_IN) dialogue.answer({bytes, count});
  return 0;
}
std::size_t drop_body(char*, std::size_t, std::size_t count, void*) { return count; }

class EmailSink final : public AlertSink {
 public:
  EmailSink(const config::SinkSettings& settings, Formatter format, Secrets secrets)
      : settings_(settings),
        url_(url_of(settings)),
        security_(security_of(settings)),
        place_(split_url(url_).value_or(UrlParts{})),
        timeouts_(timeouts_of(settings)),
        tls_(tls_files_of(settings)),
        head_{text_option(settings, "from"), settings.lists.at("to"),
              text_option(settings, "subject_prefix", "[DaemonEye] ")},
        format_(std::move(format)),
        secrets_(std::move(secrets)) {
    if (security_ == "none") {
      warning_ = "alerts go to " + url_ + " unencrypted (security: none)";
      status_.warn(warning_);
      observe::log(observe::Level::warn, "alert", "a sink is not encrypted",
                   {{"sink", std::string_view(settings_.name)}, {"warning", std::string_view(warning_)}});
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
      auto read = resolve_secrets(settings_);
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
    const std::string username = username_of(settings_, secrets);
    const std::string password = secrets.get("password");
    Upload upload{message};
    SmtpDialogue dialogue;

    transfer.reset(timeouts_.connect);
    transfer.set_tls(tls_);
    transfer.look_up(place_);
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
    // One address that is refused must not keep the alert from the others.
    curl_easy_setopt(handle, CURLOPT_MAIL_RCPT_ALLLOWFAILS, 1L);
    curl_easy_setopt(handle, CURLOPT_VERBOSE, 1L);
    curl_easy_setopt(handle, CURLOPT_DEBUGFUNCTION, &listen);
    curl_easy_setopt(handle, CURLOPT_DEBUGDATA, &dialogue);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, &drop_body);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &drop_body);

    const auto outcome = transfer.run(deadline, stop);
    long code = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &code);
    if (outcome.code == CURLE_OK) {
      tell_of_refused(dialogue, secrets);
      return DeliveryResult{static_cast<int>(code)};
    }
    DeliveryError error;
    if (code != 0) error.response_code = static_cast<int>(code);
    const bool answered = outcome.code == CURLE_SEND_ERROR || outcome.code == CURLE_WEIRD_SERVER_REPLY;
    error.permanent = answered && dialogue.refused_for_good();
    error.message = url_ + ": " + secrets.shown(outcome.error, max_shown_bytes);
    const auto refusal = secrets.shown(dialogue.last_refusal(), max_shown_bytes);
    if (code >= 400 && !refusal.empty()) error.message += " (" + refusal + ')';
    return std::unexpected(std::move(error));
  }

  // The mail went to the others.
  void tell_of_refused(const SmtpDialogue& dialogue, const Secrets& secrets) {
    std::string warning = warning_;
    for (const auto& one : dialogue.refused_recipients()) {
      warning += (warning.empty() ? "refused: " : "; refused: ") + secrets.shown(one, max_shown_bytes);
    }
    status_.warn(std::move(warning));
  }

  const config::SinkSettings settings_;
  const std::string url_, security_;
  const UrlParts place_;
  const Timeouts timeouts_;
  const TlsFiles tls_;
  const MailHead head_;
  const Formatter format_;
  TransferPool transfers_;
  std::mutex mutex_;  // secrets_
  Secrets secrets_;
  std::string warning_;  // that always holds
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
  DE_TRY(auto secrets, resolve_secrets(settings));
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
