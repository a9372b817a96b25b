#include "config/change.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/schema.h"
#include "config/test_support.h"

namespace daemoneye::config {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Changes : public testing::Test {
 protected:
  Settings with(const std::string& yaml) {
    sources.config_file = folder.write("given.yaml", yaml);
    auto loaded = load(sources);
    EXPECT_TRUE(loaded) << texts(loaded.error());
    return loaded ? loaded->settings : Settings{};
  }
  std::vector<std::string> weaker(const std::string& before, const std::string& after) {
    std::vector<std::string> keys;
    for (const auto& one : weakenings(with(before), with(after))) keys.push_back(one.key);
    return keys;
  }
  TemporaryFolder folder;
  Sources sources = no_sources(folder);
};

TEST_F(Changes, AreToldKeyByKeyAndOnlyLiveOnesAreTakenUp) {
  const auto before = with("app: {batch_size: 10}");
  const auto after = with("app: {batch_size: 20}\nlogging: {level: debug}\n");
  const auto found = differences(before, after);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].key, "app.batch_size");
  EXPECT_EQ(found[0].before, "10");
  EXPECT_EQ(found[0].after, "20");
  EXPECT_FALSE(found[0].live);
  EXPECT_TRUE(found[1].live);
  const auto merged = with_live_keys(before, after);
  EXPECT_EQ(merged.logging.level, "debug");
  EXPECT_EQ(merged.app.batch_size, 10U);
  EXPECT_THAT(differences(before, before), IsEmpty());
}

TEST_F(Changes, OfSinksTellNamesAndNoAddress) {
  const auto found = differences(with(""), with("alerting: {sinks: [{type: webhook, name: w, url: https://h/t0ken}]}"));
  ASSERT_EQ(found.size(), 1U);
  EXPECT_THAT(found[0].after, HasSubstr("w (webhook, low)"));
  EXPECT_THAT(found[0].after, testing::Not(HasSubstr("t0ken")));
}

TEST_F(Changes, ThatGiveSomethingUpAreFound) {
  const auto sink = [](const std::string& text) { return "alerting: {sinks: [" + text + "]}"; };
  const std::pair<std::string, std::string> cases[] = {
      {"collection: {mask_arguments: false}", "collection.mask_arguments"},
      {"collection: {hash_executables: false}", "collection.hash_executables"},
      {"collection: {realtime: \"off\"}", "collection.realtime"},
      {"collection: {exclude: [\"name = 'x'\"]}", "collection.exclude"},
      {"metrics: {listen: \"0.0.0.0:9100\"}", "metrics.listen"},
      {"database: {retention_days: 1}", "database.retention_days"},
      {"database: {max_size_mb: 1}", "database.max_size_mb"},
      {"database: {on_damage: set_aside}", "database.on_damage"},
      {"audit: {checkpoint_interval_s: 3600}", "audit.checkpoint_interval_s"},
      {"audit: {checkpoint_entries: 100000}", "audit.checkpoint_entries"},
      {"audit: {path: /x/audit.redb, key_path: /k}", "audit.path"},
      {"app: {user: root}", "app.user"},
      {"app: {collector_user: root}", "app.collector_user"},
      {"bundle: {trusted_keys: /x}", "bundle.trusted_keys"},
      {"detection: {rule_paths: [/usr/share/daemoneye/rules]}", "detection.rule_paths"},
      {sink("{type: stdout, min_severity: high}"), "alerting.sinks"},
      {sink(""), "alerting.sinks"},
      {sink("{type: stdout}, {type: webhook, url: http://siem.example/x}"), "alerting.sinks"},
      {sink("{type: stdout}, {type: syslog, transport: udp, host: siem.example}"), "alerting.sinks"},
      {sink("{type: stdout}, {type: email, security: none, host: mx.example}"), "alerting.sinks"},
  };
  for (const auto& [yaml, key] : cases) EXPECT_THAT(weaker("", yaml), Contains(key)) << yaml;
}

TEST_F(Changes, ThatGiveNothingUpAskNothing) {
  for (const char* yaml :
       {"app: {batch_size: 5}", "metrics: {listen: 9100}", "metrics: {listen: \"[::1]:9100\"}",
        "audit: {checkpoint_interval_s: 10}", "database: {retention_days: 60}", "logging: {level: trace}",
        "alerting: {sinks: [{type: stdout}, {type: webhook, url: https://siem.example/x}]}",
        "alerting: {sinks: [{type: stdout}, {type: webhook, url: \"http://127.0.0.1:9/x\"}]}",
        "alerting: {sinks: [{type: stdout}, {type: syslog, transport: tls, host: siem.example}]}",
        "detection: {rule_paths: [/usr/share/daemoneye/rules, /etc/daemoneye/rules.d, /x]}"}) {
    EXPECT_THAT(weaker("", yaml), IsEmpty()) << yaml;
  }
  // The way back gives nothing up, either.
  EXPECT_THAT(weaker("collection: {mask_arguments: false}", ""), IsEmpty());
  EXPECT_THAT(weaker("metrics: {listen: \"0.0.0.0:9100\"}", "metrics: {listen: \"0.0.0.0:9100\"}"), IsEmpty());
}

TEST_F(Changes, WhatStandsWeakerThanTheDefaultsIsTold) {
  EXPECT_THAT(weaker_than_default(with("")), IsEmpty());
  EXPECT_THAT(weaker_than_default(with("detection: {rule_paths: [/x]}\ndatabase: {retention_days: 1}")), IsEmpty());
  const auto found = weaker_than_default(
      with("collection: {mask_arguments: false}\nalerting: {sinks: [{type: webhook, url: http://siem.example/}]}"));
  std::vector<std::string> keys;
  for (const auto& one : found) keys.push_back(one.key);
  EXPECT_THAT(keys, ElementsAre("collection.mask_arguments", "alerting.sinks"));
}

TEST_F(Changes, OfTheCollectorReachItUnlessItsFileLiesBesideState) {
  EXPECT_TRUE(concerns_collector("collection.exclude"));
  EXPECT_TRUE(concerns_collector("app.scan_interval_ms"));
  EXPECT_FALSE(concerns_collector("alerting.sinks"));
  const auto state_in = [&](const std::string& place) {
    const auto settings = with("app: {state_dir: " + place + "}\nipc: {socket_path: /run/x/y.sock}\n");
    return out_of_collectors_reach(sources, settings);
  };
  EXPECT_EQ(state_in("/srv/elsewhere"), "");
  EXPECT_EQ(state_in(folder.path() + "-beside"), "") << "a name that begins alike is no folder within";
  EXPECT_THAT(state_in(folder.path() + "/state"), HasSubstr("given.yaml lies in a folder that holds state"));
  sources.config_file.reset();
  EXPECT_EQ(out_of_collectors_reach(sources, Settings{}), "") << "the system's files lie apart from any state";
}

}  // namespace
}  // namespace daemoneye::config
