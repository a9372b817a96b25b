#include "alert/delivery.h"

namespace daemoneye::alert {

std::vector<std::string> route(const std::vector<config::SinkSettings>& sinks, const store::Alert& alert) {
  std::vector<std::string> names;
  for (const auto& sink : sinks) {
    // The configuration refuses an unknown severity; without one everything is wanted.
    const auto wanted = store::parse_severity(sink.min_severity).value_or(store::Severity::low);
    if (alert.severity >= wanted) names.push_back(sink.name);
  }
  return names;
}

}  // namespace daemoneye::alert
