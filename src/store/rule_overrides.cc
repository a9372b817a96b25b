#include "store/rule_overrides.h"

#include "store/store_file.h"

namespace daemoneye::store {
namespace {

constexpr const char* columns = "rule_id, status, severity, actor, time, note";

RuleOverride read_row(const db::Statement& row) {
  RuleOverride one;
  one.rule_id = row.text(0);
  if (!row.is_null(1)) one.status = std::string(row.text(1));
  if (!row.is_null(2)) one.severity = parse_severity(row.text(2));
  one.actor = row.text(3);
  one.time.ns = row.integer(4);
  one.note = row.text(5);
  return one;
}

}  // namespace

Result<void> write_rule_override(db::StatementCache& statements, const RuleOverride& change) {
  if (!change.status && !change.severity) {
    DE_TRY(auto* remove, statements.get("DELETE FROM rule_overrides WHERE rule_id=?"));
    return remove->bind_text(1, change.rule_id).run();
  }
  DE_TRY(auto* insert, statements.get("INSERT OR REPLACE INTO rule_overrides VALUES(?,?,?,?,?,?)"));
  insert->bind_text(1, change.rule_id);
  if (change.status) insert->bind_text(2, *change.status);
  if (change.severity) insert->bind_text(3, to_string(*change.severity));
  insert->bind_text(4, change.actor).bind(5, change.time.ns);
  if (!change.note.empty()) insert->bind_text(6, change.note);
  return insert->run();
}

Result<std::vector<RuleOverride>> read_rule_overrides(const std::string& path) {
  DE_TRY(const auto database, open_store_for_reading(path));
  DE_TRY(auto select, database->prepare(std::string("SELECT ") + columns + " FROM rule_overrides ORDER BY rule_id"));
  std::vector<RuleOverride> overrides;
  while (true) {
    DE_TRY(const bool row, select.step());
    if (!row) return overrides;
    overrides.push_back(read_row(select));
  }
}

void OverrideChange::apply(RuleOverride& one) const {
  if (reset) {
    one.status.reset();
    one.severity.reset();
  }
  if (status) one.status = status;
  if (severity) one.severity = severity;
  one.actor = actor;
  one.note = note;
  one.time = time;
}

Result<std::vector<OverrideOutcome>> change_rule_overrides(db::StatementCache& statements,
                                                           const std::vector<std::string>& rule_ids,
                                                           const OverrideChange& change) {
  static const std::string sql = std::string("SELECT ") + columns + " FROM rule_overrides WHERE rule_id=?";
  std::vector<OverrideOutcome> outcomes;
  for (const auto& id : rule_ids) {
    OverrideOutcome outcome;
    {
      DE_TRY(auto* select, statements.get(sql));
      const db::StatementReset reset(*select);
      DE_TRY(const bool found, select->bind_text(1, id).step());
      if (found) outcome.before = read_row(*select);
    }
    outcome.before.rule_id = id;
    outcome.after = outcome.before;
    change.apply(outcome.after);
    DE_CHECK(write_rule_override(statements, outcome.after));
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

}  // namespace daemoneye::store
