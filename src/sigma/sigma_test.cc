// Sigma rules as our SQL runs them, held against a matcher that reads the Sigma rule itself.
#include "sigma/sigma.h"

#include <gmock/gmock.h>

#include "detect/rule.h"
#include "sigma/held.h"

namespace daemoneye::sigma {
namespace {

using testing::data;
using testing::DirectMatcher;
using testing::Fields;
using testing::fields_of;
using ::testing::HasSubstr;
using testing::Held;
using testing::hold;
using testing::Rows;
using testing::shown;
using testing::text_of;
using testing::translated;
using testing::whole;

TEST(Sigma, EachFormFindsWhatItShouldAndNothingElse) {
  Rows rows;
  Held all;
  unsigned seed = 1;
  for (const auto& vector : YAML::LoadFile(data + "vectors.yaml")) {
    SCOPED_TRACE(vector["name"].Scalar());
    const auto rule = whole(vector);
    const auto yaml = translated(rule);
    if (yaml.empty()) continue;
    std::vector<Fields> named;
    for (const char* kind : {"hits", "misses"}) {
      for (const auto& row : vector[kind]) named.push_back(fields_of(row));
    }
    const auto first = rows.add(named);
    const auto found = rows.found(yaml);
    const DirectMatcher matcher(rule);
    for (std::size_t i = 0; i < named.size(); ++i) {
      const bool wanted = i < vector["hits"].size();
      EXPECT_EQ(found.contains(first + i), wanted) << shown(named[i]) << "\n" << yaml;
      EXPECT_EQ(matcher.matches(named[i]), wanted) << "the matcher itself: " << shown(named[i]);
    }
    const auto held = hold(rows, rule, yaml, seed++);
    all += held;
  }
  EXPECT_GT(all.rows_found, 500U);
  EXPECT_GT(all.rows_not_found, 1000U);
  EXPECT_THAT(all.not_decided, ::testing::IsEmpty());
}

TEST(Sigma, RefusesWhatItCannotSayExactlyAndSaysWhy) {
  for (const auto& one : YAML::LoadFile(data + "refusals.yaml")) {
    SCOPED_TRACE(one["why"].Scalar());
    const auto outcomes = translate(text_of(whole(one["rule"])), "rule.yml");
    ASSERT_EQ(outcomes.size(), 1U);
    ASSERT_FALSE(outcomes.front()) << outcomes.front()->yaml;
    EXPECT_THAT(outcomes.front().error().reason, HasSubstr(one["why"].Scalar()));
    EXPECT_EQ(outcomes.front().error().file, "rule.yml");
  }
}

// Random rules of all forms at once, over rows made for each.
class RandomRule {
 public:
  explicit RandomRule(unsigned seed) : random_(seed) {}

  YAML::Node make() {
    YAML::Node detection;
    std::vector<std::string> names;
    const std::size_t count = 1 + random_() % 4;
    for (std::size_t i = 0; i < count; ++i) {
      names.push_back((random_() % 2 == 0 ? "sel_" : "filter_") + std::to_string(i));
      detection[names.back()] = search();
    }
    detection["condition"] = condition(names, 0);
    YAML::Node rule;
    rule["detection"] = detection;
    return rule;
  }

