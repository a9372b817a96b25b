// The secrets of one sink: read from where the configuration says, and kept out of every message.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/settings.h"

namespace daemoneye::alert {

inline constexpr std::size_t max_secret_bytes = 16 * 1024;

// Refuses a file of which others than its owner and group can read or write: it holds a secret.
Result<void> check_private(const std::string& path);

class Secrets {
 public:
  // Reads each of settings.secrets. The error names the sink, the key and the place, never what is there.
  static Result<Secrets> resolve(const config::SinkSettings& settings);

  // The secret of this key; empty when it is not given.
  [[nodiscard]] std::string get(const std::string& key) const;
  // A further text that must not be shown, such as a part of a secret.
  void hide(std::string text);
  // A name and a password, and what they look like in a header of HTTP or in SMTP's AUTH.
  void hide_login(const std::string& user, const std::string& password);
  // The message with every secret in it replaced, the beginning of one at its end included: what a peer said may have
  // been cut there. For whatever is shown, logged or stored.
  [[nodiscard]] std::string clean(std::string message) const;
  // What a peer or a library said, raw: clean, of one line, not longer than that.
  [[nodiscard]] std::string shown(std::string_view said, std::size_t max_bytes) const;

 private:
  std::map<std::string, std::string> values_;
  std::vector<std::string> hidden_;  // longest first
};

}  // namespace daemoneye::alert
