// Starts the hashing helper, as far as the configuration wants it and the privileges allow.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "collector/hashes.h"
#include "config/config.h"

namespace daemoneye::procmond {

struct Hashing {
  std::unique_ptr<collector::Hashes> hashes;   // null: collection.hash_executables is false
  std::map<std::string, std::string> details;  // of the helper, or why there is none: for the ledger
};

// While privileged and from the only thread. Never an error: without a helper the rest works, and health says so.
Hashing open_hashing(const config::Settings& settings, bool root);

}  // namespace daemoneye::procmond
