// What a bundle changes, what it contradicts, and what is then put in force.
#include "bundle/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/test_support.h"
#include "detect/rule.h"

namespace daemoneye::bundle {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

std::string rule(const std::string& id, const std::string& name) {
  return "id: " + id + "\ntitle: t\ndescription: d\nseverity: low\nsql: SELECT pid FROM process_events WHERE name = '" +
         name + "'\n";
}

class Planning : public testing::Test {
 protected:
  Planning() {
    site.sources = config::no_sources(folder);
    site.sources.set = {"detection.rule_paths=[" + folder.path() + "/rules]"};
    folder.write("rules/own.yaml", rule("own", "own"));
  }
  Plan plan(std::vector<File> files) {
    bundle.manifest.id = "test";
    bundle.files = std::move(files);
    site.settings = config::load(site.sources)->settings;
    auto made = make_plan(bundle, before, site);
    EXPECT_TRUE(made) << (made ? "" : made.error().front());
    return made ? std::move(*made) : Plan{};
  }
  Problems problems(std::vector<File> files) {
    bundle.files = std::move(files);
    site.settings = config::load(site.sources)->settings;
    const auto made = make_plan(bundle, before, site);
    if (!made) return made.error();
    return check_together(files_of(bundle, *made, {}), site);
  }
  static std::vector<std::string> lines(const Plan& plan) {
    std::vector<std::string> all;
    for (const auto& change : plan.changes) {
      all.push_back(change.label() + ": " + change.change + (change.conflict.empty() ? "" : " !"));
    }
    return all;
  }
  void put_in_force(const std::vector<PlacedFile>& files) {
    for (const auto& file : files) folder.write("etc/bundle/current/" + file.name, file.content);
  }

  config::TemporaryFolder folder;
  Site site;
  Bundle bundle;
  std::optional<InForce> before;
};

TEST_F(Planning, TellsWhatIsAddedChangedRemovedAndTheSame) {
  put_in_force({{"a.yaml", rule("a", "a")},
                {"b.yaml", rule("b", "b")},
                {"c.yaml", rule("c", "c")},
                {"x.exceptions.yaml", "exceptions: []\n"},
                {"config.fragment", "logging: {level: warn}\n"}});
  const auto made = plan({{"rules/a.yaml", rule("a", "a")},
                          {"rules/b.yaml", rule("b", "other")},
                          {"rules/d.yaml", rule("d", "d")},
                          {"config.yaml", "app: {batch_size: 10}\n"}});
  EXPECT_THAT(lines(made), ElementsAre("configuration app.batch_size: added", "configuration logging.level: removed",
                                       "exceptions x.exceptions.yaml: removed", "rule a: same", "rule b: changed",
                                       "rule c: removed", "rule d: added"));
}

TEST_F(Planning, KeepsOrTakesARuleThatIsAlsoThisMachines) {
  const auto made = plan({{"rules/own.yaml", rule("own", "theirs")}, {"rules/new.yaml", rule("new", "new")}});
  EXPECT_THAT(lines(made), ElementsAre("rule new: added", "rule own: changed !"));
  const auto names = [&](const std::map<std::string, Choice>& choices) {
    std::vector<std::string> all;
    for (const auto& file : files_of(bundle, made, choices)) all.push_back(file.name);
    return all;
  };
  EXPECT_THAT(names({{"rule own", {.take = false, .own = ""}}}), ElementsAre("new.yaml"));
  EXPECT_THAT(names({{"rule own", {.take = true, .own = ""}}}), ElementsAre("own.yaml", "new.yaml"));
  put_in_force(files_of(bundle, made, {{"rule own", {.take = true, .own = ""}}}));
  const auto loaded = detect::load_rules(config::rule_folders(site.settings));
  ASSERT_EQ(loaded.rules.size(), 2U);
  EXPECT_THAT(loaded.rules[1].rule.sql, HasSubstr("theirs"));
  EXPECT_THAT(lines(plan({{"rules/own.yaml", rule("own", "own")}})), Contains("rule own: changed"))
      << "what is the same on this machine contradicts nothing";
}

TEST_F(Planning, KeepsOrTakesAKeyThatThisMachineSetsToo) {
  folder.write("etc/config.yaml", "app: {batch_size: 30}\nlogging: {level: error}\ncollection: {store_forks: true}\n");
  const auto made = plan({{"config.yaml",
                           "app: {batch_size: 20, scan_interval_ms: 12000}\nlogging: {level: warn}\n"
                           "alerting: {retry: {max_retries: 7}}\ncollection: {store_forks: true}\n"}});
  EXPECT_THAT(lines(made),
              ElementsAre("configuration alerting.retry.max_retries: added", "configuration app.batch_size: changed !",
                          "configuration app.scan_interval_ms: added", "configuration collection.store_forks: same",
                          "configuration logging.level: changed !"));
  const auto after = [&](const std::map<std::string, Choice>& choices) {
    put_in_force(files_of(bundle, made, choices));
    return config::load(site.sources)->settings;
  };
  auto taken = after({});
  EXPECT_EQ(taken.app.batch_size, 20U);
  EXPECT_EQ(taken.logging.level, "warn");
  const auto kept = after({{"configuration app.batch_size", {.take = false, .own = ""}},
                           {"configuration logging.level", {.take = true, .own = ""}}});
  EXPECT_EQ(kept.app.batch_size, 30U);
  EXPECT_EQ(kept.logging.level, "warn");
  EXPECT_EQ(kept.app.scan_interval_ms, 12000U);
  EXPECT_EQ(kept.alerting.retry.max_retries, 7U);
}

TEST_F(Planning, SaysWhatIsStrongerThanTheBundle) {
  site.sources.environment["DAEMONEYE_LOGGING__LEVEL"] = "error";
  const auto made = plan({{"config.yaml", "logging: {level: warn}\n"}});
  ASSERT_EQ(made.changes.size(), 1U);
  EXPECT_EQ(made.changes[0].change, "kept");
  EXPECT_EQ(made.changes[0].note, "DAEMONEYE_LOGGING__LEVEL is stronger");
}

TEST_F(Planning, RefusesWhatIsNotGood) {
  EXPECT_THAT(problems({{"rules/a.yaml", "id: a\nsql: DROP TABLE x\n"}}), Contains(HasSubstr("rules/a.yaml")));
  EXPECT_THAT(problems({{"rules/a.yaml", rule("a", "a")}, {"rules/b.yaml", rule("a", "b")}}),
              Contains(HasSubstr("the rule 'a' is already in rules/a.yaml")));
  EXPECT_THAT(problems({{"config.yaml", "no_such: key\n"}}), Contains(HasSubstr("config.yaml:1")));
  EXPECT_THAT(problems({{"config.yaml", "bundle: {trusted_keys: /tmp}\n"}}),
              Contains(HasSubstr("no bundle may set it")));
  EXPECT_THAT(problems({{"config.yaml", "app: {batch_size: -1}\n"}}), Contains(HasSubstr("app.batch_size")));
}

// A few lines that stand for gigabytes.
TEST_F(Planning, RefusesYamlThatGrows) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const auto below = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 9; ++j) bomb += (j == 0 ? "" : ", ") + below;
    bomb += "]\n";
  }
  EXPECT_FALSE(problems({{"config.yaml", bomb}}).empty());
  EXPECT_FALSE(problems({{"rules/a.yaml", rule("a", "a") + bomb}}).empty());
}

}  // namespace
}  // namespace daemoneye::bundle
