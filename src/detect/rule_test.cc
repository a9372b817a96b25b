#include "detect/rule.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace daemoneye::detect {
namespace {

using namespace std::chrono_literals;

constexpr const char* whole_rule = R"(id: some-rule
title: "Saw {{name}}"
description: Something.
author: Someone
license: Apache-2.0
severity: high
status: draft
tags: [attack.t1059.004, other]
references: [https://example.org/]
falsepositives:
  - Tests
sql: |
  SELECT e.name, e.process_key
  FROM process_events e
  WHERE e.kind = 'exec'
except:
  - e.name = 'true'
dedup:
  by: [name]
  for: 10m
)";

std::vector<std::string> problems_of(const std::string& yaml) {
  const auto rule = parse_rule(yaml, "r.yaml");
  std::vector<std::string> texts;
  if (rule) return texts;
  for (const auto& problem : rule.error()) texts.push_back(to_string(problem));
  return texts;
}

std::string without(std::string text, const std::string& part, const std::string& with = "") {
  const auto at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part;
  return text.replace(at, part.size(), with);
}

TEST(ParseRule, ReadsEveryKey) {
  const auto rule = parse_rule(whole_rule, "r.yaml");
  ASSERT_TRUE(rule) << to_string(rule.error().front());
  EXPECT_EQ(rule->id, "some-rule");
  EXPECT_EQ(rule->title, "Saw {{name}}");
  EXPECT_EQ(rule->author, "Someone");
  EXPECT_EQ(rule->license, "Apache-2.0");
  EXPECT_EQ(rule->severity, store::Severity::high);
  EXPECT_EQ(rule->status, RuleStatus::draft);
  EXPECT_EQ(rule->tags, (std::vector<std::string>{"attack.t1059.004", "other"}));
  EXPECT_EQ(rule->references.size(), 1U);
  EXPECT_EQ(rule->falsepositives, std::vector<std::string>{"Tests"});
  EXPECT_EQ(rule->except, std::vector<std::string>{"e.name = 'true'"});
  EXPECT_EQ(rule->dedup_by, std::vector<std::string>{"name"});
  EXPECT_EQ(rule->dedup_for, 10min);
  EXPECT_FALSE(rule->evaluate);
  EXPECT_EQ(rule->file, "r.yaml");
  EXPECT_EQ(rule->version.size(), 12U);
}

TEST(ParseRule, ReadsAScheduledRule) {
  const auto rule = parse_rule(
      "id: a\ntitle: t\nseverity: low\nsql: SELECT count(*) AS n FROM process_events\n"
      "evaluate: {every: 60s, window: 10m}\n",
      "r.yaml");
  ASSERT_TRUE(rule) << to_string(rule.error().front());
  ASSERT_TRUE(rule->evaluate);
  EXPECT_EQ(rule->evaluate->every, 60s);
  EXPECT_EQ(rule->evaluate->window, 10min);
}

TEST(ParseRule, TellsEverythingThatIsWrongAtOnceWithItsLine) {
  EXPECT_EQ(problems_of("id: Bad_Id\n"
                        "titl: x\n"
                        "severity: urgent\n"
                        "status: on\n"
                        "tags: one\n"
                        "evaluate: {every: soon, window: 10m}\n"
                        "dedup:\n"
                        "  bye: [x]\n"
                        "  for: 0s\n"
                        "description: [a]\n"),
            (std::vector<std::string>{
                "r.yaml:1: id: found 'Bad_Id'; allowed: a-z, 0-9 and '-', first a letter or digit, at most 64",
                "r.yaml:1: title: missing; every rule needs id, title, severity and sql",
                "r.yaml:1: sql: missing; every rule needs id, title, severity and sql",
                "r.yaml:2: titl: unknown key; did you mean title?",
                "r.yaml:3: severity: found 'urgent'; allowed: low, medium, high, critical",
                "r.yaml:4: status: found 'on'; allowed: draft, active, disabled, archived",
                "r.yaml:5: tags: found 'one'; allowed: a list of texts",
                "r.yaml:6: evaluate.every: found 'soon'; allowed: a duration from 1s to 24h, like 60s",
                "r.yaml:8: dedup.bye: unknown key; did you mean by?",
                "r.yaml:9: dedup.for: found '0s'; allowed: a duration up to 30d, like 10m",
                "r.yaml:10: description: found a list; allowed: a text",
            }));
}

TEST(ParseRule, RefusesAKeyThatIsGivenTwice) {
  EXPECT_EQ(problems_of(std::string(whole_rule) + "severity: low\n"),
            std::vector<std::string>{"r.yaml:21: severity: given twice"});
}

TEST(ParseRule, TellsWhereYamlIsBroken) {
  const auto problems = problems_of("id: a\ntitle: [x\n");
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_TRUE(problems[0].starts_with("r.yaml:3: not YAML: ")) << problems[0];
  EXPECT_EQ(problems_of("- a\n- b\n"), std::vector<std::string>{"r.yaml:1: not a YAML map of keys"});
  EXPECT_EQ(problems_of(""), std::vector<std::string>{"r.yaml:1: not a YAML map of keys"});
  EXPECT_EQ(problems_of("id: a\n---\nid: b\n"),
            std::vector<std::string>{"r.yaml:1: more than one YAML document; one rule a file"});
}

TEST(ParseRule, MapsAnSqlErrorToTheLineAndColumnOfTheFile) {
  const auto problems = problems_of(without(whole_rule, "e.kind = 'exec'", "e.comand_line = 'x'"));
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_TRUE(problems[0].starts_with("r.yaml:15: sql: column 9: ")) << problems[0];
  EXPECT_NE(problems[0].find("command_line"), std::string::npos) << problems[0];
}

TEST(ParseRule, MapsAnSqlErrorOnOneLine) {
  const auto problems = problems_of("id: a\ntitle: t\nseverity: low\nsql: DROP TABLE processes\n");
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_TRUE(problems[0].starts_with("r.yaml:4: sql: column 6: ")) << problems[0];
}

TEST(ParseRule, RefusesWhatCannotBeStreamedWithoutEvaluate) {
  const auto problems = problems_of("id: a\ntitle: t\nseverity: low\nsql: SELECT count(*) AS n FROM process_events\n");
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("needs evaluate"), std::string::npos) << problems[0];
}

