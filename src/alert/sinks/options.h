// What the sinks' configurations have in common.
#pragma once

#include <chrono>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "alert/sink.h"
#include "alert/sinks/connection.h"
#include "config/config.h"

namespace daemoneye::alert {

using SinkKeys = std::vector<config::SinkKey>;

config::SinkKey text_key(std::string name, std::string fallback, std::string help);
config::SinkKey choice_key(std::string name, std::vector<std::string> allowed, std::string fallback, std::string help);
config::SinkKey number_key(std::string name, std::int64_t minimum, std::int64_t maximum, std::int64_t fallback,
                           std::string help);
config::SinkKey file_key(std::string name, std::string help);
config::SinkKey secret_key(std::string name, std::string help);
// connect_timeout_ms, timeout_ms
void add_timeout_keys(SinkKeys& keys);
// ca_file, client_certificate, client_key
void add_tls_keys(SinkKeys& keys);

// Given or the default of the key; only of keys that the configuration has checked.
std::string text_option(const config::SinkSettings& settings, const std::string& key, const std::string& fallback = "");
std::int64_t number_option(const config::SinkSettings& settings, const std::string& key, std::int64_t fallback);
struct Timeouts {
  std::chrono::milliseconds connect, total;
};
Timeouts timeouts_of(const config::SinkSettings& settings);
TlsFiles tls_files_of(const config::SinkSettings& settings);
// A client certificate and its key come together.
Result<void> check_tls_keys(const config::SinkSettings& settings);

// Waits for a sink's turn no longer than the attempt may take.
bool lock_until(std::unique_lock<std::timed_mutex>& lock, Deadline deadline, const std::stop_token& stop);

}  // namespace daemoneye::alert
