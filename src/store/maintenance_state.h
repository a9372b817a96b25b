// What an operator may ask of a store in use, and how far it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/time.h"

namespace daemoneye::store {

struct MaintenanceRequest {
  enum class Kind { compact, analyze, purge } kind = Kind::compact;
  std::optional<Timestamp> before;  // of a purge; none: everything
};

struct MaintenanceState {
  std::uint64_t id = 0;  // of the request; 0: there was none yet
  bool running = false;
  std::uint64_t done = 0, total = 0;  // bytes for compact, events for purge
  std::string error;                  // why it ended early
  // What it came to.
  std::uint64_t bytes_freed = 0, events_removed = 0, rows_removed = 0;
  // Events before the moment that stay, since they share a block with younger ones.
  std::uint64_t blocks_kept = 0;
};

}  // namespace daemoneye::store