TEST(ParseRule, RefusesParameters) {
  const auto problems = problems_of(without(whole_rule, "e.kind = 'exec'", "e.kind = :kind"));
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("parameter :kind"), std::string::npos) << problems[0];
}

TEST(ParseRule, NamesTheExceptionThatDoesNotCompile) {
  const auto problems =
      problems_of(without(whole_rule, "  - e.name = 'true'\n", "  - e.name = 'true'\n  - e.nonsense = 1\n"));
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_TRUE(problems[0].starts_with("r.yaml:17: except[1]: ")) << problems[0];
}

TEST(ParseRule, RefusesColumnsThatAreNotSelected) {
  EXPECT_EQ(problems_of(without(whole_rule, "by: [name]", "by: [pid]")),
            std::vector<std::string>{"r.yaml:19: dedup.by: 'pid' is not selected; selected: name, process_key"});
  EXPECT_EQ(problems_of(without(whole_rule, "{{name}}", "{{shape}}")),
            std::vector<std::string>{"r.yaml:2: title: 'shape' is not selected; selected: name, process_key"});
  // The event's own columns are there without being selected.
  EXPECT_TRUE(problems_of(without(whole_rule, "{{name}}", "{{command_line}}")).empty());
}

// yaml-cpp finds documents in these without end.
TEST(ParseRule, RefusesWhatYamlCppWouldNeverEndToRead) {
  for (const std::string yaml : {",", "id: a\nx:? y\", z}, condition: s}\n"}) {
    const auto problems = problems_of(yaml);
    EXPECT_FALSE(problems.empty()) << yaml;
  }
  EXPECT_NE(problems_of(",")[0].find("more than 100 documents"), std::string::npos);
}

TEST(ParseRule, RefusesAWindowShorterThanTheInterval) {
  const auto problems = problems_of(
      "id: a\ntitle: t\nseverity: low\nsql: SELECT count(*) AS n FROM process_events\nevaluate: {every: 10m, window: "
      "1m}\n");
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("shorter than `every`"), std::string::npos);
}

TEST(RuleTitle, FillsInColumns) {
  const auto value = [](std::string_view name) -> std::optional<std::string> {
    if (name == "a") return "1";
    return std::nullopt;
  };
  EXPECT_EQ(title_of("x {{a}} {{ a }} {{b}} {{a", value), "x 1 1 (unknown) {{a");
  EXPECT_EQ(title_columns("{{a}} and {{ b }}"), (std::vector<std::string>{"a", "b"}));
}

