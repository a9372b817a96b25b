#include "alert/sinks/secrets.h"

#include <fcntl.h>
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
    const auto problem = [&](Errc code, const std::string& text) {
      return fail(code, "sink " + settings.name + ": secret " + base::printable(key) + ": " + text);
    };
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

std::string Secrets::clean(std::string message) const {
  constexpr std::string_view instead = "***";
  for (const auto& secret : hidden_) {
    for (auto at = message.find(secret); at != std::string::npos; at = message.find(secret, at + instead.size())) {
      message.replace(at, secret.size(), instead);
    }
  }
  return message;
}

}  // namespace daemoneye::alert
