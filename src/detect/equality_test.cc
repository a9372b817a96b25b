// What the engine raises is what running each rule's SQL over all rows gives, on the same snapshot and with the same
// `now`: random rules, random batches.
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "detect/detect_test_util.h"
#include "sql/connection.h"

namespace daemoneye::detect::testing {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t bound) { return engine_() % bound; }
  template <class T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }

 private:
  std::mt19937_64 engine_;
};

const std::vector<std::string> names = {"sh", "bash", "nginx", "ls", "sleep"};
const std::vector<std::string> arguments = {"-c", "x y", "/tmp/a", "it's", "%", "A_b"};

std::string condition(Random& random, int depth) {
  if (depth > 0 && random.below(3) == 0) {
    return "(" + condition(random, depth - 1) + (random.below(2) == 0 ? " AND " : " OR ") +
           condition(random, depth - 1) + ")";
  }
  switch (random.below(10)) {
    case 0: return "e.name = '" + random.pick(names) + "'";
    case 1: return "e.name IN ('" + random.pick(names) + "', '" + random.pick(names) + "')";
    case 2: return "e.command_line LIKE '%" + std::string(random.below(2) == 0 ? "A" : "x Y") + "%'";
    case 3: return "e.command_line GLOB '*" + std::string(random.below(2) == 0 ? "/tmp/*" : "-c*") + "'";
    case 4: return "e.command_line REGEXP '" + std::string(random.below(2) == 0 ? "^\\S+ -c" : "(a|y)$") + "'";
    case 5: return "e.kind <> 'exec'";
    case 6: return "e.uid > " + std::to_string(random.below(4));
    case 7: return "e.parent_name IS NULL";
    case 8: return "NOT e.executable_path LIKE '/TMP/%'";
    default: return "has_ancestor(e.process_key, '" + random.pick(names) + "')";
  }
}

std::string statement(Random& random) {
  const std::string where = " WHERE " + condition(random, 3);
  switch (random.below(5)) {
    case 0:
      return "SELECT e.event_id, e.name, p.name AS parent FROM process_events e LEFT JOIN processes p "
             "ON p.process_key = e.parent_key" +
             where;
    // What is different after each batch, and at each moment.
    case 1:
      return "SELECT e.event_id, (SELECT count(*) FROM process_events h WHERE h.name = e.name) AS so_far, "
             "strftime('%Y-%m-%d %H:%M:%f', 'now') AS moment FROM process_events e" +
             where;
    case 2:
      return "SELECT e.event_id, ago('1h') / 1000 AS since, (SELECT max(q.pid) FROM processes q WHERE q.name = e.name) "
             "AS newest FROM process_events e" +
             where + " AND abs(ago('0s') / 1000) % 3 <> e.uid % 3";
    default: return "SELECT e.event_id, e.name, e.uid FROM process_events e" + where;
  }
}

// As an alert has the row.
std::string json_of(const sql::Compiled& compiled, const sql::Row& row) {
  auto object = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < row.size(); ++i) {
    auto& value = object[compiled.columns()[i].name];
    if (const auto* const number = std::get_if<std::int64_t>(&row[i])) value = *number;
    if (const auto* const text = std::get_if<std::string>(&row[i])) value = *text;
  }
  return object.dump();
}

event::ProcessEvent random_event(Random& random, event::Pid pid, const std::vector<event::ProcessEvent>& before) {
  auto event = make_exec(pid, random.pick(names), {random.pick(names), random.pick(arguments), random.pick(arguments)});
  if (random.below(4) == 0) event.process.executable_path = "/tmp/" + event.process.name;
  if (random.below(3) != 0) event.process.uid = static_cast<std::uint32_t>(random.below(5));
  if (random.below(5) == 0) event.kind = event::EventKind::seen;
  if (!before.empty() && random.below(2) == 0) {
    const auto& parent = random.pick(before);
    event.process.parent_key = parent.process.key;
    event.process.ppid = parent.process.key.pid;
    event.parent_name = parent.process.name;
  }
  return event;
}

TEST(StreamEvaluation, RaisesExactlyWhatEachRuleGivesOverAllRows) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Random random(seed);
    Rig rig;
    std::vector<std::pair<std::string, std::string>> rules;
    for (int i = 0; i < 12; ++i) {
      rules.emplace_back("rule-" + std::to_string(i), statement(random));
      rig.write_rule(rules.back().first, rules.back().second);
    }
    rig.start();
    auto connection = sql::Connection::open(rig.options.store_path, "");
    ASSERT_TRUE(connection);
    std::vector<event::ProcessEvent> all;
    std::multiset<std::string> raised, expected;
    event::Pid pid = 1;
    // What is there when the engine begins is caught up with, by the time of its events: not with what is compared.
    rig.commit({make_exec(pid, "nobody's", {"nobody's"})});
    ASSERT_TRUE(rig.settled());
    for (int batch = 0; batch < 10; ++batch) {
      std::vector<event::ProcessEvent> events;
      for (std::size_t i = 0; i < 1 + random.below(30); ++i) {
        events.push_back(random_event(random, ++pid, all));
        all.push_back(events.back());
      }
      const auto commit = rig.commit(std::move(events));
      ASSERT_TRUE(rig.settled());
      // Nothing came after it: this is the snapshot that the rules saw.
      for (const auto& [id, sql] : rules) {
        auto compiled = sql::compile(sql);
        ASSERT_TRUE(compiled) << sql << ": " << compiled.error().message;
        sql::RunOptions options;
        options.now = commit.time;
        const auto stats = (*connection)->run(*compiled, options, [&](const sql::Row& row) {
          const auto event = std::get<std::int64_t>(row.at(0));
          if (event >= commit.first_event && event <= commit.last_event) expected.insert(id + json_of(*compiled, row));
          return true;
        });
        ASSERT_TRUE(stats) << sql << ": " << stats.error().message;
      }
    }
    for (const auto& alert : rig.alerts()) {
      if (!alert.row_json.starts_with("{\"event_id\":1,")) raised.insert(alert.rule_id + alert.row_json);
    }
    EXPECT_FALSE(expected.empty());
    EXPECT_EQ(raised, expected) << "seed " << seed;
  }
}

}  // namespace
}  // namespace daemoneye::detect::testing
