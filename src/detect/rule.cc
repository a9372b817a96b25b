#include "detect/rule.h"

#include "base/text.h"

namespace daemoneye::detect {

std::string_view to_string(RuleStatus status) {
  switch (status) {
    case RuleStatus::draft: return "draft";
    case RuleStatus::active: return "active";
    case RuleStatus::disabled: return "disabled";
    case RuleStatus::archived: return "archived";
  }
  return "unknown";
}

std::optional<RuleStatus> parse_rule_status(std::string_view text) {
  for (const auto status : {RuleStatus::draft, RuleStatus::active, RuleStatus::disabled, RuleStatus::archived}) {
    if (text == to_string(status)) return status;
  }
  return std::nullopt;
}

std::string to_string(const RuleProblem& problem) {
  std::string out = base::printable(problem.file);
  if (problem.line != 0) out += ":" + std::to_string(problem.line);
  out += ": ";
  if (!problem.key.empty()) out += base::printable(problem.key) + ": ";
  return out + problem.message;
}

std::string title_of(std::string_view title, const std::function<std::optional<std::string>(std::string_view)>& value) {
  std::string out;
  while (!title.empty()) {
    const auto open = title.find("{{");
    const auto close = open == std::string_view::npos ? open : title.find("}}", open);
    if (close == std::string_view::npos) break;
    out += title.substr(0, open);
    const auto column = base::trim(title.substr(open + 2, close - open - 2));
    out += value(column).value_or("(unknown)");
    title.remove_prefix(close + 2);
  }
  out += title;
  return out;
}

std::vector<std::string> title_columns(std::string_view title) {
  std::vector<std::string> columns;
  title_of(title, [&](std::string_view column) {
    columns.emplace_back(column);
    return std::optional<std::string>();
  });
  return columns;
}

}  // namespace daemoneye::detect
