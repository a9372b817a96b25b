// Giving up privileges, one file a mechanism. Order matters; drop_privileges() keeps it.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace daemoneye::sandbox {

struct User {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;  // its primary group
};
Result<User> find_user(const std::string& name);
Result<gid_t> find_group(const std::string& name);

struct Plan {
  std::string user;          // empty: stay who we are (not root)
  bool own_network = false;  // a new, empty network namespace
  bool drop_capabilities = true;
};

// What was reached, read back from the kernel and not assumed.
struct Reached {
  uid_t uid = 0;
  gid_t gid = 0;
  bool no_new_privs = false;
  bool own_network = false;            // the network namespace differs from init's or the parent's
  std::string capabilities_effective;  // "none" or names
  std::string capabilities_bounding;
  std::vector<std::string> missing;  // what the plan wanted and could not have, one line each
  [[nodiscard]] std::map<std::string, std::string> details() const;  // for health and the ledger
};

// Network namespace, groups, user, capabilities (also bounding and ambient), no_new_privs; then verifies from inside.
// As root a failure of any step is an error: nothing runs half-dropped. Not root: what cannot be done is in `missing`.
Result<Reached> drop_privileges(const Plan& plan);
Result<Reached> current_state();

// Checks as `user` (in a forked child that drops to it) that each path can be used so; the error names the first
// folder that cannot, and why. Needs root; not root: checked as oneself.
enum class Access { read, write_folder, traverse };
struct PathCheck {
  std::string path, purpose;
  Access access = Access::read;
};
Result<void> check_access_as(const std::string& user, const std::vector<PathCheck>& checks);

// Creates `path` (and missing parents, 0755) with exactly this mode and owner. An existing folder keeps its owner and
// mode when they are as wanted; when root they are corrected; a symbolic link in its place is refused.
Result<void> prepare_folder(const std::string& path, const std::string& user, const std::string& group, mode_t mode);

}  // namespace daemoneye::sandbox
