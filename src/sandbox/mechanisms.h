// The single steps of drop_privileges(), a file each. Inside this room only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sandbox/sandbox.h"

namespace daemoneye::sandbox {

// users.cc: supplementary groups, then all three group ids, then all three user ids. Needs root.
Result<void> become_user(const User& user);
// All ids are those of `user` and none of root's can be taken back.
Result<void> verify_user(const User& user);

// netns.cc: a new network namespace that holds nothing but a loopback interface that is down.
Result<void> enter_own_network();
// Whether this process lives in a network namespace that enter_own_network() made, or else one that differs from its
// parent's or from init's, as far as those can be read.
Result<bool> in_own_network();

// capabilities.cc
using Capabilities = std::vector<int>;  // CAP_… numbers
Result<Capabilities> capabilities_by_name(const std::vector<std::string>& names);
// But `keep` in the bounding set. Needs CAP_SETPCAP: before the change of user.
Result<void> clear_bounding_and_ambient(const Capabilities& keep);
// Whether a change of user leaves the permitted set as it is.
Result<void> keep_over_change_of_user(bool keep);
// Effective and permitted become `keep`, as far as they are permitted now; inheritable becomes empty.
Result<void> clear_capabilities(const Capabilities& keep);
struct CapabilityNames {
  std::vector<std::string> effective, permitted, inheritable, ambient, bounding;
};
Result<CapabilityNames> read_capabilities();

// landlock.cc: the kernel's ABI, 0: none. Then the restriction itself, for this thread and what it starts; returns what
// it covers. A path that does not exist is an error.
int landlock_abi();
Result<std::string> restrict_paths(const std::vector<PathRule>& rules);

// seccomp.cc installs what system_calls.cc lists.
Result<void> load_filter(SystemCalls list, OnViolation on_violation);
std::string_view name_of(SystemCalls list);
Result<bool> has_filter();

// refusals.cc: the signal by which the kernel tells of a refused call. `names` are those of the numbers from 0.
Result<void> watch_refusals(SystemCalls list, std::vector<std::string> names, OnViolation on_violation);
// While it lives a refused call is expected: not counted, and ends nothing.
class ExpectRefusals {
 public:
  ExpectRefusals();
  ~ExpectRefusals();
  ExpectRefusals(const ExpectRefusals&) = delete;
  ExpectRefusals& operator=(const ExpectRefusals&) = delete;
};

// self_check.cc: tries what must fail where these are in force; the error names what did not.
struct InForce {
  bool user = false, landlock = false, system_calls = false;
};
Result<std::vector<std::string>> try_the_forbidden(const Plan& plan, const InForce& in_force);

// no_new_privs.cc: from here on no program that is executed gains anything from set-user-ID bits or file capabilities.
Result<void> set_no_new_privs();
Result<bool> has_no_new_privs();

// process_flags.cc: what the kernel forgets when the user changes.
// Core dumps and tracing by processes of the same user: both would show other people's arguments and our keys.
Result<void> set_not_dumpable();
struct DeathSignal {
  int signal = 0;  // 0: none
  int parent = 0;  // who the parent was when it was read
};
Result<DeathSignal> read_death_signal();
// Sets it again; when the parent ended in between, the signal is raised here, as the kernel would have done.
Result<void> restore_death_signal(const DeathSignal& wanted);
// A change of namespace or capabilities reaches the calling thread alone: more than one thread is an error.
Result<void> require_single_thread();

}  // namespace daemoneye::sandbox
