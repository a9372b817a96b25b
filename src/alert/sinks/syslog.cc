// syslog: RFC 5424 over a Unix socket, UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425).
#include <unistd.h>

#include <atomic>
#include <optional>

#include "alert/format.h"
#include "alert/sinks/connection.h"
#include "alert/sinks/options.h"
#include "alert/sinks/sigpipe.h"
#include "alert/sinks/sinks.h"
#include "alert/sinks/syslog_message.h"

namespace daemoneye::alert {
namespace {

using Kind = Target::Kind;

constexpr std::int64_t default_datagram_bytes = 8192, max_datagram_bytes = 65'507;
constexpr std::int64_t documentation_enterprise = 32473;  // RFC 5612

std::string transport_of(const config::SinkSettings& settings) { return text_option(settings, "transport", "unix"); }

Target target_of(const config::SinkSettings& settings) {
  Target target;
  const auto transport = transport_of(settings);
  target.kind = transport == "udp"   ? Kind::udp
                : transport == "tcp" ? Kind::tcp
                : transport == "tls" ? Kind::tls
                                     : Kind::unix_socket;
  target.path = text_option(settings, "path", "/dev/log");
  target.host = text_option(settings, "host");
  target.port = static_cast<std::uint16_t>(number_option(settings, "port", target.kind == Kind::tls ? 6514 : 514));
  target.server_name = text_option(settings, "server_name");
  return target;
}

SyslogStyle style_of(const config::SinkSettings& settings) {
  SyslogStyle style;
  style.facility = syslog_facility(text_option(settings, "facility", "daemon")).value_or(3);
  style.app_name = text_option(settings, "app_name", "daemoneye");
  style.process_id = std::to_string(::getpid());
  style.enterprise_id = static_cast<std::uint32_t>(number_option(settings, "enterprise_id", documentation_enterprise));
  style.bom = text_option(settings, "bom", "true") == "true";
  return style;
}

Result<void> check(const config::SinkSettings& settings) {
  const auto transport = transport_of(settings);
  const bool network = transport != "unix";
  if (network != settings.options.contains("host")) {
    return fail(Errc::invalid_input,
                network ? "transport " + transport + " needs a host" : "a host needs a transport: udp, tcp or tls");
  }
  if (network && settings.options.contains("path")) {
    return fail(Errc::invalid_input, "path is the socket of transport unix, not of " + transport);
  }
  if (transport != "tls") {
    for (const char* key : {"ca_file", "client_certificate", "client_key", "server_name"}) {
      if (settings.options.contains(key)) return fail(Errc::invalid_input, std::string(key) + " needs transport tls");
    }
  }
  return check_tls_keys(settings);
}

class SyslogSink final : public AlertSink {
 public:
  SyslogSink(const config::SinkSettings& settings, Formatter format, std::optional<TlsContext> tls)
      : settings_(settings),
        target_(target_of(settings)),
        style_(style_of(settings)),
        timeouts_(timeouts_of(settings)),
        max_datagram_(static_cast<std::size_t>(number_option(settings, "max_datagram_bytes", default_datagram_bytes))),
        format_(std::move(format)),
        tls_(std::move(tls)) {}

  std::expected<DeliveryResult, DeliveryError> send(const store::Alert& alert, std::stop_token stop) override {
    const std::string text = format_(alert);
    const auto deadline = Deadline::after(timeouts_.total);
    std::unique_lock lock(mutex_, std::defer_lock);
    auto sent = lock_until(lock, deadline, stop) ? deliver(alert, text, deadline, stop)
                                                 : fail(Errc::timeout, "another attempt takes too long");
    if (!sent) {
      const std::string message = to_string(target_) + ": " + sent.error().message;
      status_.set(message);
      return std::unexpected(DeliveryError{message, false, {}});
    }
    status_.set("");
    return DeliveryResult{};
  }

  HealthStatus health_check() override { return status_.get(); }
  [[nodiscard]] std::string_view name() const override { return settings_.name; }
  // The next send() connects anew, with what the files of TLS hold then.
  void reopen() override { reopen_wanted_ = true; }

