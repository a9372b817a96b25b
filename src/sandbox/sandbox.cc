#include "sandbox/sandbox.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {
namespace {

std::string join(const std::vector<std::string>& names) {
  if (names.empty()) return "none";
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

// Root's failure ends the drop; without root the step is noted as missing and the rest goes on.
class Steps {
 public:
  explicit Steps(bool privileged) : privileged_(privileged) {}
  Result<void> note(const std::string& wanted, Result<void> outcome) {
    if (outcome) return {};
    if (privileged_) return fail(outcome.error().code, wanted + ": " + outcome.error().message);
    missing_.push_back(wanted + ": " + outcome.error().message);
    return {};
  }
  void missing(std::string line) { missing_.push_back(std::move(line)); }
  [[nodiscard]] std::vector<std::string> take_missing() { return std::move(missing_); }

 private:
  bool privileged_;
  std::vector<std::string> missing_;
};

// No set may hold more than what was to be kept.
Result<void> verify_capabilities(const std::vector<std::string>& keep, bool bounding) {
  DE_TRY(const auto names, read_capabilities());
  const auto beyond = [&](const std::vector<std::string>& list) {
    std::vector<std::string> left;
    std::ranges::copy_if(list, std::back_inserter(left),
                         [&](const std::string& name) { return std::ranges::find(keep, name) == keep.end(); });
    return left;
  };
  const auto effective = beyond(names.effective), permitted = beyond(names.permitted);
  if (!effective.empty() || !permitted.empty() || !names.inheritable.empty() || !names.ambient.empty()) {
    return fail(Errc::internal, "capabilities are left: effective " + join(effective) + ", permitted " +
                                    join(permitted) + ", inheritable " + join(names.inheritable) + ", ambient " +
                                    join(names.ambient));
  }
  if (const auto left = beyond(names.bounding); bounding && !left.empty()) {
    return fail(Errc::internal, "the bounding set still holds " + join(left));
  }
  return {};
}

}  // namespace

std::map<std::string, std::string> Reached::details() const {
  std::map<std::string, std::string> result{
      {"uid", std::to_string(uid)},
      {"gid", std::to_string(gid)},
      {"no_new_privs", no_new_privs ? "yes" : "no"},
      {"own_network", own_network ? "yes" : "no"},
      {"capabilities_effective", capabilities_effective},
      {"capabilities_bounding", capabilities_bounding},
      {"landlock", landlock},
      {"seccomp", seccomp ? "yes" : "no"},
      {"system_calls", system_calls},
  };
  if (!tried.empty()) {
    std::string& text = result["tried_in_vain"];
    for (const auto& line : tried) text += (text.empty() ? "" : "; ") + line;
  }
  if (!missing.empty()) {
    std::string& text = result["missing"];
    for (const auto& line : missing) text += (text.empty() ? "" : "; ") + line;
  }
  return result;
}

Result<Reached> current_state() {
  Reached reached;
  reached.uid = ::geteuid();
  reached.gid = ::getegid();
  DE_TRY(reached.no_new_privs, has_no_new_privs());
  DE_TRY(reached.own_network, in_own_network());
  DE_TRY(reached.seccomp, has_filter());
  DE_TRY(const auto names, read_capabilities());
  reached.capabilities_effective = join(names.effective);
  reached.capabilities_bounding = join(names.bounding);
  return reached;
}

Result<Reached> drop_privileges(const Plan& plan) {
  const bool privileged = ::geteuid() == 0;
  DE_CHECK(require_single_thread());
  std::optional<User> user;
  if (!plan.user.empty()) {
    DE_TRY(user, find_user(plan.user));
    if (user->uid == 0)
      return fail(Errc::invalid_input, "user '" + plan.user + "' is root; an unprivileged one is needed");
  } else if (privileged) {
    // Without a capability root still owns root's files.
    return fail(Errc::invalid_input, "started as root, but no user to change to is named");
  }
  DE_TRY(const auto keep, capabilities_by_name(plan.keep_capabilities));
  DE_TRY(const auto death_signal, read_death_signal());
  Steps steps(privileged);

  if (plan.own_network) DE_CHECK(steps.note("an own network namespace", enter_own_network()));
  if (plan.drop_capabilities) {
    DE_CHECK(steps.note("an empty capability bounding set", clear_bounding_and_ambient(keep)));
  }
  const bool change_user = user && (privileged || user->uid != ::geteuid());
  bool changed_user = false;
  if (change_user) {
    if (!keep.empty()) DE_CHECK(keep_over_change_of_user(true));
    const auto outcome = privileged ? become_user(*user) : fail(Errc::permission_denied, "this process is not root");
    changed_user = outcome.has_value();
    DE_CHECK(steps.note("user " + user->name, outcome));
  }
  // Taking capabilities away from oneself and no_new_privs need no privilege: a failure is an error for everyone.
  if (plan.drop_capabilities) DE_CHECK(clear_capabilities(keep));
  DE_CHECK(keep_over_change_of_user(false));
  DE_CHECK(set_no_new_privs());

  // The kernel makes a process that changed its user not dumpable and forgets its parent-death signal. The first is
  // wanted, and stated here rather than left to fs.suid_dumpable: what is read of /proc/self (status, task, ns) stays
  // readable to the process itself, only the 0400 files (environ, mem) do not, and nothing here needs those. Without a
  // change of user it stays dumpable, for debuggers. The second would leave daemons behind without their supervisor.
  if (changed_user) {
    DE_CHECK(set_not_dumpable());
    DE_CHECK(restore_death_signal(death_signal));
    DE_CHECK(verify_user(*user));
  }
  // While the namespaces of others can still be compared: Landlock hides them.
  DE_TRY(const bool own_network, in_own_network());
  if (plan.once_unprivileged) DE_CHECK(plan.once_unprivileged());

  std::string landlock = "no";
  if (plan.paths) {
    if (auto covered = restrict_paths(*plan.paths)) {
      landlock = *covered;
    } else if (covered.error().code == Errc::unavailable) {
      steps.missing("Landlock: " + covered.error().message);
    } else {
      DE_CHECK(steps.note("Landlock", std::unexpected(covered.error())));
    }
  }
  bool filtered = false;
  if (plan.system_calls != SystemCalls::any) {
    const auto outcome = restrict_system_calls(plan.system_calls, plan.on_violation);
    filtered = outcome.has_value();
    DE_CHECK(steps.note("a system call list", outcome));
  }

  if (plan.drop_capabilities) DE_CHECK(verify_capabilities(plan.keep_capabilities, privileged));
  DE_TRY(auto reached, current_state());
  reached.own_network = own_network;
  reached.landlock = landlock;
  if (filtered) {
    reached.system_calls =
        std::string(name_of(plan.system_calls)) +
        (plan.on_violation == OnViolation::end ? ", others end the process" : ", others are refused");
  }
  if (!reached.no_new_privs) return fail(Errc::internal, "no_new_privs is not in force after it was set");
  if (plan.own_network && privileged && !reached.own_network) {
    return fail(Errc::internal, "the network namespace is not a new one");
  }
  DE_TRY(reached.tried,
         try_the_forbidden(plan, {.user = changed_user, .landlock = landlock != "no", .system_calls = filtered}));
  reached.missing = steps.take_missing();
  return reached;
}

}  // namespace daemoneye::sandbox
