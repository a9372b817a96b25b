// What an operator has changed of rules without editing their files: kept in the store, so that it outlives updates of
// packaged rules.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "db/statement_cache.h"
#include "store/alert.h"

namespace daemoneye::store {

struct RuleOverride {
  std::string rule_id;
  std::optional<std::string> status;  // active | disabled; nothing: as the file says
  std::optional<Severity> severity;   // nothing: as the file says
  std::string actor, note;
  Timestamp time;
  bool operator==(const RuleOverride&) const = default;
};

// For Writer::change. Replaces what was there for the rule; one that overrides nothing is removed.
Result<void> write_rule_override(db::StatementCache& statements, const RuleOverride& change);

// What one request asks of rules.
struct OverrideChange {
  bool reset = false;                 // of what was overridden first
  std::optional<std::string> status;  // nothing: stays
  std::optional<Severity> severity;
  std::string actor, note;
  Timestamp time;
  void apply(RuleOverride& one) const;
};
struct OverrideOutcome {
  RuleOverride before, after;
};
// For Writer::change: of each rule, on what is there by then, so that nothing is lost of requests that were made at the
// same time.
Result<std::vector<OverrideOutcome>> change_rule_overrides(db::StatementCache& statements,
                                                           const std::vector<std::string>& rule_ids,
                                                           const OverrideChange& change);
// Of the store at `path`, by id. On a connection of its own: any thread, beside the writer.
Result<std::vector<RuleOverride>> read_rule_overrides(const std::string& path);

}  // namespace daemoneye::store
