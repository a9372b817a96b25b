// Every bundled rule against its cases in tests/data/rules/ID.yaml, through the store, SQL and the engine.
#include <yaml-cpp/yaml.h>

#include <map>
#include <set>

#include "detect/detect_test_util.h"
#include "detect/evaluator.h"

namespace daemoneye::detect::testing {
namespace {

const std::string source_dir = DAEMONEYE_SOURCE_DIR;

struct Case {
  std::string rule, why;
  bool match = false, scheduled = false;
  std::vector<event::ProcessEvent> events;
};

// Columns by name, and for short: `as` and `parent` name processes of the case.
class EventMaker {
 public:
  event::ProcessEvent make(const YAML::Node& map) {
    event::ProcessEvent event;
    std::string executable = map["executable_path"] ? map["executable_path"].as<std::string>() : "";
    std::string name = executable.substr(executable.rfind('/') + 1);
    const auto pid = static_cast<event::Pid>(++pid_);
    event.time.ns = test_epoch_ns + static_cast<std::int64_t>(pid) * 1'000'000;
    event.source = event::EventSource::ebpf;
    event.process.key.boot.fill(3);
    event.process.key.pid = pid;
    event.process.key.start_ticks = pid;
    event.process.name = name;
    event.process.uid = 0;
    event.process.user = "root";
    event.process.executable_state = event::ExecutableState::ok;
    event.process.start_time = event.process.collection_time = event.time;
    for (const auto& entry : map) set(event, entry.first.as<std::string>(), entry.second);
    if (map["as"]) named_[map["as"].as<std::string>()] = event;
    return event;
  }

 private:
  void set(event::ProcessEvent& event, const std::string& key, const YAML::Node& value) {
    if (key == "as") return;
    if (key == "arguments") {
      event.process.arguments = event::Arguments::from_list(value.as<std::vector<std::string>>());
      return;
    }
    if (key == "parent") {
      const auto& parent = named_.at(value.as<std::string>());
      event.process.ppid = parent.process.key.pid;
      event.process.parent_key = parent.process.key;
      event.parent_name = parent.process.name;
      event.parent_executable_path = parent.process.executable_path;
      if (parent.process.arguments) event.parent_command_line = parent.process.arguments->command_line();
      return;
    }
    const auto column = event::find_column(key);
    ASSERT_TRUE(column) << "no column " << key;
    event::Value wanted = value.as<std::string>();
    if (event::info(*column).type == event::ColumnType::integer) wanted = value.as<std::int64_t>();
    const auto done = event::set_column(event, *column, wanted);
    ASSERT_TRUE(done) << done.error().message;
  }

  // One counter for all cases: each process is its own.
  static inline int pid_ = 1000;
  std::map<std::string, event::ProcessEvent> named_;
};

std::vector<Case> read_cases(const std::string& rule) {
  std::vector<Case> cases;
  const auto root = YAML::LoadFile(source_dir + "/tests/data/rules/" + rule + ".yaml");
  for (const bool match : {true, false}) {
    for (const auto& node : root[match ? "match" : "ignore"]) {
      Case one{rule, node["why"].as<std::string>(), match, false, {}};
      EventMaker maker;
      for (const auto& event : node["events"]) one.events.push_back(maker.make(event));
      cases.push_back(std::move(one));
    }
  }
  return cases;
}

// The run right after the last event of the case.
void run_scheduled(const Case& one, const std::shared_ptr<const RuleSet>& set) {
  Rig rig;
  rig.commit(one.events);
  auto connection = sql::Connection::open(rig.options.store_path, "");
  ASSERT_TRUE(connection) << connection.error().message;
  RuleBoard board;
  board.replace(*set, {}, true);
  RuleLimits limits(0, {});
  const LiveLimits live(rig.options);
  Evaluator evaluator(*std::move(connection), rig.options, live, board, limits);
  evaluator.use(set);
  const auto raises = evaluator.scheduled(one.rule, {Timestamp{one.events.back().time.ns + 1}, false, {}}, {});
  ASSERT_TRUE(raises) << raises.error().message;
  EXPECT_EQ(raises->size(), one.match ? 1U : 0U) << one.rule << ": " << one.why;
}

TEST(BundledRules, MatchTheirTruePositivesAndNothingElseOfTheirCases) {
  const auto set = load_rules({source_dir + "/rules"});
  ASSERT_TRUE(set.unhealthy.empty());
  std::vector<Case> cases;
  for (const auto& loaded : set.rules) {
    const auto& id = loaded.rule.id;
    ASSERT_TRUE(std::filesystem::exists(source_dir + "/tests/data/rules/" + id + ".yaml")) << id << " has no cases";
    auto its_own = read_cases(id);
    for (auto& one : its_own) one.scheduled = loaded.rule.evaluate.has_value();
    EXPECT_TRUE(std::ranges::any_of(its_own, [](const Case& one) { return one.match; })) << id;
    EXPECT_TRUE(std::ranges::any_of(its_own, [](const Case& one) { return !one.match; })) << id;
    std::ranges::move(its_own, std::back_inserter(cases));
  }
  for (const auto& entry : std::filesystem::directory_iterator(source_dir + "/tests/data/rules")) {
    const auto id = entry.path().stem().string();
    EXPECT_TRUE(std::ranges::any_of(set.rules, [&](const LoadedRule& rule) { return rule.rule.id == id; }))
        << "cases of a rule that does not exist: " << id;
  }

  const auto scheduled = std::make_shared<const RuleSet>(set);
  std::erase_if(cases, [&](const Case& one) {
    if (one.scheduled) run_scheduled(one, scheduled);
    return one.scheduled;
  });

  Rig rig;
  rig.options.rule_paths = {source_dir + "/rules"};
  rig.start();
  std::vector<std::pair<event::EventId, event::EventId>> ranges;
  for (const auto& one : cases) {
    ASSERT_FALSE(one.events.empty()) << one.rule << ": " << one.why;
    const auto commit = rig.commit(one.events);
    ranges.emplace_back(commit.first_event, commit.last_event);
  }
  ASSERT_TRUE(rig.settled());
  // By evidence, since equal alerts are merged: which event raised or was counted on which rule's alert.
  std::map<std::string, std::uint64_t> counted;
  std::map<std::string, std::set<event::EventId>> evidence;
  for (const auto& alert : rig.alerts()) {
    counted[alert.rule_id] += alert.count;
    evidence[alert.rule_id].insert(alert.evidence.begin(), alert.evidence.end());
  }
  std::map<std::string, std::uint64_t> expected;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto& [first, last] = ranges[i];
    const auto& seen = evidence[cases[i].rule];
    for (event::EventId id = first; id <= last; ++id) {
      const bool wanted = cases[i].match && id == last;
      EXPECT_EQ(seen.contains(id), wanted)
          << cases[i].rule << ": " << cases[i].why << " (event " << id - first + 1 << ")";
    }
    if (cases[i].match) ++expected[cases[i].rule];
  }
  for (const auto& [rule, count] : expected) EXPECT_GE(counted[rule], count) << rule;
}

}  // namespace
}  // namespace daemoneye::detect::testing
