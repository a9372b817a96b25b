// What a bundle would change on this machine, and what it contradicts.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle.h"
#include "bundle/in_force.h"
#include "config/config.h"

namespace daemoneye::bundle {

struct Site {
  config::Sources sources;    // how this machine's configuration is read
  config::Settings settings;  // as it is now
};

struct Change {
  std::string kind;      // rule | exceptions | configuration
  std::string name;      // the rule's id, the file, the key
  std::string change;    // added | changed | removed | same | kept
  std::string conflict;  // what of this machine it contradicts; empty: nothing
  std::string own;       // what that is now: a digest
  std::string note;      // what else is to be known

  [[nodiscard]] std::string label() const { return kind + ' ' + name; }
};

struct Plan {
  std::vector<Change> changes;  // by kind and name
  InForce in_force;             // as it will be: without time and choices
  std::optional<InForce> before;
  std::map<std::string, std::string> rule_files;            // rule's id -> the bundle's path
  std::vector<std::pair<std::string, std::string>> values;  // of the configuration: key -> one line of YAML
};

// Something to be told with each problem found: all of them, one a line.
using Problems = std::vector<std::string>;

// The bundle's own files must be good: rules that compile, each id once; a fragment that sets known keys, and none that
// is the machine's own.
std::expected<Plan, Problems> make_plan(const Bundle& bundle, std::optional<InForce> before, const Site& site);

// What goes into the folder, with the machine's own left in force where `choices` keep it.
std::vector<PlacedFile> files_of(const Bundle& bundle, const Plan& plan, const std::map<std::string, Choice>& choices);

// Whether the machine's rules and configuration are whole with these files in force.
Problems check_together(const std::vector<PlacedFile>& files, const Site& site);

}  // namespace daemoneye::bundle
