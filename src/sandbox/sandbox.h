// Giving up privileges, one file a mechanism. Order matters; drop_privileges() keeps it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
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

// What a process may still open: each path and what lies below it. `write` includes reading, creating and removing.
enum class PathAccess { read_files, read, write };  // read_files: without listing folders
struct PathRule {
  std::string path;
  PathAccess access = PathAccess::read;
};

// The closed lists of system_calls.cc.
enum class SystemCalls { any, collector, hasher };
// What a system call that is not in the list does: give EPERM and be counted, or end the process. Debug builds end it,
// so that a gap in a list is found where it is made (docs/adr/0008-confinement.md).
enum class OnViolation { deny, end };
OnViolation default_on_violation();

struct Plan {
  std::string user = {};     // empty: stay who we are (not root)
  bool own_network = false;  // a new, empty network namespace
  bool drop_capabilities = true;
  std::vector<std::string> keep_capabilities =
      {};  // "cap_sys_ptrace": effective, permitted and bounding keep just these
  std::function<Result<void>()> once_unprivileged = nullptr;  // what is opened as the user, before the next two
  std::optional<std::vector<PathRule>> paths =
      std::nullopt;  // Landlock: nothing else can be opened; absent: no Landlock
  SystemCalls system_calls = SystemCalls::any;
  OnViolation on_violation = default_on_violation();
};

// What was reached, read back from the kernel and not assumed.
struct Reached {
  uid_t uid = 0;
  gid_t gid = 0;
  bool no_new_privs = false;
  bool own_network = false;            // the network namespace differs from init's or the parent's
  std::string capabilities_effective;  // "none" or names
  std::string capabilities_bounding;
  std::string landlock = "no";       // "ABI 7: files, tcp, scopes"
  bool seccomp = false;              // a filter is in force, by /proc/self/status
  std::string system_calls = "any";  // the list's name, and what happens to others
  std::vector<std::string> tried;    // what was tried in vain at the end: "open /etc/shadow: Permission denied"
  std::vector<std::string> missing;  // what the plan wanted and could not have, one line each
  [[nodiscard]] std::map<std::string, std::string> details() const;  // for health and the ledger
};

// Network namespace, groups, user, capabilities (also bounding and ambient), no_new_privs, Landlock, seccomp; then
// verifies from inside, also by trying what must fail. As root a failure of any step is an error: nothing runs
// half-dropped. Not root: what cannot be done is in `missing`. A kernel without Landlock is always only missing it.
Result<Reached> drop_privileges(const Plan& plan);
Result<Reached> current_state();

// Installs a list alone; for a child of a process that dropped the rest. Needs no_new_privs. From the only thread.
Result<void> restrict_system_calls(SystemCalls list, OnViolation on_violation = default_on_violation());
// System calls refused so far to processes under this list, by name: to this one, and with the hasher's list to those
// forked after share_refusal_counts(), too. What another process says there is its word alone.
std::map<std::string, std::uint64_t> refused_system_calls(SystemCalls list);
void share_refusal_counts();

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
