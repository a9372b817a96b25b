// The key that signs checkpoints, in a file of its owner's alone; its public half beside it, for everyone who may reach
// the folder.
#pragma once

#include <optional>
#include <string>

#include "ledger/note.h"

namespace daemoneye::ledger {

// permission_denied when others may read or write it. Nothing: there is none.
Result<std::optional<PrivateKey>> read_key(const std::string& path);
// The private key (0600) and PATH.pub (0644), replacing what is there.
Result<void> write_key(const std::string& path, const PrivateKey& key);
std::string next_key_path(const std::string& path);  // of a rotation under way

}  // namespace daemoneye::ledger
