#include "agent/rule_admin.h"

#include <algorithm>

#include "agent/requests.h"
#include "store/rule_overrides.h"

namespace daemoneye::apps {
namespace {

using nlohmann::json;

struct Change {
  std::string what, note;
  std::optional<store::Severity> severity;
  std::vector<std::string> rules;
};

std::string shown(const store::RuleOverride& one) {
  std::string text = one.status.value_or("");
  if (one.severity) text += (text.empty() ? "" : ", ") + std::string(store::to_string(*one.severity));
  return text.empty() ? "as its file says" : text;
}

Result<Change> understand(const std::string& payload) {
  const auto asked = json::parse(payload, nullptr, false);
  const auto not_understood = fail(Errc::invalid_input, "change_rules: not understood");
  if (!asked.is_object()) return not_understood;
  const auto what = asked.value("do", json()), note = asked.value("note", json("")),
             severity = asked.value("severity", json(""));
  auto rules = texts(asked, "rules", RuleAdmin::max_rules, RuleAdmin::max_id_bytes);
  if (!what.is_string() || !note.is_string() || !severity.is_string() || !rules || rules->empty()) {
    return not_understood;
  }
  if (note.get_ref<const std::string&>().size() > RuleAdmin::max_note_bytes) {
    return fail(Errc::invalid_input, "a note is of at most " + std::to_string(RuleAdmin::max_note_bytes) + " bytes");
  }
  Change change{what.get<std::string>(), note.get<std::string>(),
                store::parse_severity(severity.get_ref<const std::string&>()), std::move(*rules)};
  const bool known = change.what == "enable" || change.what == "disable" || change.what == "reset" ||
                     (change.what == "severity" && change.severity);
  if (!known) return not_understood;
  return change;
}

void apply(const Change& change, store::RuleOverride& one) {
  if (change.what == "enable") one.status = "active";
  if (change.what == "disable") one.status = "disabled";
  if (change.what == "severity") one.severity = change.severity;
  if (change.what == "reset") {
    one.status.reset();
    one.severity.reset();
  }
}

}  // namespace

RuleAdmin::RuleAdmin(detect::Engine& engine, store::Writer& writer, std::string store_path, Audit audit)
    : engine_(engine), writer_(writer), store_path_(std::move(store_path)), audit_(std::move(audit)) {}

void RuleAdmin::answer(uid_t by, const ipc::Request& request, Reply reply) {
  auto answered = change(by, request.payload, reply);
  if (reply) reply(std::move(answered));
}

// Takes `reply` when the answer comes later.
Result<std::string> RuleAdmin::change(uid_t by, const std::string& payload, Reply& reply) {
  DE_TRY(const auto change, understand(payload));
  DE_TRY(const auto overrides, store::read_rule_overrides(store_path_));
  const auto state = engine_.state();
  std::vector<store::RuleOverride> wanted;
  auto changed = json::array(), refused = json::array();
  for (const auto& id : change.rules) {
    const auto found = std::ranges::find(overrides, id, &store::RuleOverride::rule_id);
    const bool known = std::ranges::find(state.rules, id, &detect::Engine::RuleState::rule_id) != state.rules.end();
    if (!known && found == overrides.end()) {
      refused.push_back({{"rule_id", id}, {"why", "there is no such rule"}});
      continue;
    }
    auto one = found == overrides.end() ? store::RuleOverride() : *found;
    const std::string before = shown(one);
    one.rule_id = id;
    one.actor = name_of(by);
    one.note = change.note;
    one.time = base::wall_now();
    apply(change, one);
    changed.push_back({{"rule_id", id}, {"from", before}, {"to", shown(one)}});
    wanted.push_back(std::move(one));
  }
  if (!refused.empty()) return dump({{"changed", json::array()}, {"refused", std::move(refused)}});
  if (!audit_("rule_override", dump({{"by_uid", by}, {"changed", changed}, {"note", change.note}}))) {
    return fail(Errc::unavailable,
                "it could not be kept for the audit ledger, so it was not done: see audit_requests in `health`");
  }
  writer_.change(
      [wanted = std::move(wanted)](db::StatementCache& statements) -> Result<void> {
        for (const auto& one : wanted) DE_CHECK(store::write_rule_override(statements, one));
        return {};
      },
      [this, later = std::exchange(reply, nullptr), changed](const Result<void>& result) {
        if (!result) return later(std::unexpected(result.error()));
        engine_.overrides_changed();
        later(dump({{"changed", changed}, {"refused", json::array()}}));
      });
  return "";
}

}  // namespace daemoneye::apps
