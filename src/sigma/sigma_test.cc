// Sigma rules as our SQL runs them, held against a matcher that reads the Sigma rule itself.
#include "sigma/sigma.h"

#include <gmock/gmock.h>

#include <charconv>
#include <set>

#include "base/file.h"
#include "base/text.h"
#include "detect/detect_test_util.h"
#include "detect/rule.h"
#include "event/columns.h"
#include "sigma/direct_matcher.h"
#include "sigma/row_maker.h"

namespace daemoneye::sigma {
namespace {

using testing::DirectMatcher;
using testing::Fields;
using ::testing::HasSubstr;
using testing::RowMaker;

const std::string data = DAEMONEYE_SOURCE_DIR "/tests/data/sigma/";

// A rule of only what the test is about.
YAML::Node whole(const YAML::Node& part) {
  YAML::Node rule = YAML::Clone(part);
  if (!rule["title"]) rule["title"] = "A rule";
  if (!rule["logsource"]) rule["logsource"] = YAML::Load("{category: process_creation, product: linux}");
  return rule;
}

std::string text_of(const YAML::Node& node) {
  YAML::Emitter out;
  out << node;
  return out.c_str();
}

// Rows of fields in a store; each has a pid of its own unless it says one.
class Rows {
 public:
  // Commits them; the number of the first.
  std::size_t add(const std::vector<Fields>& rows) {
    const std::size_t first = ids_.size();
    for (std::size_t at = 0; at < rows.size();) {
      std::vector<event::ProcessEvent> events;
      for (; at < rows.size() && events.size() < 500; ++at) events.push_back(event_of(rows[at]));
      const auto commit = rig_.commit(events);
      for (auto id = commit.first_event; id <= commit.last_event; ++id) ids_.push_back(id);
    }
    return first;
  }

  // Which of all rows the rule finds, by number.
  std::set<std::size_t> found(const std::string& rule_yaml) {
    std::set<std::size_t> numbers;
    const auto rule = detect::compile_rule(rule_yaml, "r.yaml");
    if (!rule) {
      ADD_FAILURE() << detect::to_string(rule.error().front()) << "\n" << rule_yaml;
      return numbers;
    }
    std::string sql = rule->rule.sql;
    sql.replace(0, std::string("SELECT ").size(), "SELECT e.event_id, ");
    const auto compiled = sql::compile(sql);
    auto connection = sql::Connection::open(rig_.options.store_path, "");
    if (!compiled || !connection) {
      ADD_FAILURE() << (compiled ? connection.error().message : compiled.error().message);
      return numbers;
    }
    const auto stats = (*connection)->run(*compiled, {}, [&](const sql::Row& row) {
      const auto id = std::get<std::int64_t>(row.front());
      numbers.insert(static_cast<std::size_t>(std::ranges::lower_bound(ids_, id) - ids_.begin()));
      return true;
    });
    if (!stats) ADD_FAILURE() << stats.error().message << "\n" << sql;
    return numbers;
  }

 private:
  event::ProcessEvent event_of(const Fields& row) {
    const auto number = static_cast<event::Pid>(++next_);
    auto event = detect::testing::make_exec(number, "x");
    event.process.executable_path.reset();
    event.process.arguments.reset();
    for (const auto& [field, value] : row) {
      if (field == "Image") event.process.executable_path = value;
      if (field == "CommandLine") event.process.arguments = event::Arguments::from_list({value});
      if (field == "CurrentDirectory") event.process.cwd = value;
      if (field == "User") event.process.user = value;
      if (field == "ParentImage") event.parent_executable_path = value;
      if (field == "ParentCommandLine") event.parent_command_line = value;
      if (field == "ProcessId") event.process.key.pid = static_cast<event::Pid>(std::stol(value));
      if (field == "LogonId") event.process.uid = static_cast<std::uint32_t>(std::stoul(value));
      if (field == "ParentProcessId") event.process.ppid = static_cast<event::Pid>(std::stol(value));
    }
    return event;
  }

