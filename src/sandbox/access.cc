#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/unique_fd.h"
#include "sandbox/mechanisms.h"
#include "sandbox/sandbox.h"

namespace daemoneye::sandbox {
namespace {

constexpr std::size_t max_report = 16 * 1024;

struct Refusal {
  std::string path;
  int error = 0;
};

// "/", "/a", "/a/b" for "/a/b".
std::vector<std::string> prefixes(const std::string& path) {
  std::vector<std::string> result{"/"};
  for (std::size_t i = 1; i <= path.size(); ++i) {
    if ((i == path.size() || path[i] == '/') && path[i - 1] != '/') result.push_back(path.substr(0, i));
  }
  return result;
}

std::optional<Refusal> refused(const std::string& path, int mode) {
  if (::access(path.c_str(), mode) == 0) return std::nullopt;
  return Refusal{path, errno};
}

// The first folder of the path that cannot be passed through; behind a symbolic link, the real one.
std::optional<Refusal> first_closed_folder(const std::string& path, const std::string& resolved) {
  const auto walk = [](const std::vector<std::string>& folders) -> std::optional<Refusal> {
    for (const auto& folder : folders) {
      if (auto refusal = refused(folder, X_OK)) return refusal;
    }
    return std::nullopt;
  };
  if (!resolved.empty() && resolved != path) {
    if (auto behind = walk(prefixes(resolved))) return behind;
  }
  return walk(prefixes(path));
}

std::optional<Refusal> check_one(const PathCheck& check, const std::string& resolved) {
  const auto parent_of = [](const std::string& path) {
    const auto slash = path.find_last_of('/');
    return slash == 0 || slash == std::string::npos ? std::string("/") : path.substr(0, slash);
  };
  if (auto closed = first_closed_folder(parent_of(check.path), resolved.empty() ? "" : parent_of(resolved))) {
    return closed;
  }
  struct stat info{};
  if (::stat(check.path.c_str(), &info) != 0) return Refusal{check.path, errno};
  const bool folder = S_ISDIR(info.st_mode);
  switch (check.access) {
    case Access::read: return refused(check.path, folder ? R_OK | X_OK : R_OK);
    case Access::traverse: return folder ? refused(check.path, X_OK) : Refusal{check.path, ENOTDIR};
    case Access::write_folder: return folder ? refused(check.path, W_OK | X_OK) : Refusal{check.path, ENOTDIR};
  }
  return Refusal{check.path, EINVAL};
}

std::string owner_and_mode(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return "";
  std::array<char, 8> mode{};
  constexpr std::string_view octal = "01234567";
  for (std::size_t i = 0; i < 4; ++i) mode[i] = octal[(info.st_mode >> (9 - 3 * i)) & 7];
  const auto name = [](const char* found, unsigned id) { return found ? std::string(found) : std::to_string(id); };
  const passwd* user = ::getpwuid(info.st_uid);
  const group* group = ::getgrgid(info.st_gid);
  return " (mode " + std::string(mode.data()) + ", " + name(user ? user->pw_name : nullptr, info.st_uid) + ":" +
         name(group ? group->gr_name : nullptr, info.st_gid) + ")";
}

std::unexpected<Error> describe(const std::string& user, const PathCheck& check, const Refusal& refusal) {
  const std::string whom = user.empty() ? std::string("this user") : "user '" + user + "'";
  std::string what = whom + " cannot use ";
  what += refusal.path == check.path ? check.path : "the folder " + refusal.path;
  what += owner_and_mode(refusal.path);
  if (refusal.path != check.path) what += " on the way to " + check.path;
  return fail_errno(what + ", needed for " + check.purpose, refusal.error);
}

// Index of the failed check, errno and path, as the child reports them: "3 13 /root".
std::string encode(std::size_t index, const Refusal& refusal) {
  return std::to_string(index) + " " + std::to_string(refusal.error) + " " + refusal.path;
}

// In the child, which never returns.
[[noreturn]] void check_in_child(const User& user, const std::vector<PathCheck>& checks,
                                 const std::vector<std::string>& resolved, int report) {
  std::string text;
  if (const auto outcome = become_user(user); !outcome) {
    text = "! " + outcome.error().message;
  } else {
    for (std::size_t i = 0; i < checks.size() && text.empty(); ++i) {
      if (const auto refusal = check_one(checks[i], resolved[i])) text = encode(i, *refusal);
    }
    if (text.empty()) text = "ok";
  }
  ::_exit(base::write_all(report, text) ? 0 : 1);
}

Result<void> understand(const std::string& report, const std::string& user, const std::vector<PathCheck>& checks) {
  if (report == "ok") return {};
  if (report.starts_with("! ")) return fail(Errc::internal, "checking access as " + user + ": " + report.substr(2));
  char* rest = nullptr;
  const auto index = std::strtoul(report.c_str(), &rest, 10);
  const auto error = static_cast<int>(std::strtol(rest, &rest, 10));
  if (report.empty() || index >= checks.size() || *rest != ' ') {
    return fail(Errc::internal, "checking access as " + user + " ended without an answer");
  }
  return describe(user, checks[index], Refusal{rest + 1, error});
}

}  // namespace

Result<void> check_access_as(const std::string& user, const std::vector<PathCheck>& checks) {
  std::vector<std::string> resolved;
  for (const auto& check : checks) {
    if (!check.path.starts_with('/')) return fail(Errc::invalid_input, check.path + ": an absolute path is needed");
    const std::unique_ptr<char, void (*)(void*)> real(::realpath(check.path.c_str(), nullptr), &::free);
    resolved.emplace_back(real ? real.get() : "");
  }
  if (user.empty() || ::geteuid() != 0) {
    for (std::size_t i = 0; i < checks.size(); ++i) {
      if (const auto refusal = check_one(checks[i], resolved[i])) return describe("", checks[i], *refusal);
    }
    return {};
  }

  DE_TRY(const auto target, find_user(user));
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno("pipe2", errno);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail_errno("fork", errno);
  if (child == 0) check_in_child(target, checks, resolved, writer.get());
  writer.reset();
  const auto report = base::read_up_to(reader.get(), max_report);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!report) return std::unexpected(report.error());
  return understand(*report, user, checks);
}

}  // namespace daemoneye::sandbox
