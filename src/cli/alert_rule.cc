// The rule behind an alert, as it is now.
#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "cli/alert_case.h"
#include "cli/rules.h"

namespace daemoneye::cli {
namespace {

// The store says which file; only what lies in a rule folder is opened.
bool lies_in_a_rule_folder(const std::string& file, const std::vector<std::string>& folders) {
  std::error_code error;
  const auto real = std::filesystem::weakly_canonical(file, error);
  if (error) return false;
  return std::ranges::any_of(folders, [&](const std::string& folder) {
    const auto root = std::filesystem::weakly_canonical(folder, error);
    return !error && real.parent_path() == root;
  });
}

std::optional<detect::Rule> read_rule(const std::string& file, const std::string& id, Invocation& invocation) {
  const auto folders = rule_folders(invocation);
  if (!folders || !lies_in_a_rule_folder(file, *folders) || !is_file(file)) return std::nullopt;
  const auto yaml = base::read_file(file, detect::max_rule_file_bytes);
  if (!yaml) return std::nullopt;
  auto rule = detect::parse_rule(*yaml, file);
  if (!rule || rule->id != id) return std::nullopt;
  return std::move(*rule);
}

}  // namespace

Outcome<CaseRule> collect_rule(sql::Connection& connection, Invocation& invocation, const store::Alert& alert) {
  CaseRule found;
  const auto compiled = sql::compile(
      "SELECT title, severity, status, state, sql, file, version, loaded_at FROM detection_rules WHERE rule_id = :id");
  if (!compiled) return std::unexpected(Failure(Exit::failed, compiled.error().message));
  sql::RunOptions options;
  options.parameters = {{"id", alert.rule_id}};
  options.deadline = invocation.deadline();
  const auto ran = connection.run(*compiled, options, [&](const sql::Row& row) {
    const auto text = [&](std::size_t i) {
      const auto* held = std::get_if<std::string>(&row[i]);
      return held != nullptr ? *held : std::string();
    };
    const auto* time = std::get_if<std::int64_t>(&row[7]);
    found.loaded = {text(0), text(1), text(2), text(3),
                    text(4), text(5), text(6), Timestamp{time != nullptr ? *time : 0}};
    return false;
  });
  if (!ran) return std::unexpected(Failure(ran.error()));
  if (alert.rule_id == store::rate_limit_rule) {
    found.notes.emplace_back("No rule raised it: it stands for alerts that a sink's rate limit held back.");
    return found;
  }
  if (!found.loaded) {
    found.notes.emplace_back("There is no rule of this id any more.");
    return found;
  }
  found.text = read_rule(found.loaded->file, alert.rule_id, invocation);
  if (!found.text) {
    found.notes.emplace_back("Its file cannot be read here; this is what the agent loaded.");
  } else if (found.text->sql != found.loaded->sql) {
    found.notes.emplace_back("Its file is not the one that the agent loaded: the statement is the agent's.");
  }
  if (found.loaded->loaded_at > alert.time) {
    found.notes.emplace_back("It was loaded after the alert was raised, and may have been another one then.");
  }
  return found;
}

}  // namespace daemoneye::cli
