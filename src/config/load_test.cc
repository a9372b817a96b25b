#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>

#include "config/config.h"
#include "config/files.h"
#include "config/schema.h"
#include "config/test_support.h"

namespace daemoneye::config {
namespace {

using testing::Contains;
using testing::HasSubstr;

class Load : public testing::Test {
 protected:
  // The settings from this file's text alone.
  auto load_text(const std::string& text) {
    sources.config_file = folder.write("given.yaml", text);
    return load(sources);
  }
  std::string problems_of(const std::string& text) {
    const auto loaded = load_text(text);
    return loaded ? "(no problem)" : texts(loaded.error());
  }

  TemporaryFolder folder;
  Sources sources = no_sources(folder);
};

TEST_F(Load, GivesTheContractsDefaults) {
  sources.privileged = true;
  const auto loaded = load(sources);
  ASSERT_TRUE(loaded) << texts(loaded.error());
  const auto& s = loaded->settings;
  EXPECT_EQ(s.app.scan_interval_ms, 30000U);
  EXPECT_EQ(s.app.batch_size, 1000U);
  EXPECT_EQ(s.app.state_dir, "/var/lib/daemoneye");
  EXPECT_EQ(s.database.path, "/var/lib/daemoneye/events.redb");
  EXPECT_EQ(s.audit.path, "/var/lib/daemoneye-audit/audit.redb");
  EXPECT_EQ(s.audit.key_path, "/var/lib/daemoneye-audit/checkpoint.key");
  EXPECT_EQ(s.ipc.socket_path, "/run/daemoneye/DaemonEye.sock");
  EXPECT_EQ(s.app.user, "daemoneye");
  EXPECT_EQ(s.app.collector_user, "daemoneye-procmond");
  EXPECT_EQ(s.app.memory_budget_mb, 100U);
  EXPECT_EQ(s.database.retention_days, 30U);
  EXPECT_EQ(s.database.max_size_mb, 4096U);
  EXPECT_EQ(s.audit.checkpoint_interval_s, 300U);
  EXPECT_EQ(s.collection.realtime, "auto");
  EXPECT_TRUE(s.collection.hash_executables);
  EXPECT_EQ(s.collection.hash_cpu_percent, 10U);
  EXPECT_TRUE(s.collection.mask_arguments);
  EXPECT_TRUE(s.collection.exclude.empty());
  EXPECT_FALSE(s.collection.store_forks);
  EXPECT_EQ(s.ipc.max_pending_records, 1000U);
  EXPECT_EQ(s.ipc.max_concurrent_tasks, 10U);
  EXPECT_THAT(s.detection.rule_paths, testing::ElementsAre("/usr/share/daemoneye/rules", "/etc/daemoneye/rules.d"));
  EXPECT_EQ(s.detection.rule_timeout_ms, 30000U);
  ASSERT_EQ(s.alerting.sinks.size(), 1U);
  EXPECT_EQ(s.alerting.sinks[0].type, "stdout");
  EXPECT_EQ(s.alerting.sinks[0].name, "stdout");
  EXPECT_EQ(s.alerting.max_parallel_deliveries, 8U);
  EXPECT_EQ(s.alerting.retry.max_retries, 3U);
  EXPECT_EQ(s.alerting.retry.max_delay_ms, 60000U);
  EXPECT_EQ(s.alerting.breaker.failures, 5U);
  EXPECT_EQ(s.alerting.breaker.open_ms, 30000U);
  EXPECT_EQ(s.alerting.max_age_ms, 86400000U);
  EXPECT_EQ(s.alerting.dedup_window_ms, 300000U);
  EXPECT_EQ(s.metrics.listen, "");
  EXPECT_EQ(s.metrics.textfile, "");
  EXPECT_EQ(s.logging.level, "info");
  EXPECT_EQ(s.logging.format, "json");
  EXPECT_EQ(s.queues.at("events").capacity, 64U);
  EXPECT_EQ(s.queues.at("events").on_full, "wait");
  EXPECT_EQ(s.queues.at("detection").capacity, 256U);
}

TEST_F(Load, KeepsStateBelowTheUsersOwnFoldersWhenNotRoot) {
  auto loaded = load(sources);
  ASSERT_TRUE(loaded) << texts(loaded.error());
  EXPECT_EQ(loaded->settings.app.state_dir, sources.home + "/.local/state/daemoneye");
  EXPECT_EQ(loaded->settings.ipc.socket_path, sources.home + "/.local/state/daemoneye/DaemonEye.sock");
  sources.environment = {{"XDG_STATE_HOME", "/x/state"}, {"XDG_RUNTIME_DIR", "/run/user/7"}};
  loaded = load(sources);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->settings.database.path, "/x/state/daemoneye/events.redb");
  EXPECT_EQ(loaded->settings.audit.path, "/x/state/daemoneye-audit/audit.redb");
  EXPECT_EQ(loaded->settings.ipc.socket_path, "/run/user/7/daemoneye/DaemonEye.sock");
  sources.system_paths = true;
  loaded = load(sources);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->settings.database.path, "/var/lib/daemoneye/events.redb");
}

