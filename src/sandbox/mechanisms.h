// The single steps of drop_privileges(), a file each. Inside this room only.
#pragma once

#include <string>
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
Result<void> clear_bounding_and_ambient();  // needs CAP_SETPCAP: before the change of user
Result<void> clear_capabilities();          // effective, permitted, inheritable
struct CapabilityNames {
  std::vector<std::string> effective, permitted, inheritable, ambient, bounding;
};
Result<CapabilityNames> read_capabilities();

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
