// What the verbs of config share.
#pragma once

#include <string>

#include "cli/verbs.h"

namespace daemoneye::cli {

Failure unknown_key(const std::string& wanted);

// config set, unset, reload
void add_config_changes(CLI::App& config, Action& chosen);

}  // namespace daemoneye::cli
