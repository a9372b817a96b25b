// Reading the YAML of rules and exceptions: everything wrong is noted with its line and key, and reading goes on.
#pragma once

#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detect/rule.h"

namespace daemoneye::detect {

inline constexpr std::size_t max_list_items = 100;
inline constexpr std::size_t max_item_bytes = 2048;

class YamlReader {
 protected:
  YamlReader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  // The text's only document; nothing when it is not a map, and a problem is noted.
  std::optional<YAML::Node> load();
  // The map's entries by name; unknown and repeated keys are problems.
  std::vector<std::pair<std::string, YAML::Node>> entries(const YAML::Node& map, const std::string& prefix,
                                                          const std::vector<std::string_view>& known);
  std::optional<std::string> text(const std::string& key, const YAML::Node& node, std::size_t max_bytes);
  std::vector<std::string> list(const std::string& key, const YAML::Node& node);

  static unsigned line_of(const YAML::Node& node);
  static std::string kind_of(const YAML::Node& node);
  void problem(unsigned line, std::string key, std::string message);
  // By line, and in one line as they were found.
  std::vector<RuleProblem> take_problems();

  const std::string_view text_;
  const std::string& file_;
  std::vector<RuleProblem> problems_;
};

bool valid_rule_id(std::string_view id);

}  // namespace daemoneye::detect
