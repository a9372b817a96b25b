// The two plans of production: what procmond's event process and its hashing helper give up. In one place, so that the
// tests that play a taken-over process play exactly these.
#pragma once

#include <string>
#include <vector>

#include "sandbox/sandbox.h"

namespace daemoneye::sandbox {

struct CollectorPlace {
  std::string user;             // to change to; empty when not started as root
  std::string ledger_folder;    // the only place it writes
  std::string key_folder = {};  // of the key that signs checkpoints, when it is another
  std::string passwd_folder = "/etc";
  std::vector<std::string> read_folders = {};  // of the configuration, for a reload; each is there
  // Landlock hides the executables and folders of one's own user's processes, too. Where /proc is all there is to see
  // them by, and no other wall stands, they are worth more than it.
  bool keep_proc_links = false;
};
Plan collector_plan(const CollectorPlace& place);

// The helper's capabilities and network; its worker adds SystemCalls::hasher (restrict_system_calls). No Landlock: that
// would forbid /proc/PID/exe whatever the capabilities.
Plan hasher_plan(const std::string& user);

}  // namespace daemoneye::sandbox
