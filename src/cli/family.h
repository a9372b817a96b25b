// A process, its ancestors, and what it started: what `tree` draws.
#pragma once

#include <vector>

#include "cli/invocation.h"
#include "event/process_event.h"

namespace daemoneye::cli {

// Of those that ended so many are kept, the newest, with what leads to them; and so much of their command lines.
inline constexpr std::size_t max_family_ended = 10'000;
inline constexpr std::size_t max_family_bytes = std::size_t{64} * 1024 * 1024;

struct Family {
  std::vector<event::ProcessInfo> processes;  // the process first, then its ancestors, nearest first
  std::size_t left_out = 0;                   // that ended, and are older than those that are kept
  event::Completeness completeness;
};

// Of a living process those that live, and the ended ones that lead to them; of an ended one, or with `ended_too`, all.
Outcome<Family> find_family(sql::Connection& connection, Invocation& invocation, const event::ProcessKey& key,
                            bool ended_too);

}  // namespace daemoneye::cli
