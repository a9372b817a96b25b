// Driven by the schema itself: a key that is added is tested without another line here.
#include "config/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "config/config.h"
#include "config/test_support.h"

namespace daemoneye::config {
namespace {

using testing::HasSubstr;

// One value of every wrong type, and values just outside of what is allowed.
std::vector<std::string> wrong_values(const Key& key) {
  switch (key.kind) {
    case Kind::integer:
      return {std::to_string(key.minimum - 1),
              std::to_string(key.maximum + 1),
              "99999999999999999999",
              "1.5",
              "text",
              "true",
              "[1]",
              "{a: 1}",
              "~",
              "'" + std::to_string(key.minimum) + "'",
              "0x10",
              ""};
    case Kind::boolean: return {"yes", "1", "'true'", "[true]", "~", "text"};
    case Kind::name: return {"5", "[a]", "'a b'", "''", "~", "-x", "x;y"};
    case Kind::path: return {"5", "relative/path.redb", "[/a.redb]", "~", "''", "true", "\"/a\\nb.redb\""};
    case Kind::address: return {"0", "70000", "host", "[1]", "~", "'a b:1'", "'1:2:3'", "-5"};
    case Kind::choice: return {"no-such-choice", "[x]", "~", "5"};
    case Kind::texts: return {"text", "5", "[5]", "[[a]]", "['']", "{a: b}", "[\"a\\nb\"]"};
    case Kind::paths: return {"/a", "[relative]", "[5]", "~", "{a: /b}"};
    case Kind::sinks: return {"stdout", "[stdout]", "[{}]", "[{type: [a]}]", "~", "{type: stdout}"};
  }
  return {};
}

TEST(Schema, RefusesWrongTypesAndRangesOfEveryKeyNamingItAndWhatIsAllowed) {
  const TemporaryFolder folder;
  for (const Key& key : schema()) {
    for (const auto& value : wrong_values(key)) {
      Sources sources = no_sources(folder);
      sources.set = {key.name + '=' + value};
      const auto loaded = load(sources);
      ASSERT_FALSE(loaded) << key.name << " took " << value;
      EXPECT_THAT(texts(loaded.error()), HasSubstr("--set: " + key.name)) << value;
      EXPECT_THAT(texts(loaded.error()), HasSubstr("allowed: ")) << value;
    }
  }
}

TEST(Schema, TakesBothEndsOfEveryRange) {
  const TemporaryFolder folder;
  for (const Key& key : schema()) {
    if (key.kind != Kind::integer) continue;
    for (const auto end : {key.minimum, key.maximum}) {
      Sources sources = no_sources(folder);
      sources.environment[environment_name(key.name)] = std::to_string(end);
      const auto loaded = load(sources);
      ASSERT_TRUE(loaded) << texts(loaded.error());
      // Read back: the member is wide enough for the range.
      EXPECT_EQ(key.get(loaded->settings), Value(end)) << key.name;
    }
  }
}

TEST(Schema, EveryKeyCanBeSetByFileEnvironmentAndFlagToItsDefault) {
  const TemporaryFolder folder;
  const auto defaults = load(no_sources(folder));
  ASSERT_TRUE(defaults) << texts(defaults.error());
  for (const auto& shown : show(*defaults)) {
    Sources by_flag = no_sources(folder);
    by_flag.set = {shown.key + '=' + shown.value_yaml};
    const auto flag = load(by_flag);
    ASSERT_TRUE(flag) << texts(flag.error());
    EXPECT_EQ(flag->origin.at(shown.key), "--set");
    EXPECT_EQ(to_yaml(*flag), to_yaml(*defaults)) << shown.key;
    Sources by_environment = no_sources(folder);
    by_environment.environment[environment_name(shown.key)] = shown.value_yaml;
    const auto environment = load(by_environment);
    ASSERT_TRUE(environment) << texts(environment.error());
    EXPECT_EQ(to_yaml(*environment), to_yaml(*defaults)) << shown.key;
  }
}

TEST(Schema, HasNoKeyThatIsAlsoASection) {
  for (const Key& key : schema()) EXPECT_FALSE(is_section(key.name)) << key.name;
}

class RandomValue {
 public:
  explicit RandomValue(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t bound) { return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_); }
  std::string word() {
    static const std::vector<std::string> pieces = {"a", "Z", "7", " ", "'", "\"",   "\\", "#", ": ", "é", "{",
                                                    "]", "-", "*", "&", "%", "true", "~",  "|", ">",  ",", "off"};
    std::string text;
    for (std::size_t i = 0, n = 1 + below(6); i < n; ++i) text += pieces[below(pieces.size())];
    return text;
  }
  Value of(const Key& key) {
    switch (key.kind) {
      case Kind::integer: return std::uniform_int_distribution<std::int64_t>(key.minimum, key.maximum)(random_);
      case Kind::boolean: return below(2) == 1;
      case Kind::name: return "u" + std::to_string(below(1000));
      case Kind::path: return key.may_be_off && below(2) == 0 ? std::string() : "/p/" + word() + "x" + key.suffix;
      case Kind::address: return below(2) == 0 ? std::string() : "10.0.0.1:" + std::to_string(1 + below(65535));
      case Kind::choice: return key.choices[below(key.choices.size())];
      case Kind::texts:
      case Kind::paths: {
        std::vector<std::string> list;
        for (std::size_t i = 0, n = below(4); i < n; ++i) {
          list.push_back((key.kind == Kind::paths ? "/" : "t") + word() + "x");
        }
        return list;
      }
      case Kind::sinks: {
        std::vector<SinkSettings> sinks;
        for (std::size_t i = 0, n = below(4); i < n; ++i) {
          SinkSettings sink;
          sink.type = "file";
          sink.name = "s" + std::to_string(i);
          sink.min_severity = below(2) == 0 ? "low" : "critical";
          if (below(2) == 0) sink.rules = {{word(), "*" + word()}, {word()}};
          if (below(2) == 0) sink.tags.exclude = {word()};
          if (below(2) == 0) sink.rate_limit = {1 + static_cast<std::uint32_t>(below(1000)), 1000};
          sink.options["path"] = "/" + word();
          sink.options["odd"] = word();
          sink.options["headers.X-" + word()] = word();
          sink.secrets["headers.Y." + word()] = {SecretReference::Kind::credential, "w"};
          sink.lists["to"] = {word(), word()};
          sink.text_template = "{{" + word() + "}}";
          sink.secrets["token"] = {below(2) == 0 ? SecretReference::Kind::env : SecretReference::Kind::file, "/w"};
          sinks.push_back(std::move(sink));
        }
        return sinks;
      }
    }
    return {};
  }

