// What every sink may say about which alerts it wants: rules, tags, rate_limit.
#pragma once

#include <functional>
#include <string>

#include "config/settings.h"
#include "config/yaml.h"

namespace daemoneye::config {

// Takes what is wrong: where, the key below the sink ("rules.include"), found and allowed.
using RoutingProblem = std::function<void(const Node& node, const std::string& key, std::string message)>;
// False when `name` is none of these keys.
bool read_routing(const std::string& name, const Node& value, SinkSettings& sink, const RoutingProblem& problem);
// ", rules: {…}, …" with what is set.
std::string write_routing(const SinkSettings& sink);

}  // namespace daemoneye::config