TEST(SourcesFromProcess, AreThoseOfTheSystemForItsUnit) {
  ::setenv("STATE_DIRECTORY", "/var/lib/daemoneye", 1);  // what systemd sets for StateDirectory=daemoneye
  EXPECT_TRUE(sources_from_process({}, {}).system_paths);
  ::setenv("STATE_DIRECTORY", "/home/u/.local/state/daemoneye", 1);
  EXPECT_FALSE(sources_from_process({}, {}).system_paths);
  ::unsetenv("STATE_DIRECTORY");
  EXPECT_FALSE(sources_from_process({}, {}).system_paths);
}

TEST_F(Load, SaysSoWhenThereIsNoFolderForState) {
  sources.home.clear();
  const auto loaded = load(sources);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(texts(loaded.error()), HasSubstr("app.state_dir"));
  sources.set = {"app.state_dir=/s/"};
  const auto given = load(sources);
  ASSERT_TRUE(given) << texts(given.error());
  EXPECT_EQ(given->settings.audit.path, "/s-audit/audit.redb");
}

TEST_F(Load, LetsPathsFollowTheStateFolderUnlessTheyAreSet) {
  const auto loaded = load_text("app: {state_dir: /srv/de/}\naudit: {path: /srv/ledger/a.redb}\n");
  ASSERT_TRUE(loaded) << texts(loaded.error());
  EXPECT_EQ(loaded->settings.database.path, "/srv/de/events.redb");
  EXPECT_EQ(loaded->settings.audit.path, "/srv/ledger/a.redb");
  EXPECT_EQ(loaded->settings.audit.key_path, "/srv/ledger/checkpoint.key");
  EXPECT_EQ(loaded->origin.at("audit.path"), folder.path() + "/given.yaml:2");
  EXPECT_EQ(loaded->origin.at("database.path"), "default");
}

TEST_F(Load, LogsTextOnATerminalUnlessTold) {
  sources.terminal = true;
  EXPECT_EQ(load(sources)->settings.logging.format, "text");
  sources.set = {"logging.format=json"};
  EXPECT_EQ(load(sources)->settings.logging.format, "json");
}

// Each layer, weakest first, can say app.batch_size; of every two the stronger wins.
TEST_F(Load, LetsTheStrongerOfEveryTwoLayersWin) {
  struct Layer {
    std::string name;
    std::function<std::string(Sources&, const TemporaryFolder&, int)> say;  // gives the origin
  };
  const std::vector<Layer> layers = {
      {"config.yaml",
       [](Sources&, const TemporaryFolder& f, int value) {
         return f.write("etc/config.yaml", "app:\n  batch_size: " + std::to_string(value)) + ":2";
       }},
      {"config.d/10",
       [](Sources&, const TemporaryFolder& f, int value) {
         return f.write("etc/config.d/10-a.yaml", "app:\n  batch_size: " + std::to_string(value)) + ":2";
       }},
      {"config.d/20",
       [](Sources&, const TemporaryFolder& f, int value) {
         return f.write("etc/config.d/20-b.yaml", "app:\n  batch_size: " + std::to_string(value)) + ":2";
       }},
      {"user",
       [](Sources&, const TemporaryFolder& f, int value) {
         return f.write("home/.config/daemoneye/config.yaml", "app:\n  batch_size: " + std::to_string(value)) + ":2";
       }},
      {"environment",
       [](Sources& s, const TemporaryFolder&, int value) {
         s.environment["DAEMONEYE_APP__BATCH_SIZE"] = std::to_string(value);
         return std::string("DAEMONEYE_APP__BATCH_SIZE");
       }},
      {"set", [](Sources& s, const TemporaryFolder&, int value) {
         s.set.push_back("app.batch_size=" + std::to_string(value));
         return std::string("--set");
       }}};
  for (std::size_t weak = 0; weak < layers.size(); ++weak) {
    for (std::size_t strong = weak + 1; strong < layers.size(); ++strong) {
      const TemporaryFolder own;
      Sources both = no_sources(own);
      const auto origin = layers[strong].say(both, own, 22);
      layers[weak].say(both, own, 11);
      const auto loaded = load(both);
      ASSERT_TRUE(loaded) << texts(loaded.error());
      EXPECT_EQ(loaded->settings.app.batch_size, 22U) << layers[strong].name << " over " << layers[weak].name;
      EXPECT_EQ(loaded->origin.at("app.batch_size"), origin);
    }
  }
}

