#include "sandbox/plans.h"

namespace daemoneye::sandbox {

Plan collector_plan(const CollectorPlace& place) {
  Plan plan{.user = place.user, .own_network = !place.user.empty(), .system_calls = SystemCalls::collector};
  if (!place.keep_proc_links) {
    // The user database's folder and not the file: that is replaced whenever a user is added, and a rule stays with the
    // file that was there. Files alone, so that nothing can be listed; what is secret there belongs to root.
    // The agent's socket needs no rule: Landlock does not look at connections to sockets with a name.
    plan.paths = {{"/proc", PathAccess::read},
                  {place.passwd_folder, PathAccess::read_files},
                  {place.ledger_folder, PathAccess::write}};
    if (!place.key_folder.empty() && place.key_folder != place.ledger_folder) {
      plan.paths->push_back({place.key_folder, PathAccess::write});
    }
    for (const auto& folder : place.read_folders) plan.paths->push_back({folder, PathAccess::read});
  }
  return plan;
}

Plan hasher_plan(const std::string& user) {
  return {.user = user, .own_network = !user.empty(), .keep_capabilities = {"cap_dac_read_search", "cap_sys_ptrace"}};
}

}  // namespace daemoneye::sandbox