 private:
  template <std::size_t N>
  std::string one_of(const char* const (&words)[N]) {
    return words[random_() % N];
  }
  YAML::Node search() {
    const auto kind = random_() % 8;
    if (kind == 0) return YAML::Node(value());
    YAML::Node node;
    if (kind <= 2) {
      for (std::size_t i = 0; i < 2; ++i) node.push_back(kind == 1 ? map() : YAML::Node(value()));
      return node;
    }
    return map();
  }
  YAML::Node map() {
    YAML::Node node;
    for (std::size_t i = 0, count = 1 + random_() % 3; i < count; ++i) {
      const auto field = one_of({"Image", "CommandLine", "CommandLine", "ParentImage", "User", "CurrentDirectory"});
      const auto words = one_of({"", "", "|contains", "|contains", "|startswith", "|endswith", "|contains|all",
                                 "|contains|windash", "|base64offset|contains", "|wide|base64offset|contains",
                                 "|contains|cased", "|cased", "|re", "|re|i"});
      const std::string key = field + words;
      if (node[key]) continue;
      const bool is_regexp = words.starts_with("|re"), is_base64 = words.find("base64") != std::string::npos;
      const auto text = [&] {
        if (is_regexp) return one_of({"ba+sh", "^/usr/(bin|sbin)/", "[0-9]{2,3}$", "x\\.y\\s*z", "(one|two) -[a-z]"});
        if (is_base64) return one_of({"/bin/bash", "curl x", "eval"});
        return value();
      };
      if (random_() % 3 == 0) {
        YAML::Node list;
        for (std::size_t k = 0, size = 1 + random_() % 3; k < size; ++k) list.push_back(text());
        if (words.empty() && random_() % 4 == 0) list.push_back(YAML::Node());
        node[key] = list;
      } else {
        node[key] = text();
      }
    }
    return node;
  }
  std::string value() {
    return one_of({"/usr/bin/bash", "bash", "/bin/*sh", "a?c", "-enc /x", "100%", "under_score", "back\\slash",
                   "star\\*", "q\\?", "it's", "Root", "[x]", "one two", "Größe", "*", "x*y*z", "/tmp/", "\\\\*"});
  }
  std::string condition(const std::vector<std::string>& names, unsigned depth) {
    const auto kind = depth > 3 ? 0 : random_() % 9;
    const auto& name = names[random_() % names.size()];
    if (kind <= 2) return name;
    if (kind == 3) return "not " + condition(names, depth + 1);
    if (kind == 4) return "(" + condition(names, depth + 1) + ")";
    if (kind == 5) return one_of({"1 of them", "all of them", "any of them"});
    if (kind == 6) return one_of({"1 of ", "all of "}) + name.substr(0, name.find('_')) + "_*";
    return condition(names, depth + 1) + (kind == 7 ? " and " : " or ") + condition(names, depth + 1);
  }

