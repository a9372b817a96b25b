#include "agent/rule_admin.h"

#include <algorithm>
#include <memory>

#include "agent/requests.h"
#include "store/rule_overrides.h"

namespace daemoneye::apps {
namespace {

using nlohmann::json;

struct Asked {
  store::OverrideChange change;
  std::vector<std::string> rules;
};

std::string shown(const store::RuleOverride& one) {
  std::string text = one.status.value_or("");
  if (one.severity) text += (text.empty() ? "" : ", ") + std::string(store::to_string(*one.severity));
  return text.empty() ? "as its file says" : text;
}

Result<Asked> understand(uid_t by, const std::string& payload) {
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
  const auto grade = store::parse_severity(severity.get_ref<const std::string&>());
  store::OverrideChange change;
  const auto& verb = what.get_ref<const std::string&>();
  if (verb == "enable")
    change.status = "active";
  else if (verb == "disable")
    change.status = "disabled";
  else if (verb == "severity" && grade)
    change.severity = grade;
  else if (verb == "reset")
    change.reset = true;
  else
    return not_understood;
  change.actor = name_of(by);
  change.note = note.get<std::string>();
  change.time = base::wall_now();
  return Asked{std::move(change), std::move(*rules)};
}

json shown(const std::vector<store::OverrideOutcome>& outcomes) {
  auto list = json::array();
  for (const auto& one : outcomes) {
    list.push_back({{"rule_id", one.after.rule_id}, {"from", shown(one.before)}, {"to", shown(one.after)}});
  }
  return list;
}

}  // namespace

std::vector<RuleAdmin::Pending::Accepted> RuleAdmin::Pending::copy() {
  const std::scoped_lock held(mutex_);
  std::vector<Accepted> all;
  for (const auto& [number, one] : accepted_) all.push_back(one);
  return all;
}

std::uint64_t RuleAdmin::Pending::add(Accepted one) {
  const std::scoped_lock held(mutex_);
  accepted_.emplace(++last_, std::move(one));
  return last_;
}

void RuleAdmin::Pending::remove(std::uint64_t number) {
  const std::scoped_lock held(mutex_);
  accepted_.erase(number);
}

RuleAdmin::RuleAdmin(detect::Engine& engine, store::Writer& writer, std::string store_path, Audit audit)
    : engine_(engine), writer_(writer), store_path_(std::move(store_path)), audit_(std::move(audit)) {}

void RuleAdmin::answer(uid_t by, const ipc::Request& request, Reply reply) {
  auto answered = change(by, request.payload, reply);
  if (reply) reply(std::move(answered));
}

// What is there for a rule, with what was accepted before and is not committed yet.
store::RuleOverride RuleAdmin::current(const std::vector<Pending::Accepted>& accepted,
                                       const std::vector<store::RuleOverride>& committed, const std::string& id) {
  store::RuleOverride one;
  if (const auto found = std::ranges::find(committed, id, &store::RuleOverride::rule_id); found != committed.end()) {
    one = *found;
  }
  one.rule_id = id;
  for (const auto& before : accepted) {
    if (std::ranges::find(before.rules, id) != before.rules.end()) before.change.apply(one);
  }
  return one;
}

// Takes `reply` when the answer comes later.
Result<std::string> RuleAdmin::change(uid_t by, const std::string& payload, Reply& reply) {
  DE_TRY(auto asked, understand(by, payload));
  // Before the store is read: what is committed meanwhile is applied twice, which changes nothing.
  const auto accepted = pending_.copy();
  DE_TRY(const auto committed, store::read_rule_overrides(store_path_));
  const auto state = engine_.state();
  std::vector<store::OverrideOutcome> wanted;
  auto refused = json::array();
  for (const auto& id : asked.rules) {
    const bool known = std::ranges::find(state.rules, id, &detect::Engine::RuleState::rule_id) != state.rules.end();
    const bool overridden = std::ranges::find(committed, id, &store::RuleOverride::rule_id) != committed.end();
    if (!known && !overridden) {
      refused.push_back({{"rule_id", id}, {"why", "there is no such rule"}});
      continue;
    }
    store::OverrideOutcome outcome{current(accepted, committed, id), {}};
    outcome.after = outcome.before;
    asked.change.apply(outcome.after);
    wanted.push_back(std::move(outcome));
  }
  if (!refused.empty()) return dump({{"changed", json::array()}, {"refused", std::move(refused)}});
  if (!audit_("rule_override", dump({{"by_uid", by}, {"changed", shown(wanted)}, {"note", asked.change.note}}))) {
    return fail(Errc::unavailable,
                "it could not be kept for the audit ledger, so it was not done: see audit_requests in `health`");
  }
  const auto number = pending_.add({asked.change, asked.rules});
  const auto done = std::make_shared<std::vector<store::OverrideOutcome>>();  // of the writer's thread
  writer_.change(
      [asked = std::move(asked), done](db::StatementCache& statements) -> Result<void> {
        DE_TRY(*done, store::change_rule_overrides(statements, asked.rules, asked.change));
        return {};
      },
      [this, later = std::exchange(reply, nullptr), done, number](const Result<void>& result) {
        pending_.remove(number);
        if (!result) return later(std::unexpected(result.error()));
        engine_.overrides_changed();
        later(dump({{"changed", shown(*done)}, {"refused", json::array()}}));
      });
  return "";
}

}  // namespace daemoneye::apps
