// rules create: a rule file from flags, or from answers.
#include <CLI/CLI.hpp>
#include <istream>
#include <iterator>
#include <ostream>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "cli/explain.h"
#include "cli/rules.h"
#include "detect/yaml_text.h"

namespace daemoneye::cli {
namespace {

struct Draft {
  std::string id, title, severity, status = "active", description, author, sql, every, window, dedup_for;
  std::vector<std::string> tags, references, falsepositives, except, dedup_by;
  std::string into;
  bool dry_run = false, interactive = false, yes = false, replace = false, description_asked = false;
};

std::string yaml_of(const Draft& draft) {
  detect::YamlText out;
  out.text("id", draft.id);
  out.text("title", draft.title);
  if (!draft.description.empty()) out.text("description", draft.description);
  if (!draft.author.empty()) out.text("author", draft.author);
  out.text("severity", draft.severity);
  out.text("status", draft.status);
  out.list("tags", draft.tags);
  out.list("references", draft.references);
  out.list("falsepositives", draft.falsepositives);
  out.block("sql", std::string(base::trim(draft.sql)) + "\n");
  out.list("except", draft.except);
  if (!draft.every.empty() || !draft.window.empty()) {
    out.begin_map("evaluate");
    if (!draft.every.empty()) out.nested_text("every", draft.every);
    if (!draft.window.empty()) out.nested_text("window", draft.window);
  }
  if (!draft.dedup_by.empty() || !draft.dedup_for.empty()) {
    out.begin_map("dedup");
    if (!draft.dedup_by.empty()) out.nested_list("by", draft.dedup_by);
    if (!draft.dedup_for.empty()) out.nested_text("for", draft.dedup_for);
  }
  return out.take();
}

Failure nobody_answers() { return {Exit::usage, "the answers ended before the rule was whole; nothing was written"}; }

// One line; `given` when it is empty.
Outcome<std::string> ask(const std::string& what, const std::string& given, Invocation& invocation) {
  invocation.err() << what << (given.empty() ? "" : " [" + given + "]") << ": " << std::flush;
  std::string answer;
  if (!invocation.read_answer(answer)) return std::unexpected(nobody_answers());
  answer = std::string(base::trim(answer));
  return answer.empty() ? given : answer;
}

// Lines up to an empty one, or one that ends with a semicolon.
Outcome<std::string> ask_sql(Invocation& invocation) {
  invocation.err() << "SQL, which rows are an alert (an empty line or a ';' ends it):\n" << std::flush;
  std::string sql, line;
  while (invocation.read_answer(line)) {
    if (base::trim(line).empty() && !sql.empty()) return sql;
    sql += line + "\n";
    if (base::trim(line).ends_with(';')) return sql;
  }
  if (sql.empty()) return std::unexpected(nobody_answers());
  return sql;
}

Outcome<bool> ask_missing(Draft& draft, Invocation& invocation) {
  const auto fill = [&](std::string& into, const std::string& what, const std::string& usual) -> Outcome<bool> {
    while (into.empty()) {
      CLI_TRY(into, ask(what, usual, invocation));
    }
    return true;
  };
  CLI_TRY([[maybe_unused]] bool done, fill(draft.id, "id (a-z, 0-9, -)", ""));
  CLI_TRY(done, fill(draft.title, "title, with {{column}} for a value of the row", ""));
  CLI_TRY(done, fill(draft.severity, "severity (low, medium, high, critical)", "medium"));
  if (draft.description.empty() && !std::exchange(draft.description_asked, true)) {
    CLI_TRY(draft.description, ask("description (may be empty)", "", invocation));
  }
  if (draft.sql.empty()) {
    CLI_TRY(draft.sql, ask_sql(invocation));
  }
  return true;
}

// What the problems are about is asked again.
void forget_wrong(Draft& draft, const std::vector<detect::RuleProblem>& problems) {
  for (const auto& problem : problems) {
    if (problem.key == "id") draft.id.clear();
    if (problem.key == "title") draft.title.clear();
    if (problem.key == "severity") draft.severity.clear();
    if (problem.key == "description") {
      draft.description.clear();
      draft.description_asked = false;
    }
    if (problem.key == "sql" || problem.key.starts_with("except")) draft.sql.clear();
  }
}

Outcome<detect::LoadedRule> make(Draft& draft, Invocation& invocation) {
  while (true) {
    if (draft.interactive) {
      CLI_TRY([[maybe_unused]] const bool asked, ask_missing(draft, invocation));
    }
    auto rule = detect::compile_rule(yaml_of(draft), "the rule");
    if (rule) return std::move(*rule);
    if (!draft.interactive) return std::unexpected(broken("the rule", rule.error()));
    for (const auto& problem : rule.error()) invocation.err() << base::printable(detect::to_string(problem)) << '\n';
    const auto before = yaml_of(draft);
    forget_wrong(draft, rule.error());
    // What no question is about cannot be mended by answers.
    if (yaml_of(draft) == before) return std::unexpected(broken("the rule", rule.error()));
  }
}

Outcome<Exit> create_rule(const Draft& asked, Invocation& invocation) {
  Draft draft = asked;
  if (draft.sql == "-") draft.sql.assign(std::istreambuf_iterator<char>(invocation.in()), {});
  const bool whole = !draft.id.empty() && !draft.title.empty() && !draft.sql.empty();
  if (!whole && invocation.io().in_terminal) draft.interactive = true;
  if (!whole && !draft.interactive) {
    return std::unexpected(Failure(Exit::usage, "a rule needs --id, --title and --sql; --interactive asks for them"));
  }
  if (draft.severity.empty() && !draft.interactive) draft.severity = "medium";
  if (draft.interactive) invocation.lift_time_limit();
  CLI_TRY(const auto rule, make(draft, invocation));
  const auto text = yaml_of(draft);
  invocation.err() << hints_text(hints_of(rule));
  if (draft.dry_run) {
    invocation.out() << text;
    return Exit::done;
  }
  if (draft.into.empty()) {
    CLI_TRY(const auto* settings, invocation.loaded());
    if (settings->settings.detection.rule_paths.empty()) {
      return std::unexpected(Failure(Exit::usage, "detection.rule_paths is empty: give --into FOLDER"));
    }
    draft.into = settings->settings.detection.rule_paths.back();
  }
  const std::string file = draft.into + "/" + draft.id + ".yaml";
  if (!draft.replace && is_file(file)) {
    return std::unexpected(Failure(Exit::usage, base::printable(file) + " is there; --replace writes over it"));
  }
  if (draft.interactive) {
    invocation.err() << '\n' << text << '\n';
    CLI_TRY([[maybe_unused]] const bool sure,
            invocation.confirmed("Write this to " + base::printable(file) + "?", draft.yes));
  }
  if (const auto done = base::write_file_atomic(file, text, 0644); !done) {
    return std::unexpected(Failure(Exit::unavailable, done.error().message));
  }
  invocation.out() << base::printable(file) << '\n';
  return Exit::done;
}

}  // namespace

void add_rule_create(CLI::App& rules, Action& chosen) {
  auto* create = add_verb(rules, "create", "Write a new rule, from flags or by asking");
  const auto draft = std::make_shared<Draft>();  // shared: the parser fills what the action reads
  const auto text = [&](const char* flag, std::string& into, const char* help, const char* type = "TEXT") {
    create->add_option(flag, into, help)->type_name(type);
  };
  const auto list = [&](const char* flag, std::vector<std::string>& into, const char* help, const char* type) {
    create->add_option(flag, into, help)->type_name(type)->allow_extra_args(false);
  };
  text("--id", draft->id, "a-z, 0-9 and '-'", "ID");
  text("--title", draft->title, "One line; {{column}} stands for a value of the row");
  text("--severity", draft->severity, "How bad it is; default: medium", "low|medium|high|critical");
  text("--status", draft->status, "Default: active", "draft|active|disabled");
  text("--description", draft->description, "What it finds and why that matters");
  text("--author", draft->author, "Who wrote it");
  text("--sql", draft->sql, "One SELECT; - reads it from stdin", "SQL");
  list("--tag", draft->tags, "Such as attack.t1059.004; again for more", "TAG");
  list("--reference", draft->references, "Where to read on; again for more", "URL");
  list("--falsepositive", draft->falsepositives, "What else looks like this; again for more", "TEXT");
  list("--except", draft->except, "An SQL condition that excuses a row; again for more", "SQL");
  text("--every", draft->every, "Makes it a scheduled rule: how often it runs", "SPAN");
  text("--window", draft->window, "Of a scheduled rule: how far it looks back", "SPAN");
  list("--dedup-by", draft->dedup_by, "A result column; again for more", "COLUMN");
  text("--dedup-for", draft->dedup_for, "How long the same is one alert", "SPAN");
  text("--into", draft->into, "Folder to write to; default: the last of detection.rule_paths", "FOLDER");
  create->add_flag("--interactive", draft->interactive, "Ask for what is missing; usual on a terminal");
  create->add_flag("--dry-run", draft->dry_run, "Print the file instead of writing it");
  create->add_flag("--replace", draft->replace, "Write over a file of the same name");
  create->add_flag("--yes", draft->yes, "Do not ask before writing");
  create->callback(
      [draft, &chosen] { chosen = [draft](Invocation& invocation) { return create_rule(*draft, invocation); }; });
}

}  // namespace daemoneye::cli
