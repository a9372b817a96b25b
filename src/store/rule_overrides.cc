#include "store/rule_overrides.h"

#include "store/store_file.h"

namespace daemoneye::store {

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
  DE_TRY(auto select, database->prepare("SELECT rule_id, status, severity, actor, time, note FROM rule_overrides "
                                        "ORDER BY rule_id"));
  std::vector<RuleOverride> overrides;
  while (true) {
    DE_TRY(const bool row, select.step());
    if (!row) return overrides;
    RuleOverride one;
    one.rule_id = select.text(0);
    if (!select.is_null(1)) one.status = std::string(select.text(1));
    if (!select.is_null(2)) one.severity = parse_severity(select.text(2));
    one.actor = select.text(3);
    one.time.ns = select.integer(4);
    one.note = select.text(5);
    overrides.push_back(std::move(one));
  }
}

}  // namespace daemoneye::store
