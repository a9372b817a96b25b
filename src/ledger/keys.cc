#include "ledger/keys.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/unique_fd.h"

namespace daemoneye::ledger {
namespace {

constexpr mode_t private_mode = 0600, public_mode = 0644;
constexpr std::size_t max_key_bytes = 1024;

}  // namespace

Result<std::optional<PrivateKey>> read_key(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno == ENOENT) return std::nullopt;
  if (!fd) return fail_errno(path, errno);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(path, errno);
  if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return fail(Errc::permission_denied, path + ": a signing key must be a file of uid " + std::to_string(::geteuid()) +
                                             " that nobody else can use (0600)");
  }
  DE_TRY(auto text, base::read_up_to(fd.get(), max_key_bytes));
  auto key = PrivateKey::parse(text);
  OPENSSL_cleanse(text.data(), text.size());
  if (!key) return fail(Errc::invalid_input, path + ": " + key.error().message);
  return std::optional<PrivateKey>(std::move(*key));
}

Result<void> write_key(const std::string& path, const PrivateKey& key) {
  auto text = key.text() + '\n';
  auto written = base::write_file_atomic(path, text, private_mode);
  OPENSSL_cleanse(text.data(), text.size());
  DE_CHECK(written);
  return base::write_file_atomic(path + ".pub", key.public_key().text() + '\n', public_mode);
}

std::string next_key_path(const std::string& path) { return path + ".next"; }

}  // namespace daemoneye::ledger
