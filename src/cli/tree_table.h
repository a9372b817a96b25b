// Processes as a table whose last column is the drawing of who started whom: for people, with colours where they are
// wanted.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "cli/process_tree.h"
#include "cli/render.h"

namespace daemoneye::cli {

struct TreeTable {
  Timestamp now;      // ages are reckoned to it
  bool past = false;  // as they were then: what they did just then is not known
  std::optional<event::ProcessKey> marked;
  std::string indent;  // before each line
};

void write_tree_table(std::ostream& out, const RenderOptions& render, const TreeTable& table,
                      const std::vector<event::ProcessInfo>& processes);

// "3d04h", "5h32m", "12m05s", "42s", "1.2s", "80ms": two figures that matter.
std::string span_for_people(std::int64_t ns);
// What became of it: "sleeping", "exit 0", "signal 9", "ended".
std::string status_for_people(const event::ProcessInfo& process);
// Its command line, or its name in brackets when there is none.
std::string command_for_people(const event::ProcessInfo& process);
// "2026-11-21T20:48:23Z"
std::string seconds_for_people(Timestamp time);

}  // namespace daemoneye::cli
