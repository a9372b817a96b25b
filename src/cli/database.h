// The verbs below `db`, over two files.
#pragma once

#include "cli/verbs.h"

namespace daemoneye::cli {

void add_maintenance(CLI::App& db, Action& chosen);  // compact, analyze, purge

}  // namespace daemoneye::cli
