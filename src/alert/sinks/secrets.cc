#include "alert/sinks/secrets.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/file.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace daemoneye::alert {
namespace {

using Kind = config::SecretReference::Kind;

// Of a secret at the end of a text that was cut: what is shorter tells nothing.
constexpr std::size_t shortest_beginning = 3;

std::string base64(const std::string& text) {
  std::string out(4 * ((text.size() + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

Result<void> check_private(int fd, const std::string& path) {
  struct stat state{};
  if (::fstat(fd, &state) != 0) return fail_errno("stat " + path, errno);
  if (!S_ISREG(state.st_mode)) return fail(Errc::invalid_input, path + " is not a regular file");
  if ((state.st_mode & (S_IRWXO)) != 0) {
    return fail(Errc::permission_denied,
                path + " holds a secret, and every user may use it; take that right away (chmod o= " + path + ")");
  }
  return {};
}

Result<UniqueFd> open_to_read(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return fail_errno("open " + path, errno);
  return file;
}

Result<std::string> read_secret_file(const std::string& path) {
  DE_TRY(const UniqueFd file, open_to_read(path));
  DE_CHECK(check_private(file.get(), path));
  DE_TRY(auto text, base::read_up_to(file.get(), max_secret_bytes + 1));
  // Editors and `echo` end a file with a line end that is no part of the secret.
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

Result<std::string> read(const config::SecretReference& reference) {
  if (reference.kind == Kind::file) return read_secret_file(reference.where);
  if (reference.kind == Kind::credential) {
    const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
    if (folder == nullptr || *folder != '/') {
      return fail(Errc::not_found, "there are no systemd credentials here ($CREDENTIALS_DIRECTORY is not set)");
    }
    return read_secret_file(std::string(folder) + '/' + reference.where);
  }
  const char* value = std::getenv(reference.where.c_str());
  if (value == nullptr) {
    return fail(Errc::not_found, "the environment has no variable " + base::printable(reference.where));
  }
  return std::string(value);
}

}  // namespace

Result<void> check_private(const std::string& path) {
  DE_TRY(const UniqueFd file, open_to_read(path));
  return check_private(file.get(), path);
}

Result<Secrets> Secrets::resolve(const config::SinkSettings& settings) {
  Secrets secrets;
  for (const auto& [key, reference] : settings.secrets) {
    const std::string where = "sink " + settings.name + ": secret " + base::printable(key) + ": ";
    const auto problem = [&where](Errc code, const std::string& text) { return fail(code, where + text); };
    auto value = read(reference);
    if (!value) return problem(value.error().code, value.error().message);
    if (value->empty()) return problem(Errc::invalid_input, "it is empty");
    if (value->size() > max_secret_bytes) {
      return problem(Errc::invalid_input, "it is longer than " + std::to_string(max_secret_bytes) + " bytes");
    }
    // Headers, mail and log lines are built of it.
    if (std::ranges::any_of(*value, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
      return problem(Errc::invalid_input, "it holds a control character or more than one line");
    }
    secrets.hide(*value);
    secrets.values_[key] = *std::move(value);
  }
  return secrets;
}

std::string Secrets::get(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? std::string() : found->second;
}

void Secrets::hide(std::string text) {
  if (text.empty() || std::ranges::find(hidden_, text) != hidden_.end()) return;
  hidden_.push_back(std::move(text));
  std::ranges::sort(hidden_, [](const auto& a, const auto& b) { return a.size() > b.size(); });
}

void Secrets::hide_login(const std::string& user, const std::string& password) {
  hide(password);
  if (user.empty()) return;
  hide(user + ':' + password);
  hide(base64(user + ':' + password));
  hide(base64('\0' + user + '\0' + password));
  hide(base64(password));
}

std::string Secrets::clean(std::string message) const {
  constexpr std::string_view instead = "***";
  for (const auto& secret : hidden_) {
    for (auto at = message.find(secret); at != std::string::npos; at = message.find(secret, at + instead.size())) {
      message.replace(at, secret.size(), instead);
    }
  }
  std::size_t cut = 0;
  for (const auto& secret : hidden_) {
    for (auto size = std::min(secret.size() - 1, message.size()); size >= shortest_beginning && size > cut; --size) {
      if (message.ends_with(std::string_view(secret).substr(0, size))) cut = size;
    }
  }
  if (cut > 0) message.replace(message.size() - cut, cut, instead);
  return message;
}

std::string Secrets::shown(std::string_view said, std::size_t max_bytes) const {
  auto text = base::printable(base::trim(clean(std::string(said))));
  if (text.size() <= max_bytes) return text;
  while (max_bytes > 0 && (static_cast<unsigned char>(text[max_bytes]) & 0xC0U) == 0x80U) --max_bytes;
  text.resize(max_bytes);
  return text;
}

}  // namespace daemoneye::alert
