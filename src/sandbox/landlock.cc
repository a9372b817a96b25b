// Landlock by its three system calls: Debian's C library has no wrappers, and its headers know ABI 3.
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "base/unique_fd.h"
#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

// struct landlock_ruleset_attr as of ABI 6; older kernels take its beginning.
struct Ruleset {
  std::uint64_t handled_access_fs = 0;
  std::uint64_t handled_access_net = 0;  // ABI 4
  std::uint64_t scoped = 0;              // ABI 6
};

constexpr std::uint64_t truncate = std::uint64_t{1} << 14;      // ABI 3
constexpr std::uint64_t ioctl_device = std::uint64_t{1} << 15;  // ABI 5
constexpr std::uint64_t tcp_bind_and_connect = 3;               // ABI 4
constexpr std::uint64_t abstract_sockets_and_signals = 3;       // ABI 6

constexpr std::uint64_t read_files = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr std::uint64_t read_all = read_files | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t write_all =
    read_all | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | truncate;
// What a rule about a single file may grant.
constexpr std::uint64_t of_files = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | truncate;

// All that this ABI can forbid about files.
std::uint64_t handled_files(int abi) {
  std::uint64_t handled = (std::uint64_t{LANDLOCK_ACCESS_FS_MAKE_SYM} << 1) - 1;  // ABI 1: up to and with this one
  if (abi >= 2) handled |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) handled |= truncate;
  if (abi >= 5) handled |= ioctl_device;
  return handled;
}

std::uint64_t granted_by(PathAccess access) {
  switch (access) {
    case PathAccess::read_files: return read_files;
    case PathAccess::read: return read_all;
    case PathAccess::write: return write_all;
  }
  return 0;
}

Result<void> add_rule(int ruleset, const PathRule& rule, std::uint64_t handled) {
  const UniqueFd place(::open(rule.path.c_str(), O_PATH | O_CLOEXEC));
  struct stat info{};
  if (!place || ::fstat(place.get(), &info) != 0) return fail_errno("Landlock rule for " + rule.path, errno);
  landlock_path_beneath_attr beneath{};
  beneath.parent_fd = place.get();
  beneath.allowed_access = granted_by(rule.access) & handled & (S_ISDIR(info.st_mode) ? ~std::uint64_t{0} : of_files);
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0) {
    return fail_errno("Landlock rule for " + rule.path, errno);
  }
  return {};
}

}  // namespace

int landlock_abi() {
  const auto abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return abi < 0 ? 0 : static_cast<int>(abi);
}

Result<std::string> restrict_paths(const std::vector<PathRule>& rules) {
  const int abi = landlock_abi();
  if (abi == 0) return fail(Errc::unavailable, "this kernel has no Landlock, or it is switched off");
  Ruleset wanted{.handled_access_fs = handled_files(abi)};
  std::size_t size = offsetof(Ruleset, handled_access_net);
  std::string covered = "ABI " + std::to_string(abi) + ": files";
  if (abi >= 4) {
    wanted.handled_access_net = tcp_bind_and_connect;
    size = offsetof(Ruleset, scoped);
    covered += ", tcp";
  }
  if (abi >= 6) {
    wanted.scoped = abstract_sockets_and_signals;
    size = sizeof wanted;
    covered += ", signals, abstract sockets";
  }
  const UniqueFd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &wanted, size, 0)));
  if (!ruleset) return fail_errno("landlock_create_ruleset", errno);
  for (const auto& rule : rules) DE_CHECK(add_rule(ruleset.get(), rule, wanted.handled_access_fs));
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) return fail_errno("landlock_restrict_self", errno);
  return covered;
}

}  // namespace daemoneye::sandbox