class LoadRules : public ::testing::Test {
 protected:
  LoadRules() {
    std::string name = "/tmp/daemoneye-rules-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    root_ = name;
    std::filesystem::create_directory(root_ + "/a");
    std::filesystem::create_directory(root_ + "/b");
  }
  ~LoadRules() override { std::filesystem::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const { std::ofstream(root_ + "/" + file) << text; }
  static std::string rule(const std::string& id, const std::string& title = "t") {
    return "id: " + id + "\ntitle: " + title +
           "\nseverity: low\nsql: SELECT name FROM process_events WHERE kind = 'exec'\n";
  }
  RuleSet load(const RuleSet* previous = nullptr) const { return load_rules({root_ + "/a", root_ + "/b"}, previous); }
  static std::vector<std::string> titles(const RuleSet& set) {
    std::vector<std::string> out;
    for (const auto& loaded : set.rules) out.push_back(loaded.rule.id + "=" + loaded.rule.title);
    return out;
  }

  std::string root_;
};

TEST_F(LoadRules, ALaterFolderOverridesById) {
  write("a/x.yaml", rule("x", "packaged"));
  write("a/y.yml", rule("y"));
  write("a/.hidden.yaml", rule("hidden"));
  write("a/notes.txt", "no rule");
  write("b/other-name.yaml", rule("x", "local"));
  const auto set = load();
  EXPECT_EQ(titles(set), (std::vector<std::string>{"x=local", "y=t"}));
  EXPECT_TRUE(set.unhealthy.empty());
}

TEST_F(LoadRules, AMissingFolderIsNotAnError) {
  std::filesystem::remove_all(root_ + "/b");
  write("a/x.yaml", rule("x"));
  const auto set = load();
  EXPECT_EQ(set.rules.size(), 1U);
  EXPECT_TRUE(set.unhealthy.empty());
}

TEST_F(LoadRules, ABrokenFileKeepsItsLastGoodVersionAndIsNamed) {
  write("a/x.yaml", rule("x", "good"));
  write("a/y.yaml", rule("y"));
  const auto good = load();
  write("a/x.yaml", "id: x\ntitle: [\n");
  const auto broken = load(&good);
  EXPECT_EQ(titles(broken), (std::vector<std::string>{"x=good", "y=t"}));
  ASSERT_EQ(broken.unhealthy.size(), 1U);
  EXPECT_EQ(broken.unhealthy[0].id, "x");
  EXPECT_TRUE(broken.unhealthy[0].last_good_kept);
  // And again: the last good version is not forgotten by a second look.
  const auto still = load(&broken);
  EXPECT_EQ(titles(still), (std::vector<std::string>{"x=good", "y=t"}));
  write("a/x.yaml", rule("x", "mended"));
  const auto mended = load(&still);
  EXPECT_EQ(titles(mended), (std::vector<std::string>{"x=mended", "y=t"}));
  EXPECT_TRUE(mended.unhealthy.empty());
}

TEST_F(LoadRules, ABrokenFileThatNeverWorkedIsNamedByItsFile) {
  write("a/zz.yaml", "nonsense");
  const auto set = load();
  EXPECT_TRUE(set.rules.empty());
  ASSERT_EQ(set.unhealthy.size(), 1U);
  EXPECT_EQ(set.unhealthy[0].id, "zz");
  EXPECT_FALSE(set.unhealthy[0].last_good_kept);
}

TEST_F(LoadRules, ARemovedFileStops) {
  write("a/x.yaml", rule("x"));
  const auto before = load();
  std::filesystem::remove(root_ + "/a/x.yaml");
  EXPECT_TRUE(load(&before).rules.empty());
}

TEST_F(LoadRules, AnIdUsedTwiceInAFolderIsAProblemOfTheSecond) {
  write("a/1.yaml", rule("x", "first"));
  write("a/2.yaml", rule("x", "second"));
  const auto set = load();
  EXPECT_EQ(titles(set), std::vector<std::string>{"x=first"});
  ASSERT_EQ(set.unhealthy.size(), 1U);
  EXPECT_NE(set.unhealthy[0].problems[0].message.find("already used by " + root_ + "/a/1.yaml"), std::string::npos);
}

TEST_F(LoadRules, AnUnchangedFileKeepsItsCompiledStatement) {
  write("a/x.yaml", rule("x"));
  write("a/y.yaml", rule("y"));
  const auto before = load();
  write("a/y.yaml", rule("y", "changed"));
  const auto after = load(&before);
  EXPECT_EQ(before.rules[0].compiled, after.rules[0].compiled);
  EXPECT_NE(before.rules[1].compiled, after.rules[1].compiled);
}

constexpr const char* excused = R"(exceptions:
  - rule: x
    except:
      - name = 'backup'
      - nosuch = 1
    reason: the nightly backup
  - rule: gone
    except: [name = 'a']
)";

