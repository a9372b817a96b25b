// Processes as trees: who started whom, as lines of a drawing.
#pragma once

#include <string>
#include <vector>

#include "event/process_event.h"

namespace daemoneye::cli {

struct TreeRow {
  std::size_t process = 0;  // index into what was given
  std::size_t depth = 0;
  std::string drawing;  // "│  └─ ", to stand before the name
};

// Depth first, children by pid. A process whose parent is not among the given ones is a root; parents that go in a
// circle (damaged data) are cut.
std::vector<TreeRow> draw_tree(const std::vector<event::ProcessInfo>& processes);

}  // namespace daemoneye::cli
