// Whether the agent's user can use what a sink names.
#pragma once

#include <string>

#include "alert/sink.h"
#include "sandbox/sandbox.h"

namespace daemoneye::apps {

inline std::vector<sandbox::PathCheck> paths_of(const config::SinkSettings& sink) {
  std::vector<sandbox::PathCheck> checks;
  for (const auto& needed : alert::needed_paths(sink)) {
    checks.push_back(
        {needed.path, "sink " + sink.name,
         needed.use == alert::NeededPath::Use::read ? sandbox::Access::read : sandbox::Access::write_folder});
  }
  return checks;
}

// As `user`; empty: as who runs this.
inline Result<void> check_sink_paths(const config::SinkSettings& sink, const std::string& user) {
  return sandbox::check_access_as(user, paths_of(sink));
}

}  // namespace daemoneye::apps