TEST_F(LoadRules, ExceptionsLieApartFromTheirRules) {
  write("a/x.yaml", rule("x"));
  const auto plain = load();
  write("b/local.exceptions.yaml", "exceptions:\n  - rule: x\n    except: [name = 'backup']\n");
  write("b/more.exceptions.yml", "exceptions: [{rule: x, except: [name = 'other']}]\n");
  const auto set = load(&plain);
  ASSERT_EQ(set.rules.size(), 1U);
  EXPECT_TRUE(set.unhealthy.empty());
  const auto& loaded = set.rules.front();
  EXPECT_EQ(loaded.rule.local_except, (std::vector<std::string>{"name = 'backup'", "name = 'other'"}));
  EXPECT_NE(loaded.compiled->sql().find("'backup'"), std::string::npos) << loaded.compiled->sql();
  EXPECT_NE(loaded.rule.version, plain.rules.front().rule.version) << "so that the change is seen";
  // The package is updated: the exceptions stay.
  write("a/x.yaml", rule("x", "updated"));
  const auto updated = load(&set);
  EXPECT_EQ(titles(updated), std::vector<std::string>{"x=updated"});
  EXPECT_EQ(updated.rules.front().rule.local_except.size(), 2U);
  const auto same = load(&updated);
  EXPECT_EQ(same.rules.front().compiled, updated.rules.front().compiled) << "nothing is compiled again";
  std::filesystem::remove(root_ + "/b/local.exceptions.yaml");
  std::filesystem::remove(root_ + "/b/more.exceptions.yml");
  const auto without_any = load(&same);
  EXPECT_EQ(without_any.rules.front().compiled->sql(), plain.rules.front().compiled->sql());
}

TEST_F(LoadRules, AnExceptionThatDoesNotFitIsNamedAndLeftOut) {
  write("a/x.yaml", rule("x"));
  write("b/local.exceptions.yaml", excused);
  const auto set = load();
  EXPECT_EQ(set.rules.front().rule.local_except, std::vector<std::string>{"name = 'backup'"});
  ASSERT_EQ(set.unhealthy.size(), 1U);
  EXPECT_EQ(set.unhealthy[0].id, "local.exceptions");
  ASSERT_EQ(set.unhealthy[0].problems.size(), 2U);
  EXPECT_EQ(to_string(set.unhealthy[0].problems[0]),
            root_ + "/b/local.exceptions.yaml:8: exceptions[1].rule: there is no rule 'gone'");
  const auto text = to_string(set.unhealthy[0].problems[1]);
  EXPECT_TRUE(text.starts_with(root_ + "/b/local.exceptions.yaml:4: exceptions[0].except[1]: ")) << text;
  EXPECT_TRUE(text.ends_with("; rule x runs without it")) << text;
}

TEST_F(LoadRules, ABrokenExceptionsFileKeepsItsLastGoodVersion) {
  write("a/x.yaml", rule("x"));
  write("b/local.exceptions.yaml", "exceptions: [{rule: x, except: [name = 'backup']}]\n");
  const auto good = load();
  write("b/local.exceptions.yaml", "exceptions: [{rule: x\n");
  const auto broken = load(&good);
  EXPECT_EQ(broken.rules.front().rule.local_except.size(), 1U);
  ASSERT_EQ(broken.unhealthy.size(), 1U);
  EXPECT_TRUE(broken.unhealthy[0].last_good_kept);
  EXPECT_EQ(load(&broken).rules.front().rule.local_except.size(), 1U);
}

TEST(ParseExceptions, NamesEveryMistake) {
  const auto problems = [](const std::string& yaml) {
    std::vector<std::string> texts;
    const auto parsed = parse_exceptions(yaml, "e.yaml");
    if (parsed) return texts;
    for (const auto& problem : parsed.error()) texts.push_back(to_string(problem));
    return texts;
  };
  EXPECT_EQ(problems("exception: []\n").front(), "e.yaml:1: exception: unknown key; did you mean exceptions?");
  EXPECT_EQ(problems("{}\n"),
            std::vector<std::string>{"e.yaml:1: exceptions: missing; a list of maps with rule and except"});
  EXPECT_EQ(problems("exceptions:\n  - rule: Bad Id\n    reasn: x\n"),
            (std::vector<std::string>{"e.yaml:2: exceptions[0].rule: found 'Bad Id'; allowed: a rule's id",
                                      "e.yaml:2: exceptions[0].except: missing; a list of SQL conditions",
                                      "e.yaml:3: exceptions[0].reasn: unknown key; did you mean reason?"}));
  EXPECT_TRUE(problems("exceptions: []\n").empty());
}