TEST_F(Load, TakesTheNamedFileInPlaceOfAllOthers) {
  folder.write("etc/config.yaml", "app: {batch_size: 11}");
  folder.write("etc/config.d/a.yaml", "app: {scan_interval_ms: 1234}");
  folder.write("home/.config/daemoneye/config.yaml", "database: {retention_days: 3}");
  const auto loaded = load_text("logging: {level: debug}");
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->settings.app.batch_size, 1000U);
  EXPECT_EQ(loaded->settings.app.scan_interval_ms, 30000U);
  EXPECT_EQ(loaded->settings.database.retention_days, 30U);
  EXPECT_EQ(loaded->settings.logging.level, "debug");
  sources.config_file = folder.path() + "/missing.yaml";
  const auto missing = load(sources);
  ASSERT_FALSE(missing);
  EXPECT_THAT(texts(missing.error()), HasSubstr("missing.yaml: No such file"));
}

TEST_F(Load, TellsEveryProblemAtOnceWithFileLineKeyFoundAndAllowed) {
  sources.environment["DAEMONEYE_APP__BATCH_SIZ"] = "5";
  sources.environment["DAEMONEYE_LOGGING__LEVEL"] = "loud";
  sources.set = {"audit.pth=/x.redb", "nonsense"};
  const auto text = problems_of(
      "app:\n"
      "  scan_interval_msec: 5\n"
      "  batch_size: many\n"
      "database:\n"
      "  path: /tmp/events.db\n"
      "detecton: {}\n"
      "collection:\n"
      "  hash_executables: yes\n");
  const auto file = folder.path() + "/given.yaml";
  EXPECT_THAT(text, HasSubstr(file + ":2: app.scan_interval_msec: unknown key; did you mean app.scan_interval_ms?"));
  EXPECT_THAT(text, HasSubstr(file + ":3: app.batch_size: found the text 'many'; allowed: an integer from 1 to 65536"));
  EXPECT_THAT(text, HasSubstr(file + ":5: database.path: found the text '/tmp/events.db'; allowed: an absolute path "
                                     "that ends in .redb"));
  EXPECT_THAT(text, HasSubstr(file + ":6: detecton: unknown key; did you mean detection?"));
  EXPECT_THAT(text, HasSubstr(file + ":8: collection.hash_executables: found the text 'yes'; allowed: true or false"));
  EXPECT_THAT(text, HasSubstr("DAEMONEYE_APP__BATCH_SIZ: no such key; did you mean DAEMONEYE_APP__BATCH_SIZE?"));
  EXPECT_THAT(text, HasSubstr("DAEMONEYE_LOGGING__LEVEL: logging.level: found the text 'loud'; allowed: trace, debug"));
  EXPECT_THAT(text, HasSubstr("--set: audit.pth: unknown key; did you mean audit.path?"));
  EXPECT_THAT(text, HasSubstr("--set: nonsense: found no '='"));
}

