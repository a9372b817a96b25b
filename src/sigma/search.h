// One entry of a search, `CommandLine|contains|all: [a, b]`, as an SQL condition.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>

#include "sigma/sigma.h"

namespace daemoneye::sigma {

// Counts what is looked at, so that aliases of aliases end.
class NodeBudget {
 public:
  void take(const YAML::Node& node);

 private:
  std::size_t left_ = max_nodes;
};

// A search: a map (all entries), a list of maps or values (any of them), or one value. Throws Refused.
std::string search_sql(const YAML::Node& node, const LogSource& source, NodeBudget& budget);

unsigned line_of(const YAML::Node& node);
// In parentheses, joined; alone as it is.
std::string join_sql(std::vector<std::string> parts, std::string_view with);

}  // namespace daemoneye::sigma
