#include "agent/rules_audit.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/hash.h"

namespace daemoneye::apps {
namespace {

using detect::Rule;
using detect::RuleStatus;
using nlohmann::json;

constexpr std::size_t max_changes = 100, max_text = 200;  // in one entry; more are counted

using ById = std::map<std::string, const Rule*>;

ById by_id(const detect::RuleSet& set) {
  ById rules;
  for (const auto& loaded : set.rules) rules[loaded.rule.id] = &loaded.rule;
  return rules;
}

std::string change_of(const Rule& before, const Rule& now) {
  const bool was_active = before.status == RuleStatus::active, is_active = now.status == RuleStatus::active;
  if (was_active != is_active) return is_active ? "enabled" : "disabled";
  if (before.severity != now.severity && (before.file_severity || now.file_severity)) return "severity";
  if (before.file != now.file) return "overridden";
  return before.version != now.version ? "changed" : "";
}

bool is_known(const detect::UnhealthyRule& broken, const detect::RuleSet& before) {
  return std::ranges::any_of(before.unhealthy, [&](const detect::UnhealthyRule& one) {
    return one.file == broken.file && one.digest == broken.digest;
  });
}

}  // namespace

std::string rules_audit(const detect::RuleSet* before, const detect::RuleSet& now) {
  const ById old_rules = before != nullptr ? by_id(*before) : ById(), new_rules = by_id(now);
  std::string digested;
  std::size_t active = 0, more = 0;
  json changes = json::array();
  const auto tell = [&](const Rule& rule, const std::string& change) {
    if (changes.size() >= max_changes) {
      ++more;
      return;
    }
    changes.push_back({{"change", change},
                       {"file", rule.file.substr(0, max_text)},
                       {"id", rule.id.substr(0, max_text)},
                       {"version", rule.version}});
  };
  for (const auto& [id, rule] : new_rules) {
    active += rule->status == RuleStatus::active ? 1 : 0;
    digested += id + '\n' + rule->version + '\n' + rule->file + '\n';
    if (before == nullptr) continue;  // at the start all of them come
    const auto known = old_rules.find(id);
    const auto change = known == old_rules.end() ? "added" : change_of(*known->second, *rule);
    if (!change.empty()) tell(*rule, change);
  }
  for (const auto& [id, rule] : old_rules) {
    if (!new_rules.contains(id)) tell(*rule, "removed");
  }
  for (const auto& broken : now.unhealthy) {
    if (before == nullptr || is_known(broken, *before)) continue;
    if (changes.size() >= max_changes) {
      ++more;
      continue;
    }
    changes.push_back({{"change", "broken"},
                       {"file", broken.file.substr(0, max_text)},
                       {"id", broken.id.substr(0, max_text)},
                       {"last_good_kept", broken.last_good_kept}});
  }
  json payload = {{"active", active},
                  {"broken_files", now.unhealthy.size()},
                  {"digest", base::to_hex(base::sha256(digested))},
                  {"rules", new_rules.size()}};
  if (!changes.empty()) payload["changes"] = std::move(changes);
  if (more > 0) payload["more_changes"] = more;
  return payload.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace daemoneye::apps