TEST_F(Load, RefusesWhatIsNotOnePlainMap) {
  EXPECT_THAT(problems_of("app: {batch_size: 1, batch_size: 2}"), HasSubstr("'batch_size' is there twice"));
  EXPECT_THAT(problems_of("app:\n  batch_size: 1\napp:\n  batch_size: 2\n"), HasSubstr("given.yaml:3: the key 'app'"));
  EXPECT_THAT(problems_of("app: [1, 2"), HasSubstr("given.yaml:1: not YAML"));
  EXPECT_THAT(problems_of("- a\n- b\n"), HasSubstr("found a list; allowed: a map of keys"));
  EXPECT_THAT(problems_of("app: 5"), HasSubstr("found the number 5; allowed: a map of keys"));
  EXPECT_THAT(problems_of("app: {}\n---\napp: {}\n"), HasSubstr("a second YAML document"));
  EXPECT_THAT(problems_of("app: {batch_size: [1]}"), HasSubstr("found a list; allowed: an integer"));
  EXPECT_THAT(problems_of("app: {batch_size: '5'}"), HasSubstr("found the text '5'"));
  EXPECT_THAT(problems_of("app: {batch_size: }"), HasSubstr("found nothing"));
  EXPECT_THAT(problems_of("app: {batch_size: !!int 5}"), HasSubstr("tags are not accepted"));
  EXPECT_THAT(problems_of("app.batch_size: 5"), HasSubstr("write the levels below each other"));
  EXPECT_THAT(problems_of("app: {user: 5}"), HasSubstr("needs quotes"));
  EXPECT_THAT(problems_of(std::string("app:\0", 5)), HasSubstr("NUL"));
  EXPECT_THAT(problems_of("app: {user: \"\xff\"}"), HasSubstr("UTF-8"));
  EXPECT_THAT(problems_of("database: {path: /same.redb}\naudit: {path: /same.redb}"), HasSubstr("must differ"));
}

TEST_F(Load, AcceptsEmptyFilesAndEmptySections) {
  EXPECT_TRUE(load_text(""));
  EXPECT_TRUE(load_text("# nothing\n"));
  EXPECT_TRUE(load_text("app:\nlogging: {}\n"));
}

