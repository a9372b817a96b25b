// rules list and validate: what watches, and whether it is healthy.
#include "cli/rules.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "base/file.h"
#include "base/text.h"
#include "detect/engine.h"
#include "detect/rule.h"

namespace daemoneye::cli {
namespace {

const std::vector<OutputColumn> list_columns = {{"rule_id"}, {"severity"}, {"status"}, {"state"},
                                                {"title"},   {"reason"},   {"file"}};

// Read from the folders: when no agent ever wrote a store, or to see what it would load.
Outcome<Exit> list_from_folders(Invocation& invocation) {
  CLI_TRY(const auto set, load_rules(invocation));
  const auto writer = invocation.row_writer("-");
  writer->begin(list_columns);
  for (const auto& loaded : set.rules) {
    const auto& rule = loaded.rule;
    writer->row({rule.id, std::string(to_string(rule.severity)), std::string(to_string(rule.status)),
                 std::string("not loaded"), rule.title, std::monostate{}, rule.file});
  }
  for (const auto& bad : set.unhealthy) {
    const auto reason = bad.problems.empty() ? std::string() : detect::to_string(bad.problems.front());
    writer->row(
        {bad.id, std::monostate{}, std::monostate{}, std::string("unhealthy"), std::monostate{}, reason, bad.file});
  }
  writer->finish({}, "");
  return Exit::done;
}

Outcome<Exit> list_rules(Invocation& invocation) {
  auto listed = invocation.run_sql(
      "SELECT rule_id, severity, status, state, title, reason, file, version, loaded_at FROM detection_rules "
      "ORDER BY rule_id");
  const bool no_store = !listed && listed.error().exit == Exit::unavailable;
  if (!no_store || !invocation.options().database.empty()) return listed;
  invocation.err() << "notice: read from the rule folders: " << listed.error().message << '\n';
  return list_from_folders(invocation);
}

Outcome<Exit> validate_rules(const std::vector<std::string>& paths, Invocation& invocation) {
  std::vector<detect::RuleProblem> problems, advice;
  std::size_t good = 0;
  const auto advise = [&](const detect::LoadedRule& rule) {
    for (const auto& hint : hints_of(rule)) {
      advice.push_back({rule.rule.file, 0, "hint " + hint.kind, "in the sql, " + sql::to_string(hint)});
    }
  };
  for (const auto& path : paths) {
    if (is_folder(path)) {
      const auto set = detect::load_rules({path});
      good += set.rules.size();
      std::ranges::for_each(set.rules, advise);
      for (const auto& bad : set.unhealthy) problems.insert(problems.end(), bad.problems.begin(), bad.problems.end());
      continue;
    }
    const auto text = base::read_file(path, detect::max_rule_file_bytes);
    if (!text) {
      problems.push_back({path, 0, "", text.error().message});
      continue;
    }
    if (const auto rule = detect::compile_rule(*text, path)) {
      ++good;
      advise(*rule);
    } else {
      problems.insert(problems.end(), rule.error().begin(), rule.error().end());
    }
  }
  if (problems.empty() && good == 0) {
    return std::unexpected(Failure(Exit::usage, "no rule in " + base::printable(joined(paths))));
  }
  if (invocation.format() != Format::table) {
    const auto writer = invocation.row_writer();
    writer->begin({{"file"}, {"line"}, {"key"}, {"message"}});
    for (const auto* const list : {&problems, &advice}) {
      for (const auto& problem : *list) {
        writer->row({problem.file, static_cast<std::int64_t>(problem.line), problem.key, problem.message});
      }
    }
    writer->finish({}, "");
  } else {
    if (problems.empty()) invocation.out() << good << (good == 1 ? " rule is" : " rules are") << " valid\n";
    invocation.out().flush();
    for (const auto& hint : advice)
      invocation.err() << base::printable(hint.file + ": " + hint.key + ": " + hint.message) << '\n';
  }
  if (problems.empty()) return Exit::done;
  return std::unexpected(broken(paths.size() == 1 ? paths.front() : std::to_string(paths.size()) + " paths", problems));
}

}  // namespace

void add_rules(CLI::App& app, Action& chosen) {
  auto* rules = add_verb(app, "rules", "Detection rules");
  rules->require_subcommand(1);
  add_verb(*rules, "list", "List the rules and their state")->callback([&chosen] { chosen = list_rules; });

  add_rule_show(*rules, chosen);

  auto* validate = add_verb(*rules, "validate", "Check rule files, without agent and store");
  const auto paths = std::make_shared<std::vector<std::string>>();
  validate->add_option("PATH", *paths, "Files and folders")->required();
  validate->callback(
      [paths, &chosen] { chosen = [paths](Invocation& invocation) { return validate_rules(*paths, invocation); }; });

  add_rule_test(*rules, chosen);
  add_rule_changes(*rules, chosen);
  add_rule_create(*rules, chosen);
  add_rule_transfer(*rules, chosen);
}

}  // namespace daemoneye::cli