  detect::testing::Rig rig_;
  std::vector<event::EventId> ids_;
  std::uint32_t next_ = 1'000'000;
};

Fields fields_of(const YAML::Node& map) {
  Fields row;
  for (const auto& one : map) {
    if (!one.second.IsNull()) row[one.first.Scalar()] = one.second.Scalar();
  }
  return row;
}

// Whether the rule asks for the pid itself; without that each row has one that no rule asks for.
bool usable(const Fields& row) {
  for (const char* field : {"ProcessId", "ParentProcessId", "LogonId"}) {
    const auto found = row.find(field);
    if (found == row.end()) continue;
    std::uint32_t value = 0;
    const auto& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value > 4'000'000) return false;
    if (value == 0 && std::string_view(field) != "LogonId") return false;
  }
  for (const auto& [field, value] : row) {
    if (value.find('\0') != std::string::npos) return false;
  }
  return true;
}

bool asks_for_pid(const std::string& yaml) { return yaml.find("e.pid ") != std::string::npos; }

std::string shown(const Fields& row) {
  std::string text;
  for (const auto& [field, value] : row) text += field + "=" + base::printable(value) + "; ";
  return text;
}

// Holds the translation against the direct matcher over rows made from the rule. How many rows it held.
struct Held {
  std::size_t hits = 0, misses = 0;
};
Held hold(Rows& rows, const YAML::Node& rule, const std::string& yaml, unsigned seed, std::vector<Fields> made = {}) {
  auto generated = RowMaker(rule, seed).make(60);
  made.insert(made.end(), generated.begin(), generated.end());
  std::erase_if(made, [&](const Fields& row) {
    // A pid is never NULL, so a rule that asks for it can only be asked about rows that have one.
    return !usable(row) || (asks_for_pid(yaml) && !row.contains("ProcessId"));
  });
  const auto first = rows.add(made);
  const auto found = rows.found(yaml);
  const DirectMatcher matcher(rule);
  Held held;
  for (std::size_t i = 0; i < made.size(); ++i) {
    const bool wanted = matcher.matches(made[i]);
    EXPECT_EQ(found.contains(first + i), wanted) << shown(made[i]) << "\n" << yaml;
    ++(wanted ? held.hits : held.misses);
  }
  return held;
}

std::string translated(const YAML::Node& rule) {
  const auto outcomes = translate(text_of(rule), "rule.yml");
  if (outcomes.size() != 1) {
    ADD_FAILURE() << outcomes.size() << " rules";
    return "";
  }
  if (!outcomes.front()) {
    ADD_FAILURE() << outcomes.front().error().reason << "\n" << text_of(rule);
    return "";
  }
  return outcomes.front()->yaml;
}

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
    all.hits += held.hits;
    all.misses += held.misses;
  }
  EXPECT_GT(all.hits, 500U);
  EXPECT_GT(all.misses, 1000U);
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
    all.hits += held.hits;
    all.misses += held.misses;
    if (HasFailure()) return;
  }
  EXPECT_GT(all.hits, 1000U);
  EXPECT_GT(all.misses, 1000U);
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

// A folder of Sigma rules, when there is one: how many come over, each held against the direct matcher.
// DE_SIGMA_RULES=FOLDER build/dev/bin/sigma_test --gtest_filter=SigmaFolder.*
TEST(SigmaFolder, ComesOverAndMeansTheSame) {
  const char* folder = std::getenv("DE_SIGMA_RULES");
  if (folder == nullptr) GTEST_SKIP() << "DE_SIGMA_RULES names no folder of Sigma rules";
  Rows rows;
  std::size_t imported = 0, refused = 0, never_hit = 0;
  Held all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const auto extension = entry.path().extension();
    if (extension != ".yml" && extension != ".yaml") continue;
    const auto text = base::read_file(entry.path().string(), max_file_bytes);
    ASSERT_TRUE(text) << text.error().message;
    SCOPED_TRACE(entry.path().string());
    const auto documents = YAML::LoadAll(*text);
    const auto outcomes = translate(*text, entry.path().filename().string());
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      if (!outcomes[i]) {
        ++refused;
        std::printf("refused %s: %s\n", outcomes[i].error().file.c_str(), outcomes[i].error().reason.c_str());
        continue;
      }
      ++imported;
      const auto held = hold(rows, documents[i], outcomes[i]->yaml, static_cast<unsigned>(imported));
      all.hits += held.hits;
      all.misses += held.misses;
      if (held.hits == 0) {
        ++never_hit;
        std::printf("no generated row is found by %s\n", entry.path().filename().c_str());
      }
    }
  }
  std::printf("imported %zu, refused %zu; rows found %zu, not found %zu; rules without a hit %zu\n", imported, refused,
              all.hits, all.misses, never_hit);
  EXPECT_GE(static_cast<double>(imported), 0.97 * static_cast<double>(imported + refused));
}

}  // namespace
}  // namespace daemoneye::sigma
