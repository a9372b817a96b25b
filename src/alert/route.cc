#include "alert/route.h"

#include <fnmatch.h>

#include <algorithm>

namespace daemoneye::alert {
namespace {

bool matches(const std::vector<std::string>& patterns, const std::string& text) {
  return std::ranges::any_of(
      patterns, [&](const std::string& pattern) { return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0; });
}

bool any_matches(const std::vector<std::string>& patterns, const std::vector<std::string>& texts) {
  return std::ranges::any_of(texts, [&](const std::string& text) { return matches(patterns, text); });
}

bool wants(const config::SinkSettings& sink, const store::Alert& alert) {
  // The configuration refuses an unknown severity; without one everything is wanted.
  if (alert.severity < store::parse_severity(sink.min_severity).value_or(store::Severity::low)) return false;
  if (!sink.rules.include.empty() && !matches(sink.rules.include, alert.rule_id)) return false;
  if (!sink.tags.include.empty() && !any_matches(sink.tags.include, alert.tags)) return false;
  return !matches(sink.rules.exclude, alert.rule_id) && !any_matches(sink.tags.exclude, alert.tags);
}

}  // namespace

std::vector<store::Route> route(const std::vector<config::SinkSettings>& sinks, const store::Alert& alert) {
  std::vector<store::Route> routes;
  for (const auto& sink : sinks) {
    if (!wants(sink, alert)) continue;
    const auto& limit = sink.rate_limit;
    routes.emplace_back(sink.name, limit.alerts, std::chrono::milliseconds(limit.alerts > 0 ? limit.per_ms : 0));
  }
  return routes;
}

}  // namespace daemoneye::alert