 private:
  std::mt19937 random_;
};

TEST(Schema, WhatIsShownLoadsBackToTheSameSettings) {
  const TemporaryFolder folder;
  for (unsigned seed = 1; seed <= 200; ++seed) {
    RandomValue random(seed);
    Sources sources = no_sources(folder);
    for (const Key& key : schema()) {
      if (random.below(2) == 0) sources.set.push_back(key.name + '=' + write_value(key, random.of(key)));
    }
    const auto first = load(sources);
    ASSERT_TRUE(first) << "seed " << seed << ": " << texts(first.error());
    const auto yaml = to_yaml(*first);
    Sources again = no_sources(folder);
    again.config_file = folder.write("shown.yaml", yaml);
    const auto second = load(again);
    ASSERT_TRUE(second) << "seed " << seed << ": " << texts(second.error()) << yaml;
    EXPECT_EQ(to_yaml(*second), yaml);
    EXPECT_EQ(digest_hex(*second), digest_hex(*first));
    for (const Key& key : schema()) {
      EXPECT_TRUE(key.get(second->settings) == key.get(first->settings)) << key.name;
    }
  }
}

TEST(Schema, ReadsBackEveryValueItWrites) {
  for (unsigned seed = 1; seed <= 100; ++seed) {
    RandomValue random(seed);
    for (const Key& key : schema()) {
      const Value value = random.of(key);
      const auto tree = parse_yaml(write_value(key, value));
      ASSERT_TRUE(tree) << write_value(key, value);
      const auto back = read_value(key, *tree, [&](unsigned, const std::string& name, const std::string& message) {
        ADD_FAILURE() << name << ' ' << message << ' ' << write_value(key, value);
      });
      ASSERT_TRUE(back);
      EXPECT_TRUE(*back == value) << write_value(key, value);
    }
  }
}

TEST(Address, IsLoopbackWithoutAHost) {
  const TemporaryFolder folder;
  Sources sources = no_sources(folder);
  for (const auto& [given, wanted] : std::map<std::string, std::string>{
           {"9464", "127.0.0.1:9464"}, {"0.0.0.0:9464", "0.0.0.0:9464"}, {"'[::1]:9464'", "[::1]:9464"}, {"off", ""}}) {
    sources.set = {"metrics.listen=" + given};
    const auto loaded = load(sources);
    ASSERT_TRUE(loaded) << texts(loaded.error());
    EXPECT_EQ(loaded->settings.metrics.listen, wanted);
  }
}

class Sinks : public testing::Test {
 protected:
  void SetUp() override {
    register_sink_type("file",
                       {{.name = "path", .required = true, .secret = false, .allowed = {}, .help = "where"},
                        {.name = "mode", .required = false, .secret = false, .allowed = {"a", "b"}, .help = ""}});
    register_sink_type("webhook", {{.name = "url", .required = true, .secret = false, .allowed = {}, .help = ""},
                                   {.name = "token", .required = false, .secret = true, .allowed = {}, .help = ""}});
  }
  std::string problems_of(const std::string& yaml) {
    Sources sources = no_sources(folder);
    sources.set = {"alerting.sinks=" + yaml};
    const auto loaded = load(sources);
    return loaded ? "(no problem)" : texts(loaded.error());
  }
  TemporaryFolder folder;
};

// Runs after the tests above, which take sinks of any type: registration lasts as long as the program.
TEST_F(Sinks, AreCheckedAgainstTheKeysOfTheirType) {
  Sources sources = no_sources(folder);
  sources.set = {
      "alerting.sinks=[{type: webhook, url: 'https://x', token: {env: TOKEN}}, {type: file, path: /a, mode: b}]"};
  const auto loaded = load(sources);
  ASSERT_TRUE(loaded) << texts(loaded.error());
  const auto& sinks = loaded->settings.alerting.sinks;
  EXPECT_EQ(sinks[0].options.at("url"), "https://x");
  EXPECT_EQ(sinks[0].secrets.at("token").where, "TOKEN");
  EXPECT_EQ(sinks[1].name, "file");

  EXPECT_THAT(problems_of("[{type: fil}]"),
              HasSubstr("alerting.sinks[0].type: found the text 'fil'; allowed: file, webhook"));
  EXPECT_THAT(problems_of("[{name: x}]"), HasSubstr("alerting.sinks[0].type: missing"));
  EXPECT_THAT(problems_of("[{type: file}]"), HasSubstr("alerting.sinks[0].path: missing"));
  EXPECT_THAT(problems_of("[{type: file, pth: /a}]"), HasSubstr("did you mean path?"));
  EXPECT_THAT(problems_of("[{type: file, path: /a, mode: c}]"), HasSubstr("allowed: a, b"));
  EXPECT_THAT(problems_of("[{type: file, path: /a, min_severity: huge}]"), HasSubstr("low, medium, high, critical"));
  EXPECT_THAT(problems_of("[{type: file, path: /a}, {type: file, path: /b}]"), HasSubstr("names must differ"));
  EXPECT_THAT(problems_of("[{type: file, path: /a, name: 'x y'}]"), HasSubstr("alerting.sinks[0].name"));
}

TEST_F(Sinks, HaveNumbersListsAndMapsThatAreChecked) {
  using Kind = SinkKey::Kind;
  const auto no_bang = [](const std::string& text) -> Result<void> {
    if (text.contains('!')) return fail(Errc::invalid_input, "a bang");
    return {};
  };
  register_sink_type("wide",
                     {{.name = "n", .kind = Kind::number, .minimum = 1, .maximum = 5},
                      {.name = "to", .kind = Kind::list, .check = no_bang},
                      {.name = "headers", .kind = Kind::map, .may_be_secret = true, .check = no_bang},
                      {.name = "url", .may_be_secret = true},
                      {.name = "ca", .file = SinkKey::File::read}},
                     [](const SinkSettings& sink) -> Result<void> {
                       if (sink.options.contains("n") && sink.options.at("n") == "5")
                         return fail(Errc::invalid_input, "not five");
                       return {};
                     });
  Sources sources = no_sources(folder);
  sources.set = {
      "alerting.sinks=[{type: wide, n: 4, to: [a, b], headers: {X-A: one, X.B: {credential: c}}, url: {env: U}, ca: "
      "/ca, format: template, template: 'x {{pid}}'}, {type: wide, name: two, to: c}]"};
  const auto loaded = load(sources);
  ASSERT_TRUE(loaded) << texts(loaded.error());
  const auto& sink = loaded->settings.alerting.sinks[0];
  EXPECT_EQ(sink.options.at("headers.X-A"), "one");
  EXPECT_EQ(sink.secrets.at("headers.X.B"), (SecretReference{SecretReference::Kind::credential, "c"}));
  EXPECT_EQ(sink.lists.at("to"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(sink.secrets.at("url").where, "U");
  EXPECT_EQ(sink.text_template, "x {{pid}}");
  EXPECT_EQ(loaded->settings.alerting.sinks[1].lists.at("to"), (std::vector<std::string>{"c"}));

  EXPECT_THAT(problems_of("[{type: wide, n: 6}]"), HasSubstr("allowed: an integer from 1 to 5"));
  EXPECT_THAT(problems_of("[{type: wide, n: 5}]"), HasSubstr("alerting.sinks[0]: not five"));
  EXPECT_THAT(problems_of("[{type: wide, to: []}]"), HasSubstr("alerting.sinks[0].to: found"));
  EXPECT_THAT(problems_of("[{type: wide, to: [a, b!]}]"), HasSubstr("alerting.sinks[0].to: a bang"));
  EXPECT_THAT(problems_of("[{type: wide, headers: {a: b!}}]"), HasSubstr("alerting.sinks[0].headers: a bang"));
  EXPECT_THAT(problems_of("[{type: wide, headers: {a: {text: s3cret}}}]"),
              testing::AllOf(HasSubstr("alerting.sinks[0].headers.a: a secret is given as"),
                             testing::Not(HasSubstr("s3cret"))));
  EXPECT_THAT(problems_of("[{type: wide, url: {credential: ../x}}]"), HasSubstr("a secret is given as"));
  EXPECT_THAT(problems_of("[{type: wide, ca: ca.pem}]"), HasSubstr("allowed: an absolute path"));
}

TEST_F(Sinks, TakeOrRefuseWhatTheySayOfTheAlertsThatTheyWant) {
  const auto good = problems_of(
      "[{type: file, path: /x, rules: {include: web-*, exclude: [web-noise, 'x?']}, tags: {include: [attack.t1059*]}, "
      "rate_limit: {alerts: 20}}]");
  EXPECT_EQ(good, "(no problem)");
  for (const auto& [yaml, wanted] : std::vector<std::pair<const char*, const char*>>{
           {"rules: web-*", "alerting.sinks[0].rules: found the text 'web-*'; allowed: a map of include and exclude"},
           {"rules: {only: [x]}", "alerting.sinks[0].rules.only: unknown key; allowed: include, exclude"},
           {"tags: {include: []}", "alerting.sinks[0].tags.include: found"},
           {"rate_limit: 20", "alerting.sinks[0].rate_limit: found the number 20; allowed: a map of alerts and per_ms"},
           {"rate_limit: {per_ms: 5000}",
            "alerting.sinks[0].rate_limit.alerts: missing; allowed: an integer from 1 to 1000000"},
           {"rate_limit: {alerts: 0}", "alerting.sinks[0].rate_limit.alerts: found"},
           {"rate_limit: {alerts: 1, per_ms: 5}", "allowed: an integer from 1000 to 86400000"},
           {"rate_limit: {alerts: 1, per: 5}",
            "alerting.sinks[0].rate_limit.per: unknown key; allowed: alerts, per_ms"}}) {
    EXPECT_THAT(problems_of("[{type: file, path: /x, " + std::string(yaml) + "}]"), HasSubstr(wanted)) << yaml;
  }
}

TEST_F(Sinks, RefuseAnInlineSecretWithoutShowingIt) {
  for (const auto* yaml :
       {"[{type: webhook, url: u, token: hunter2}]", "[{type: webhook, url: u, token: {env: ''}}]",
        "[{type: webhook, url: u, token: {text: hunter2}}]", "[{type: webhook, url: u, token: {file: hunter2}}]"}) {
    const auto text = problems_of(yaml);
    EXPECT_THAT(
        text,
        HasSubstr("alerting.sinks[0].token: a secret is given as {env: NAME}, {file: /PATH} or {credential: NAME}"));
    EXPECT_THAT(text, testing::Not(HasSubstr("hunter2")));
  }
}

}  // namespace
}  // namespace daemoneye::config
