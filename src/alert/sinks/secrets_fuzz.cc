// What a peer said, of the same bytes as the secrets that it may repeat: none is shown, however it was cut.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "alert/sinks/secrets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye;
  if (size < 2 || size > 4096) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::string secret(bytes.substr(0, data[0] % 64)), user(bytes.substr(secret.size(), data[1] % 16));
  const std::string said(bytes.substr(secret.size() + user.size()));
  alert::Secrets secrets;
  secrets.hide_login(user, secret);
  const auto cleaned = secrets.clean(said);
  // Asterisks may stand where a secret stood, and a secret may be of them.
  if (!secret.empty() && secret.find('*') == std::string::npos && cleaned.contains(secret)) std::abort();
  if (secrets.shown(said, 100).size() > 100) std::abort();
  if (secrets.shown(said, 100).find_first_of("\n\r\x1b") != std::string::npos) std::abort();
  return 0;
}