 private:
  Result<void> deliver(const store::Alert& alert, const std::string& text, Deadline deadline,
                       const std::stop_token& stop) {
    const SigpipeBlock no_sigpipe;  // OpenSSL writes without MSG_NOSIGNAL
    if (reopen_wanted_) {
      if (target_.kind == Kind::tls) {
        DE_TRY(tls_, TlsContext::make(tls_files_of(settings_)));
      }
      connection_.reset();
      reopen_wanted_ = false;
    }
    // A connection that lay idle may be gone without a word: what fails there is tried once more on a new one. The
    // receiver knows what came twice by alertId.
    for (;;) {
      const bool used_before = connection_.has_value() && connection_->peer_closed().empty();
      if (!used_before) {
        connection_.reset();
        const auto until = Deadline::at(std::min(deadline.point(), Deadline::after(timeouts_.connect).point()));
        DE_TRY(connection_, Connection::open(target_, tls_ ? &*tls_ : nullptr, until, stop));
      }
      auto written = write(alert, text, deadline, stop);
      if (written) return {};
      connection_.reset();
      if (!used_before || stop.stop_requested() || deadline.expired()) return written;
    }
  }

  Result<void> write(const store::Alert& alert, const std::string& text, Deadline deadline,
                     const std::stop_token& stop) {
    if (connection_->is_datagram()) {
      for (std::size_t limit = max_datagram_;; limit /= 2) {
        auto sent = connection_->write(syslog_message(alert, text, style_, limit), deadline, stop);
        // A socket may take less than we were told; below the least bound it is no use.
        if (!sent && sent.error().code == Errc::limit_exceeded && limit / 2 >= min_syslog_bytes) continue;
        DE_CHECK(std::move(sent));
        break;
      }
      // Loopback and near hosts say at once that nobody listens.
      if (auto closed = connection_->peer_closed(); !closed.empty()) return fail(Errc::unavailable, closed);
      return {};
    }
    std::string message = syslog_message(alert, text, style_);
    if (target_.kind == Kind::unix_socket) {
      message += '\0';  // as syslog(3) ends a message on a stream
    } else {
      message.insert(0, std::to_string(message.size()) + ' ');
    }
    DE_CHECK(connection_->write(message, deadline, stop));
    return connection_->wait_acknowledged(deadline, stop);
  }

  const config::SinkSettings settings_;
  const Target target_;
  const SyslogStyle style_;
  const Timeouts timeouts_;
  const std::size_t max_datagram_;
  const Formatter format_;
  std::timed_mutex mutex_;
  std::optional<TlsContext> tls_;
  std::optional<Connection> connection_;
  std::atomic<bool> reopen_wanted_{false};
  SinkStatus status_;
};

Result<std::unique_ptr<AlertSink>> make(const config::SinkSettings& settings) {
  const auto problem = [&](const Error& error) {
    return fail(error.code, "sink " + settings.name + ": " + error.message);
  };
  if (auto checked = check(settings); !checked) return problem(checked.error());
  DE_TRY(auto format, Formatter::make(settings, "json"));
  std::optional<TlsContext> tls;
  if (transport_of(settings) == "tls") {
    auto made = TlsContext::make(tls_files_of(settings));
    if (!made) return problem(made.error());
    tls = *std::move(made);
  }
  return std::make_unique<SyslogSink>(settings, std::move(format), std::move(tls));
}

}  // namespace

SinkType syslog_sink_type() {
  SinkKeys keys;
  keys.push_back(choice_key("transport", {"unix", "udp", "tcp", "tls"}, "unix",
                            "`tcp` and `tls` count octets (RFC 6587) and send messages of any length whole."));
  keys.push_back(text_key("path", "/dev/log", "The socket of transport unix; datagrams or a stream."));
  keys.push_back(text_key("host", "", "Name or address of the receiver; for udp, tcp and tls."));
  keys.push_back(number_key("port", 1, 65'535, 514, "Its port; `6514` for tls."));
  keys.push_back(text_key("server_name", "", "Name that the receiver's certificate must have; without it `host`."));
  add_tls_keys(keys);
  keys.push_back(choice_key("facility", syslog_facilities(), "daemon",
                            "Severities: critical is `crit`, high `err`, medium `warning`, low `notice`."));
  keys.push_back(text_key("app_name", "daemoneye", "APP-NAME of the messages. MSGID is the rule's id."));
  keys.push_back(number_key("enterprise_id", 1, 4'294'967'295, documentation_enterprise,
                            "Of the structured data `daemoneye@ID`. The default is the number that IANA keeps for "
                            "documentation (RFC 5612): an organisation with its own sets it."));
  keys.push_back(choice_key("bom", {"true", "false"}, "true",
                            "The byte order mark with which RFC 5424 marks UTF-8; some receivers stumble over it."));
  keys.push_back(number_key(
      "max_datagram_bytes", static_cast<std::int64_t>(min_syslog_bytes), max_datagram_bytes, default_datagram_bytes,
      "Longest message over udp and unix datagrams. A longer one is cut, ends in … and says so by "
      "`cutFrom` in the structured data."));
  add_timeout_keys(keys);
  return {"syslog", std::move(keys), make, check};
}

}  // namespace daemoneye::alert
