#include "detect/rule_adjust.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/hash.h"
#include "base/text.h"

namespace daemoneye::detect {
namespace {

LoadedRule* find(std::vector<LoadedRule>& rules, std::string_view id) {
  const auto found = std::ranges::lower_bound(rules, id, {}, [](const LoadedRule& one) { return one.rule.id; });
  return found != rules.end() && found->rule.id == id ? &*found : nullptr;
}
const LoadedRule* find(const RuleSet* set, std::string_view id) {
  if (set == nullptr) return nullptr;
  const auto found = std::ranges::lower_bound(set->rules, id, {}, [](const LoadedRule& one) { return one.rule.id; });
  return found != set->rules.end() && found->rule.id == id ? &*found : nullptr;
}

std::string message_of(const sql::SqlError& error) {
  return error.message + (error.token.empty() ? "" : " (at '" + error.token + "')");
}

// One condition of an exceptions file, and what is said when it does not fit.
struct Condition {
  std::string text;
  RuleProblem place;
};

// The rule with those of `conditions` that fit it; the others' problems.
std::vector<RuleProblem> except(LoadedRule& loaded, const std::vector<Condition>& conditions,
                                const LoadedRule* before) {
  std::vector<RuleProblem> problems;
  std::vector<std::string> wanted;
  for (const auto& condition : conditions) wanted.push_back(condition.text);
  if (before != nullptr && before->digest == loaded.digest && before->rule.local_except == wanted) {
    loaded.rule.local_except = std::move(wanted);
    loaded.compiled = before->compiled;
    return problems;
  }
  auto all = loaded.rule.except;
  for (const auto& condition : conditions) {
    // One at a time, so that a bad one takes no good one with it.
    if (const auto alone = sql::compile_with_exceptions(loaded.rule.sql, {condition.text}); !alone) {
      problems.push_back(condition.place);
      problems.back().message = message_of(alone.error()) + "; rule " + loaded.rule.id + " runs without it";
      continue;
    }
    all.push_back(condition.text);
    loaded.rule.local_except.push_back(condition.text);
  }
  if (loaded.rule.local_except.empty()) return problems;
  auto whole = sql::compile_with_exceptions(loaded.rule.sql, all);
  if (!whole) {
    problems.push_back(conditions.front().place);
    problems.back().message = message_of(whole.error()) + "; rule " + loaded.rule.id + " runs without its exceptions";
    loaded.rule.local_except.clear();
    return problems;
  }
  loaded.compiled = std::make_shared<const sql::Compiled>(std::move(*whole));
  return problems;
}

void apply_exceptions(RuleSet& set, const RuleSet* previous) {
  std::map<std::string, std::vector<Condition>> by_rule;
  std::map<std::string, std::vector<RuleProblem>> problems;  // by file
  for (const auto& file : set.exceptions) {
    for (std::size_t i = 0; i < file.entries.size(); ++i) {
      const auto& entry = file.entries[i];
      const std::string key = "exceptions[" + std::to_string(i) + "]";
      if (find(set.rules, entry.rule) == nullptr) {
        std::vector<std::string_view> ids;
        for (const auto& loaded : set.rules) ids.push_back(loaded.rule.id);
        const auto near = base::nearest(entry.rule, ids);
        problems[file.file].push_back({file.file, entry.line, key + ".rule",
                                       "there is no rule '" + entry.rule + "'" +
                                           (near.empty() ? "" : "; did you mean " + std::string(near) + "?")});
        continue;
      }
      for (std::size_t j = 0; j < entry.except.size(); ++j) {
        const std::string place = key + ".except[" + std::to_string(j) + "]";
        by_rule[entry.rule].push_back({entry.except[j], {file.file, entry.line, place, ""}});
      }
    }
  }
  for (auto& [id, conditions] : by_rule) {
    for (auto& problem : except(*find(set.rules, id), conditions, find(previous, id))) {
      problems[problem.file].push_back(std::move(problem));
    }
  }
  for (auto& [file, found] : problems) {
    const auto digest = std::ranges::find(set.exceptions, file, &ExceptionFile::file)->digest;
    set.unhealthy.push_back({std::filesystem::path(file).stem().string(), file, std::move(found), false, digest});
  }
}

void override_rule(Rule& rule, const store::RuleOverride& change) {
  if (const auto status = change.status ? parse_rule_status(*change.status) : std::nullopt;
      status && *status != rule.status) {
    rule.file_status = rule.status;
    rule.status = *status;
  }
  if (change.severity && *change.severity != rule.severity) {
    rule.file_severity = rule.severity;
    rule.severity = *change.severity;
  }
}

// Tells a rule that is not as its file has it from the same file without that.
void set_version(LoadedRule& loaded) {
  Rule& rule = loaded.rule;
  if (rule.local_except.empty() && !rule.file_status && !rule.file_severity) return;
  std::string made = loaded.digest;
  for (const auto& condition : rule.local_except) made += '\n' + std::to_string(condition.size()) + ':' + condition;
  if (rule.file_status) made += "\nstatus " + std::string(to_string(rule.status));
  if (rule.file_severity) made += "\nseverity " + std::string(store::to_string(rule.severity));
  rule.version = base::to_hex(base::sha256(made)).substr(0, version_digits);
}

}  // namespace

void adjust_rules(RuleSet& set, const RuleSet* previous) {
  apply_exceptions(set, previous);
  for (const auto& change : set.overrides) {
    if (auto* loaded = find(set.rules, change.rule_id)) override_rule(loaded->rule, change);
  }
  for (auto& loaded : set.rules) set_version(loaded);
}

}  // namespace daemoneye::detect