  std::mt19937 random_;
};

TEST(Sigma, RandomRulesFindWhatTheDirectMatcherFinds) {
  Rows rows;
  Held all;
  for (unsigned seed = 0; seed < 120; ++seed) {
    const auto rule = whole(RandomRule(seed).make());
    SCOPED_TRACE(text_of(rule));
    const auto yaml = translated(rule);
    if (yaml.empty()) return;
    const auto held = hold(rows, rule, yaml, seed);
    all += held;
    if (HasFailure()) return;
  }
  EXPECT_GT(all.rows_found, 1000U);
  EXPECT_GT(all.rows_not_found, 1000U);
}

constexpr const char* kept = R"(title: 'Quotes "and" colons: kept'
id: 0A1B2C3D-0000-4000-8000-000000000001
status: test
description: |
    Two lines,
    é and a tab	here.
references:
    - https://example.org/?a=b#c
author: Some One (x), 'Other'
license: DRL 1.1
date: 2023-01-02
modified: 2024-05-06
tags:
    - attack.execution
    - attack.t1059.004
logsource:
    category: process_creation
    product: linux
detection:
    selection:
        CommandLine|contains: "a\nb"
    condition: selection
falsepositives:
    - 'Yes'
level: informational
)";

TEST(Sigma, KeepsWhatARuleSaysOfItself) {
  const auto outcomes = translate(kept, "a.yml");
  ASSERT_TRUE(outcomes.front()) << outcomes.front().error().reason;
  const auto rule = detect::parse_rule(outcomes.front()->yaml, "a.yaml");
  ASSERT_TRUE(rule) << outcomes.front()->yaml;
  EXPECT_EQ(rule->id, "0a1b2c3d-0000-4000-8000-000000000001");
  EXPECT_EQ(rule->title, "Quotes \"and\" colons: kept");
  EXPECT_EQ(rule->description, "Two lines,\né and a tab\there.");
  EXPECT_EQ(rule->author, "Some One (x), 'Other'");
  EXPECT_EQ(rule->license, "DRL 1.1");
  EXPECT_EQ(rule->severity, store::Severity::low);
  EXPECT_EQ(rule->status, detect::RuleStatus::active);
  EXPECT_EQ(rule->tags, (std::vector<std::string>{"attack.execution", "attack.t1059.004"}));
  EXPECT_EQ(rule->references, std::vector<std::string>{"https://example.org/?a=b#c"});
  EXPECT_EQ(rule->falsepositives, std::vector<std::string>{"Yes"});
  EXPECT_THAT(rule->sql, HasSubstr("LIKE '%a\nb%'"));
  EXPECT_THAT(outcomes.front()->yaml, HasSubstr("date 2023-01-02, modified 2024-05-06"));
}

TEST(Sigma, LevelsAndStatesBecomeOurs) {
  const auto with = [](const std::string& key, const std::string& value) {
    YAML::Node rule = YAML::Load("{detection: {s: {Image: a}, condition: s}}");
    rule[key] = value;
    return *detect::parse_rule(translated(whole(rule)), "r.yaml");
  };
  EXPECT_EQ(with("level", "critical").severity, store::Severity::critical);
  EXPECT_EQ(with("level", "High").severity, store::Severity::high);
  EXPECT_EQ(with("title", "x").severity, store::Severity::medium) << "without a level";
  EXPECT_EQ(with("status", "experimental").status, detect::RuleStatus::active);
  EXPECT_EQ(with("status", "deprecated").status, detect::RuleStatus::archived);
  EXPECT_EQ(with("title", "Some: Title, 1").id, "sigma-some-title-1") << "without an id";
}

TEST(Sigma, ReadsSeveralDocumentsAndGoesOnAfterABadOne) {
  const std::string good =
      "title: T\nlogsource: {category: process_creation}\ndetection: {s: {Image: a}, condition: s}\n";
  const auto outcomes = translate("id: bad-one\n---\n" + good + "---\n- list\n---\n", "many.yml");
  ASSERT_EQ(outcomes.size(), 3U);
  EXPECT_EQ(outcomes[0].error().id, "bad-one");
  EXPECT_TRUE(outcomes[1]);
  EXPECT_EQ(outcomes[2].error().reason, "not a YAML map of keys");
  EXPECT_THAT(translate("a: [", "x.yml").front().error().reason, HasSubstr("not YAML"));
  EXPECT_EQ(translate("", "x.yml").front().error().reason, "an empty file");
}

TEST(Sigma, ARefusalNamesTheLine) {
  const auto outcomes = translate(
      "title: T\nlogsource: {category: process_creation}\ndetection:\n  s:\n    Image: a\n    Wrong: b\n  condition: "
      "s\n",
      "r.yml");
  EXPECT_EQ(outcomes.front().error().line, 6U);
}

TEST(Sigma, HostileFilesAreBounded) {
  const auto reason = [](const std::string& text) { return translate(text, "x.yml").front().error().reason; };
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 12; ++i) {
    const auto before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) bomb += (k == 0 ? "" : ",") + before;
    bomb += "]\n";
  }
  const std::string head = "title: T\nlogsource: {category: process_creation}\n";
  EXPECT_THAT(reason(bomb + head + "detection: {s: *a11, condition: s}\n"), HasSubstr("where a value is wanted"));
  std::string wide = head + "x: &x {Image: [";
  for (int i = 0; i < 1000; ++i) wide += (i == 0 ? "" : ",") + std::string("a") + std::to_string(i);
  wide += "]}\ndetection:\n  s: [";
  for (int i = 0; i < 100; ++i) wide += (i == 0 ? "" : ",") + std::string("*x");
  EXPECT_THAT(reason(wide + "]\n  condition: s\n"), HasSubstr("more than 20000 values"));
  EXPECT_THAT(reason(std::string(300'000, 'a')), HasSubstr("larger than"));
  EXPECT_THAT(reason(","), HasSubstr("more than 100 documents"));
  EXPECT_FALSE(translate(std::string(50'000, '['), "x.yml").front());
  std::string deep = "a";
  for (int i = 0; i < 100; ++i) deep = "(" + deep + ")";
  EXPECT_THAT(reason(head + "detection: {a: {Image: x}, condition: '" + deep + "'}\n"), HasSubstr("nested deeper"));
  std::string many = head + "detection:\n  s:\n    CommandLine|contains: [";
  for (int i = 0; i < 1900; ++i)
    many += (i == 0 ? "" : ",") + std::string("some-quite-long-value-of-a-list-") + std::to_string(i);
  EXPECT_THAT(reason(many + "]\n  condition: s\n"), HasSubstr("as a rule")) << "longer than SQL may be";
}

TEST(SigmaTaxonomy, SaysWhatIsWrongWithADataFile) {
  EXPECT_FALSE(Taxonomy::bundled().sources.empty());
  const auto message = [](const std::string& text) { return Taxonomy::parse(text).error().message; };
  EXPECT_THAT(message("sources: 1"), HasSubstr("sources: missing, or not a list"));
  EXPECT_THAT(message("sources:\n - {category: x, from: t e, where: '1', products: [], select: [], keywords: [], "
                      "fields: {Image: colour}}"),
              HasSubstr("line 2: fields: there is no column colour"));
  EXPECT_THAT(message("["), HasSubstr("taxonomy, line"));
}

}  // namespace
}  // namespace daemoneye::sigma
