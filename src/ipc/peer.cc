#include <grp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "ipc/connection.h"
#include "ipc/group.h"

namespace daemoneye::ipc {

Result<gid_t> group_id(const std::string& name) {
  std::vector<char> buffer(4096);
  // The largest entry of a sane group file; beyond it the lookup is refused.
  constexpr std::size_t max_entry_bytes = 1024 * 1024;
  for (;;) {
    group entry{};
    group* found = nullptr;
    const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE && buffer.size() < max_entry_bytes) {
      buffer.resize(buffer.size() * 2);
      continue;
    }
    if (error != 0) return fail_errno("group " + name, error);
    if (found == nullptr) return fail(Errc::not_found, "group " + name + " does not exist");
    return found->gr_gid;
  }
}

Result<PeerCredentials> peer_credentials(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return fail_errno("SO_PEERCRED", errno);
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

bool peer_in_group(int fd, const PeerCredentials& peer, const std::string& group) {
  const auto wanted = group_id(group);
  if (!wanted) return false;  // nobody is in a group that does not exist
  if (peer.gid == *wanted) return true;
  // The kernel allows 65536 groups (NGROUPS_MAX); ask for the size first.
  socklen_t size = 0;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &size) == 0) return false;  // none at all
  if (errno != ERANGE) return false;
  std::vector<gid_t> groups(size / sizeof(gid_t));
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) return false;
  return std::ranges::find(groups, *wanted) != groups.end();
}

}  // namespace daemoneye::ipc
