#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "sandbox/mechanisms.h"
#include "sandbox/sandbox.h"

namespace daemoneye::sandbox {
namespace {

constexpr std::size_t first_buffer = 4096;
constexpr std::size_t largest_buffer = 1024 * 1024;

}  // namespace

Result<User> find_user(const std::string& name) {
  for (std::size_t size = first_buffer; size <= largest_buffer; size *= 4) {
    std::vector<char> buffer(size);
    passwd entry{};
    passwd* found = nullptr;
    const int error = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE) continue;
    if (error != 0) return fail_errno("looking up user '" + name + "'", error);
    if (found == nullptr) return fail(Errc::not_found, "user '" + name + "' does not exist (scripts/setup creates it)");
    return User{.name = name, .uid = entry.pw_uid, .gid = entry.pw_gid};
  }
  return fail(Errc::limit_exceeded, "the entry of user '" + name + "' is larger than 1 MiB");
}

Result<gid_t> find_group(const std::string& name) {
  for (std::size_t size = first_buffer; size <= largest_buffer; size *= 4) {
    std::vector<char> buffer(size);
    group entry{};
    group* found = nullptr;
    const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE) continue;
    if (error != 0) return fail_errno("looking up group '" + name + "'", error);
    if (found == nullptr)
      return fail(Errc::not_found, "group '" + name + "' does not exist (scripts/setup creates it)");
    return entry.gr_gid;
  }
  return fail(Errc::limit_exceeded, "the entry of group '" + name + "' is larger than 1 MiB");
}

Result<void> become_user(const User& user) {
  // Groups while still root, the user last: afterwards none of these calls is allowed any more.
  if (::initgroups(user.name.c_str(), user.gid) != 0) return fail_errno("initgroups for " + user.name, errno);
  if (::setresgid(user.gid, user.gid, user.gid) != 0) return fail_errno("setresgid for " + user.name, errno);
  if (::setresuid(user.uid, user.uid, user.uid) != 0) return fail_errno("setresuid for " + user.name, errno);
  return {};
}

Result<void> verify_user(const User& user) {
  uid_t real = 0;
  uid_t effective = 0;
  uid_t saved = 0;
  if (::getresuid(&real, &effective, &saved) != 0) return fail_errno("getresuid", errno);
  if (real != user.uid || effective != user.uid || saved != user.uid) {
    return fail(Errc::internal, "after the change of user some user id is not that of " + user.name);
  }
  gid_t real_group = 0;
  gid_t effective_group = 0;
  gid_t saved_group = 0;
  if (::getresgid(&real_group, &effective_group, &saved_group) != 0) return fail_errno("getresgid", errno);
  if (real_group != user.gid || effective_group != user.gid || saved_group != user.gid) {
    return fail(Errc::internal, "after the change of user some group id is not that of " + user.name);
  }
  // The way back must be closed; trying it is the only proof.
  if (::setuid(0) == 0 || ::setresuid(0, 0, 0) == 0) return fail(Errc::internal, "user id 0 could be taken back");
  if (user.gid != 0 && (::setgid(0) == 0 || ::setresgid(0, 0, 0) == 0)) {
    return fail(Errc::internal, "group id 0 could be taken back");
  }
  return {};
}

}  // namespace daemoneye::sandbox
