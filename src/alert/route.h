// Which alerts a sink wants, and how many of them.
#pragma once

#include <vector>

#include "config/settings.h"
#include "store/alert.h"
#include "store/writer.h"

namespace daemoneye::alert {

// The sinks that want this alert: severity, rules and tags. With the limits that the store keeps for them.
std::vector<store::Route> route(const std::vector<config::SinkSettings>& sinks, const store::Alert& alert);

}  // namespace daemoneye::alert
