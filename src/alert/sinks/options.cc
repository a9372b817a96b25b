#include "alert/sinks/options.h"

#include "base/text.h"

namespace daemoneye::alert {

using config::SinkKey;

namespace {
constexpr std::int64_t default_connect_ms = 5'000, default_total_ms = 10'000, longest_ms = 300'000;
}

SinkKey text_key(std::string name, std::string fallback, std::string help) {
  SinkKey key;
  key.name = std::move(name);
  key.fallback = std::move(fallback);
  key.help = std::move(help);
  return key;
}

SinkKey choice_key(std::string name, std::vector<std::string> allowed, std::string fallback, std::string help) {
  auto key = text_key(std::move(name), std::move(fallback), std::move(help));
  key.allowed = std::move(allowed);
  return key;
}

SinkKey number_key(std::string name, std::int64_t minimum, std::int64_t maximum, std::int64_t fallback,
                   std::string help) {
  auto key = text_key(std::move(name), std::to_string(fallback), std::move(help));
  key.kind = SinkKey::Kind::number;
  key.minimum = minimum;
  key.maximum = maximum;
  return key;
}

SinkKey file_key(std::string name, std::string help) {
  auto key = text_key(std::move(name), "", std::move(help));
  key.file = SinkKey::File::read;
  return key;
}

SinkKey secret_key(std::string name, std::string help) {
  auto key = text_key(std::move(name), "", std::move(help));
  key.secret = true;
  return key;
}

void add_timeout_keys(SinkKeys& keys) {
  keys.push_back(number_key("connect_timeout_ms", 10, longest_ms, default_connect_ms,
                            "Longest wait for a connection, TLS included."));
  keys.push_back(number_key("timeout_ms", 10, longest_ms, default_total_ms, "Longest time for one attempt."));
}

void add_tls_keys(SinkKeys& keys) {
  keys.push_back(file_key("ca_file", "PEM file of the CAs that may vouch for the server; without it the system's."));
  keys.push_back(file_key("client_certificate", "PEM file of our certificate, with its chain."));
  keys.push_back(file_key("client_key", "PEM file of its key; nobody but its owner and group may use it."));
}

std::string text_option(const config::SinkSettings& settings, const std::string& key, const std::string& fallback) {
  const auto found = settings.options.find(key);
  return found == settings.options.end() ? fallback : found->second;
}

std::int64_t number_option(const config::SinkSettings& settings, const std::string& key, std::int64_t fallback) {
  return base::parse_integer<std::int64_t>(text_option(settings, key)).value_or(fallback);
}

Timeouts timeouts_of(const config::SinkSettings& settings) {
  return {std::chrono::milliseconds(number_option(settings, "connect_timeout_ms", default_connect_ms)),
          std::chrono::milliseconds(number_option(settings, "timeout_ms", default_total_ms))};
}

TlsFiles tls_files_of(const config::SinkSettings& settings) {
  return {text_option(settings, "ca_file"), text_option(settings, "client_certificate"),
          text_option(settings, "client_key")};
}

Result<void> check_tls_keys(const config::SinkSettings& settings) {
  const auto files = tls_files_of(settings);
  if (files.certificate.empty() != files.key.empty()) {
    return fail(Errc::invalid_input, "client_certificate and client_key are given together");
  }
  return {};
}

bool lock_until(std::unique_lock<std::timed_mutex>& lock, Deadline deadline, const std::stop_token& stop) {
  constexpr auto step = std::chrono::milliseconds(50);
  while (!stop.stop_requested() && !deadline.expired()) {
    if (lock.try_lock_for(std::min<std::chrono::nanoseconds>(step, deadline.remaining()))) return true;
  }
  return false;
}

}  // namespace daemoneye::alert
