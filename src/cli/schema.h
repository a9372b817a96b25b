// What can be asked, for verbs and the shell.
#pragma once

#include <string>

#include "cli/invocation.h"

namespace daemoneye::cli {

Outcome<Exit> list_tables(Invocation& invocation);
// All tables, or the one that is `wanted`.
Outcome<Exit> show_schema(Invocation& invocation, const std::string& wanted);

}  // namespace daemoneye::cli
