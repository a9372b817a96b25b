// rules: what watches, whether it is healthy, and what it would have found.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "base/file.h"
#include "base/text.h"
#include "cli/explain.h"
#include "cli/verbs.h"
#include "detect/engine.h"
#include "detect/rule.h"

namespace daemoneye::cli {
namespace {

bool is_folder(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}
bool is_file(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

Outcome<std::vector<std::string>> rule_folders(Invocation& invocation) {
  CLI_TRY(const auto* settings, invocation.loaded());
  return settings->settings.detection.rule_paths;
}

const std::vector<OutputColumn> list_columns = {{"rule_id"}, {"severity"}, {"status"}, {"state"},
                                                {"title"},   {"reason"},   {"file"}};

// Read from the folders: when no agent ever wrote a store, or to see what it would load.
Outcome<Exit> list_from_folders(Invocation& invocation) {
  CLI_TRY(const auto folders, rule_folders(invocation));
  const auto set = detect::load_rules(folders);
  const auto writer = invocation.row_writer("-");
  writer->begin(list_columns);
  for (const auto& [rule, compiled] : set.rules) {
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

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

std::vector<std::string> problem_lines(const std::vector<detect::RuleProblem>& problems) {
  std::vector<std::string> lines;
  for (const auto& problem : problems) lines.push_back(detect::to_string(problem));
  return lines;
}

Failure broken(const std::string& what, const std::vector<detect::RuleProblem>& problems) {
  return {Exit::usage, what + " has " + std::to_string(problems.size()) + (problems.size() == 1 ? " error" : " errors"),
          problem_lines(problems)};
}

// A file by its path, or a rule of the configured folders by its id.
Outcome<detect::LoadedRule> find_rule(const std::string& name, Invocation& invocation) {
  if (is_file(name)) {
    CLI_TRY(const auto text, base::read_file(name, detect::max_rule_file_bytes));
    auto rule = detect::compile_rule(text, name);
    if (!rule) return std::unexpected(broken(name, rule.error()));
    return std::move(*rule);
  }
  CLI_TRY(const auto folders, rule_folders(invocation));
  auto set = detect::load_rules(folders);
  for (auto& rule : set.rules) {
    if (rule.rule.id == name) return std::move(rule);
  }
  for (const auto& bad : set.unhealthy) {
    if (bad.id == name) return std::unexpected(broken(bad.file, bad.problems));
  }
  std::vector<std::string_view> ids;
  for (const auto& rule : set.rules) ids.push_back(rule.rule.id);
  const auto near = base::nearest(name, ids);
  return std::unexpected(Failure(Exit::usage,
                                 "no file and no rule '" + base::printable(name.substr(0, 128)) + '\'' +
                                     (near.empty() ? "" : "; did you mean " + std::string(near) + "?"),
                                 {"rule folders: " + joined(folders)}));
}

std::vector<sql::Hint> hints_of(const detect::LoadedRule& loaded) {
  return sql::hints(*loaded.compiled, loaded.rule.evaluate ? sql::Use::scheduled_rule : sql::Use::stream_rule);
}

Outcome<Exit> show_rule(const std::string& name, Invocation& invocation) {
  CLI_TRY(const auto loaded, find_rule(name, invocation));
  const auto& rule = loaded.rule;
  const auto text = [](const std::string& value) -> event::Value {
    if (value.empty()) return std::monostate{};
    return value;
  };
  const auto stream = rule.evaluate ? "scheduled" : "stream";
  const auto given = hints_of(loaded);
  const std::string hints = given.empty()                          ? std::string()
                            : invocation.format() == Format::table ? hints_text(given)
                                                                   : hints_json(given);
  write_record(
      invocation,
      {{"rule_id"},
       {"title"},
       {"description"},
       {"severity"},
       {"status"},
       {"kind"},
       {"tags"},
       {"references"},
       {"author"},
       {"license"},
       {"falsepositives"},
       {"except"},
       {"dedup_by"},
       {"file"},
       {"version"},
       {"hints"},
       {"sql"}},
      {text(rule.id), text(rule.title), text(rule.description), std::string(to_string(rule.severity)),
       std::string(to_string(rule.status)), std::string(stream), text(joined(rule.tags)), text(joined(rule.references)),
       text(rule.author), text(rule.license), text(joined(rule.falsepositives)), text(joined(rule.except)),
       text(joined(rule.dedup_by)), text(rule.file), text(rule.version), text(hints), text(rule.sql)});
  return Exit::done;
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

struct TestOptions {
  std::string rule, since, until;
  std::uint64_t limit = 1000;
};

Outcome<Exit> test_rule(const TestOptions& options, Invocation& invocation) {
  CLI_TRY(const auto rule, find_rule(options.rule, invocation));
  const auto now = base::wall_now();
  event::TimeRange range;
  if (!options.since.empty()) {
    CLI_TRY(range.from, parse_moment(options.since, now));
  }
  range.to = now;
  if (!options.until.empty()) {
    CLI_TRY(range.to, parse_moment(options.until, now));
  }
  CLI_TRY(const auto connection, invocation.connect());
  sql::RunOptions run_options;
  run_options.deadline = invocation.deadline();
  run_options.row_limit = options.limit;
  std::uint64_t matches = 0;
  CLI_TRY(const auto stats, invocation.write_results(*rule.compiled, "NULL", options.limit, [&](const auto& each) {
    return detect::test_rule(*connection, rule, range, run_options, [&](const sql::Row& row) {
      ++matches;
      return each(row);
    });
  }));
  invocation.out().flush();
  if (invocation.format() == Format::table) {
    invocation.err() << matches << (matches == 1 ? " row" : " rows") << " would have matched; no alert was written\n";
    invocation.err() << hints_text(hints_of(rule));
  }
  invocation.tell(stats.completeness, true);
  return exit_for(stats.completeness);
}

}  // namespace

void add_rules(CLI::App& app, Action& chosen) {
  auto* rules = add_verb(app, "rules", "Detection rules");
  rules->require_subcommand(1);
  add_verb(*rules, "list", "List the rules and their state")->callback([&chosen] { chosen = list_rules; });

  auto* show = add_verb(*rules, "show", "Show one rule");
  const auto shown = std::make_shared<std::string>();  // shared: the parser fills what the action reads
  show->add_option("RULE", *shown, "A rule's id, or a file")->required();
  show->callback(
      [shown, &chosen] { chosen = [shown](Invocation& invocation) { return show_rule(*shown, invocation); }; });

  auto* validate = add_verb(*rules, "validate", "Check rule files, without agent and store");
  const auto paths = std::make_shared<std::vector<std::string>>();
  validate->add_option("PATH", *paths, "Files and folders")->required();
  validate->callback(
      [paths, &chosen] { chosen = [paths](Invocation& invocation) { return validate_rules(*paths, invocation); }; });

  auto* test = add_verb(*rules, "test", "Run a rule over stored history; writes no alert");
  const auto options = std::make_shared<TestOptions>();
  test->add_option("RULE", options->rule, "A rule's id, or a file")->required();
  test->add_option("--since", options->since, "From then on: a span ago (5m, 2h, 7d) or ISO 8601")->type_name("TIME");
  test->add_option("--until", options->until, "Until then")->type_name("TIME");
  test->add_option("--limit", options->limit, "Stop after so many rows")
      ->type_name("N")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  test->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return test_rule(*options, invocation); }; });
}

}  // namespace daemoneye::cli