TEST_F(Load, RefusesFilesBuiltToHarm) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    bomb += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 9; ++i) bomb += std::string(i == 0 ? "*" : ",*") + static_cast<char>(c - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(problems_of(bomb), HasSubstr("aliases are not accepted"));
  EXPECT_THAT(problems_of(std::string(2 * 1024 * 1024, '#')), HasSubstr("larger than 1048576 bytes"));
  EXPECT_THAT(problems_of("app: " + std::string(500, '[')), HasSubstr("nested deeper than 16"));
  EXPECT_THAT(problems_of("app: [" + std::string(100'000, ',') + "]"), HasSubstr("given.yaml:1"));
  EXPECT_THAT(problems_of("app: {user: " + std::string(5000, 'x') + "}"), HasSubstr("at most 4096"));
}

TEST_F(Load, IgnoresFilesOthersThanRootCanWriteWhenPrivileged) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: a file of root's is made and looked at as root";
  sources.privileged = true;
  const auto main = folder.write("etc/config.yaml", "app: {batch_size: 11}");
  ASSERT_EQ(load(sources)->settings.app.batch_size, 11U);

  ::chmod(main.c_str(), 0666);
  auto loaded = load(sources);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->settings.app.batch_size, 1000U);
  EXPECT_THAT(loaded->notices, Contains(HasSubstr(main + " is ignored by a privileged start")));

  ::chmod(main.c_str(), 0644);
  ::chmod((folder.path() + "/etc").c_str(), 0777);
  EXPECT_THAT(load(sources)->notices, Contains(HasSubstr("the folder " + folder.path() + "/etc can be written")));
  ::chmod((folder.path() + "/etc").c_str(), 0755);

  ASSERT_EQ(::chown(main.c_str(), 12345, 0), 0);
  EXPECT_THAT(load(sources)->notices, Contains(HasSubstr("belongs to uid 12345")));

  sources.config_file = main;
  const auto named = load(sources);
  ASSERT_FALSE(named);
  EXPECT_THAT(texts(named.error()), HasSubstr("not read by a privileged start"));

  sources.privileged = false;
  EXPECT_EQ(load(sources)->settings.app.batch_size, 11U);
}

TEST_F(Load, SaysWhichNamesInConfigDAreNotRead) {
  folder.write("etc/config.d/a.yml", "app: {batch_size: 11}");
  const auto loaded = load(sources);
  ASSERT_TRUE(loaded);
  EXPECT_THAT(loaded->notices, Contains(HasSubstr("a.yml is ignored")));
}

TEST_F(Load, LetsAnotherRoomJudgeValues) {
  register_validator("collection.exclude", [](const std::string& text) -> Result<void> {
    if (text == "bad") return fail(Errc::invalid_input, "not a condition");
    return {};
  });
  EXPECT_TRUE(load_text("collection: {exclude: [\"name = 'x'\"]}"));
  EXPECT_THAT(problems_of("collection:\n  exclude:\n    - \"name = 'x'\"\n    - bad\n"),
              HasSubstr("given.yaml:2: collection.exclude[1]: not a condition"));
  register_validator("collection.exclude", [](const std::string&) -> Result<void> { return {}; });
}

TEST_F(Load, PutsTheBundlesFragmentBetweenTheSystemsFilesAndTheUsers) {
  folder.write("etc/config.d/10.yaml", "app: {batch_size: 10, scan_interval_ms: 11000, memory_budget_mb: 200}\n");
  folder.write("etc/bundle/current/config.fragment",
               "app: {batch_size: 20, scan_interval_ms: 12000}\nlogging: {level: warn}\n");
  folder.write("home/.config/daemoneye/config.yaml", "app: {batch_size: 30}\n");
  auto loaded = load(sources);
  ASSERT_TRUE(loaded) << texts(loaded.error());
  EXPECT_EQ(loaded->settings.app.batch_size, 30U) << "the user's";
  EXPECT_EQ(loaded->settings.app.scan_interval_ms, 12000U) << "the bundle's";
  EXPECT_EQ(loaded->settings.app.memory_budget_mb, 200U) << "the system's";
  EXPECT_EQ(loaded->settings.logging.level, "warn");
  EXPECT_EQ(loaded->origin["logging.level"], folder.path() + "/etc/bundle/current/config.fragment:2");
  EXPECT_EQ(rule_folders(loaded->settings).back(), folder.path() + "/etc/bundle/current");
  sources.environment["DAEMONEYE_LOGGING__LEVEL"] = "error";
  sources.set = {"app.scan_interval_ms=13000"};
  loaded = load(sources);
  ASSERT_TRUE(loaded) << texts(loaded.error());
  EXPECT_EQ(loaded->settings.logging.level, "error");
  EXPECT_EQ(loaded->settings.app.scan_interval_ms, 13000U);
}

TEST_F(Load, FindsTheBundleWhereTheGivenFileSays) {
  folder.write("etc/bundle/current/config.fragment", "app: {batch_size: 20}\n");
  folder.write("elsewhere/current/config.fragment", "app: {batch_size: 21}\n");
  const auto loaded = load_text("bundle: {path: " + folder.path() + "/elsewhere}\n");
  ASSERT_TRUE(loaded) << texts(loaded.error());
  EXPECT_EQ(loaded->settings.app.batch_size, 21U);
  sources.bundle_fragment = "app: {batch_size: 22}\n";
  EXPECT_EQ(load(sources)->settings.app.batch_size, 22U) << "another one is tried";
  sources.bundle_fragment = "";
  EXPECT_EQ(load(sources)->settings.app.batch_size, 1000U) << "none";
}

TEST_F(Load, LetsNoBundleSayWhereTheStateIsAndWhoIsTrusted) {
  for (const auto* own :
       {"bundle: {trusted_keys: /tmp}", "bundle: {path: /tmp}", "audit: {path: /tmp/a/b.redb}", "app: {user: root}",
        "app: {state_dir: /tmp/s}", "ipc: {socket_path: /tmp/s}", "database: {path: /tmp/x.redb}"}) {
    sources.bundle_fragment = own;
    const auto loaded = load(sources);
    ASSERT_FALSE(loaded) << own;
    EXPECT_THAT(texts(loaded.error()), HasSubstr("config.fragment:1")) << own;
    EXPECT_THAT(texts(loaded.error()), HasSubstr("no bundle may set it")) << own;
  }
  sources.bundle_fragment = "no_such: key";
  EXPECT_THAT(texts(load(sources).error()), HasSubstr("unknown key"));
}

}  // namespace
}  // namespace daemoneye::config
