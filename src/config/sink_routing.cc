#include "config/sink_routing.h"

#include <algorithm>

#include "base/text.h"
#include "config/schema.h"

namespace daemoneye::config {
namespace {

constexpr std::size_t max_patterns = 64, max_pattern_bytes = 128;
constexpr std::int64_t max_limit = 1'000'000, least_window_ms = 1000, most_window_ms = 86'400'000;

std::string range_text(std::int64_t least, std::int64_t most) {
  return "an integer from " + std::to_string(least) + " to " + std::to_string(most);
}

std::string patterns_text() {
  return "a list of 1 to " + std::to_string(max_patterns) + " texts of at most " + std::to_string(max_pattern_bytes) +
         " bytes, in which * stands for any characters and ? for one";
}

bool is_pattern(const Node& node) {
  return node.kind == Node::Kind::scalar && scalar_type(node) != ScalarType::nothing && !node.text.empty() &&
         node.text.size() <= max_pattern_bytes;
}

// One text stands for a list of one.
void read_list(const Node& value, const std::string& key, std::vector<std::string>& into,
               const RoutingProblem& problem) {
  if (is_pattern(value)) {
    into = {value.text};
    return;
  }
  if (value.kind != Node::Kind::list || value.items.empty() || value.items.size() > max_patterns ||
      !std::ranges::all_of(value.items, is_pattern)) {
    problem(value, key, "found " + describe(value) + "; allowed: " + patterns_text());
    return;
  }
  for (const auto& item : value.items) into.push_back(item.text);
}

void read_patterns(const std::string& name, const Node& value, SinkSettings::Patterns& into,
                   const RoutingProblem& problem) {
  if (value.kind != Node::Kind::map || value.entries.empty()) {
    problem(value, name, "found " + describe(value) + "; allowed: a map of include and exclude");
    return;
  }
  for (const auto& [which, list] : value.entries) {
    if (which == "include")
      read_list(list, name + ".include", into.include, problem);
    else if (which == "exclude")
      read_list(list, name + ".exclude", into.exclude, problem);
    else
      problem(list, name + '.' + base::printable(which.substr(0, 64)), "unknown key; allowed: include, exclude");
  }
}

void read_number(const Node& value, const std::string& key, std::int64_t least, std::int64_t most, std::uint32_t& into,
                 const RoutingProblem& problem) {
  const auto number = value.kind == Node::Kind::scalar ? base::parse_integer<std::int64_t>(value.text) : std::nullopt;
  if (number && *number >= least && *number <= most)
    into = static_cast<std::uint32_t>(*number);
  else
    problem(value, key, "found " + describe(value) + "; allowed: " + range_text(least, most));
}

void read_limit(const Node& value, SinkSettings::RateLimit& into, const RoutingProblem& problem) {
  if (value.kind != Node::Kind::map) {
    problem(value, "rate_limit", "found " + describe(value) + "; allowed: a map of alerts and per_ms");
    return;
  }
  bool given = false;
  for (const auto& [which, number] : value.entries) {
    given = given || which == "alerts";
    if (which == "alerts")
      read_number(number, "rate_limit.alerts", 1, max_limit, into.alerts, problem);
    else if (which == "per_ms")
      read_number(number, "rate_limit.per_ms", least_window_ms, most_window_ms, into.per_ms, problem);
    else
      problem(number, "rate_limit." + base::printable(which.substr(0, 64)), "unknown key; allowed: alerts, per_ms");
  }
  if (!given) problem(value, "rate_limit.alerts", "missing; allowed: " + range_text(1, max_limit));
}

std::string written(const std::vector<std::string>& patterns) {
  std::string out;
  for (const auto& pattern : patterns) out += (out.empty() ? "" : ", ") + quote_yaml(pattern);
  return '[' + out + ']';
}

std::string written(const char* name, const SinkSettings::Patterns& patterns) {
  std::string out;
  if (!patterns.include.empty()) out = "include: " + written(patterns.include);
  if (!patterns.exclude.empty()) out += (out.empty() ? "exclude: " : ", exclude: ") + written(patterns.exclude);
  return out.empty() ? "" : std::string(", ") + name + ": {" + out + '}';
}

}  // namespace

bool read_routing(const std::string& name, const Node& value, SinkSettings& sink, const RoutingProblem& problem) {
  if (name == "rules") {
    read_patterns(name, value, sink.rules, problem);
  } else if (name == "tags") {
    read_patterns(name, value, sink.tags, problem);
  } else if (name == "rate_limit") {
    read_limit(value, sink.rate_limit, problem);
  } else {
    return false;
  }
  return true;
}

std::string write_routing(const SinkSettings& sink) {
  std::string out = written("rules", sink.rules) + written("tags", sink.tags);
  if (sink.rate_limit.alerts > 0) {
    out += ", rate_limit: {alerts: " + std::to_string(sink.rate_limit.alerts) +
           ", per_ms: " + std::to_string(sink.rate_limit.per_ms) + '}';
  }
  return out;
}

}  // namespace daemoneye::config
