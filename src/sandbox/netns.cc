#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>

#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

struct Namespace {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const Namespace&) const = default;
};

// Where this process was before enter_own_network(): once privileges are gone neither the parent's nor init's
// namespace can be read any more, so there is nothing else left to compare with. Written once, before threads.
std::optional<Namespace> left_behind;

Result<Namespace> network_of(const std::string& pid) {
  struct stat info{};
  const std::string path = "/proc/" + pid + "/ns/net";
  if (::stat(path.c_str(), &info) != 0) return fail_errno(path, errno);
  return Namespace{info.st_dev, info.st_ino};
}

}  // namespace

Result<void> enter_own_network() {
  DE_TRY(const auto before, network_of("self"));
  if (::unshare(CLONE_NEWNET) != 0) return fail_errno("unshare(CLONE_NEWNET)", errno);
  DE_TRY(const auto after, network_of("self"));
  if (before == after) return fail(Errc::internal, "unshare(CLONE_NEWNET) left the network namespace as it was");
  left_behind = before;
  return {};
}

Result<bool> in_own_network() {
  DE_TRY(const auto here, network_of("self"));
  if (left_behind) return here != *left_behind;
  if (const auto parent = network_of(std::to_string(::getppid())); parent && *parent != here) return true;
  if (const auto init = network_of("1"); init && *init != here) return true;
  return false;
}

}  // namespace daemoneye::sandbox
