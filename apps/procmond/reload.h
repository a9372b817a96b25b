// procmond's part in a reload of the configuration. It reads the files itself, confined as it is: what the agent says
// of them counts for nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "collector/collector.h"
#include "config/config.h"
#include "observe/health.h"

namespace daemoneye::procmond {

// Adds `changes`, and what they weaken, to an entry of the ledger.
void tell_changes(nlohmann::json& payload, const config::Settings& before, const config::Settings& now);
// For the next start to compare with. Failing is told in the log.
void keep_configuration(const std::string& path, const config::Loaded& loaded);

// What must stay readable so that the files can be read again. Not a folder that holds state, which is not to be opened
// to this process: then why the files are out of reach.
struct ConfigurationFolders {
  std::vector<std::string> folders;
  std::string out_of_reach;
};
ConfigurationFolders configuration_folders(const config::Sources& sources, const config::Settings& settings);

class Reload {
 public:
  // `out_of_reach`: why the files cannot be read; empty: they can.
  Reload(config::Sources sources, const config::Loaded& loaded, std::string out_of_reach, std::string kept_path)
      : sources_(std::move(sources)),
        in_force_(loaded),
        out_of_reach_(std::move(out_of_reach)),
        kept_path_(std::move(kept_path)) {}
  void use(collector::Collector& collector) { collector_ = &collector; }

  // Takes up the live keys, all or none; recorded in the ledger. The error: why nothing changed.
  Result<void> run(const std::string& asked_by);
  // Nothing while there is nothing to tell.
  [[nodiscard]] std::optional<observe::ComponentHealth> health() const;

 private:
  Result<void> refuse(const std::vector<std::string>& problems, const std::string& asked_by);

  config::Sources sources_;
  config::Loaded in_force_;
  std::string out_of_reach_;
  std::string kept_path_;
  collector::Collector* collector_ = nullptr;
  std::optional<Timestamp> taken_up_;
  std::vector<std::string> problems_;  // why the last reload was refused
};

}  // namespace daemoneye::procmond