TEST_F(LoadRules, OverridesWinOverFilesAndSurviveTheirUpdates) {
  write("a/x.yaml", rule("x"));
  write("a/y.yaml", rule("y") + "status: disabled\n");
  store::RuleOverride off, on, loud;
  off.rule_id = "x";
  off.status = "disabled";
  off.severity = store::Severity::critical;
  on.rule_id = "y";
  on.status = "active";
  loud.rule_id = "nobody";
  loud.severity = store::Severity::high;
  const std::vector<store::RuleOverride> overrides = {loud, off, on};
  const auto load_with = [&](const RuleSet* previous, const std::vector<store::RuleOverride>& these) {
    return load_rules({root_ + "/a"}, previous, these);
  };
  const auto set = load_with(nullptr, overrides);
  ASSERT_EQ(set.rules.size(), 2U);
  EXPECT_EQ(set.rules[0].rule.status, RuleStatus::disabled);
  EXPECT_EQ(set.rules[0].rule.severity, store::Severity::critical);
  EXPECT_EQ(set.rules[0].rule.file_status, RuleStatus::active);
  EXPECT_EQ(set.rules[0].rule.file_severity, store::Severity::low);
  EXPECT_EQ(set.rules[1].rule.status, RuleStatus::active);
  EXPECT_TRUE(set.unhealthy.empty()) << "an override of a rule that is not there waits for it";
  write("a/x.yaml", rule("x", "updated"));
  const auto updated = load_with(&set, overrides);
  EXPECT_EQ(updated.rules[0].rule.title, "updated");
  EXPECT_EQ(updated.rules[0].rule.status, RuleStatus::disabled);
  const auto again = load_with(&updated, {});
  EXPECT_EQ(again.rules[0].rule.status, RuleStatus::active);
  EXPECT_EQ(again.rules[0].rule.severity, store::Severity::low);
  EXPECT_EQ(again.rules[0].compiled, updated.rules[0].compiled);
  EXPECT_NE(again.rules[0].rule.version, updated.rules[0].rule.version);
}

TEST_F(LoadRules, OneRuleAloneIsAsAmongTheOthers) {
  write("a/x.yaml", rule("x"));
  write("a/other.yaml", rule("y", "packaged"));
  write("b/renamed.yaml", rule("y", "local"));
  write("a/escaped.yaml", rule("\"\\x7a\"", "escaped"));  // z
  write("a/broken.yaml", "id: broken\ntitle: [\n");
  write("b/local.exceptions.yaml", excused);
  store::RuleOverride off;
  off.rule_id = "y";
  off.status = "disabled";
  const std::vector<std::string> folders = {root_ + "/a", root_ + "/b"};
  const auto all = load_rules(folders, nullptr, {off});
  ASSERT_EQ(all.rules.size(), 3U);
  for (const auto& loaded : all.rules) {
    const auto alone = load_rule(loaded.rule.id, folders, {off});
    ASSERT_EQ(alone.rules.size(), 1U) << loaded.rule.id;
    const auto& one = alone.rules.front();
    EXPECT_EQ(one.rule.version, loaded.rule.version) << loaded.rule.id;
    EXPECT_EQ(one.rule.status, loaded.rule.status);
    EXPECT_EQ(one.rule.file, loaded.rule.file);
    EXPECT_EQ(one.rule.local_except, loaded.rule.local_except);
    EXPECT_EQ(one.compiled->sql(), loaded.compiled->sql());
  }
  const auto broken = load_rule("broken", folders);
  EXPECT_TRUE(broken.rules.empty());
  EXPECT_EQ(broken.unhealthy.size(), 1U);
  EXPECT_TRUE(load_rule("nobody", folders).rules.empty());
}

TEST_F(LoadRules, TheBundledRulesAreAllGood) {
  const auto set = load_rules({std::string(DAEMONEYE_SOURCE_DIR) + "/rules"});
  for (const auto& broken : set.unhealthy) {
    for (const auto& problem : broken.problems) ADD_FAILURE() << to_string(problem);
  }
  EXPECT_GE(set.rules.size(), 20U);
  for (const auto& loaded : set.rules) {
    EXPECT_EQ(loaded.rule.status, RuleStatus::active) << loaded.rule.id;
    EXPECT_FALSE(loaded.rule.description.empty()) << loaded.rule.id;
    EXPECT_FALSE(loaded.rule.tags.empty()) << loaded.rule.id;
    EXPECT_FALSE(loaded.rule.references.empty()) << loaded.rule.id;
    EXPECT_FALSE(loaded.rule.falsepositives.empty()) << loaded.rule.id;
    EXPECT_EQ(std::filesystem::path(loaded.rule.file).stem().string(), loaded.rule.id);
  }
}

}  // namespace
}  // namespace daemoneye::detect
