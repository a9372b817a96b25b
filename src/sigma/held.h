// A Sigma rule's translation, run over rows in a store, held against the matcher that reads the rule itself. For tests.
#pragma once

#include <gtest/gtest.h>

#include <charconv>
#include <set>

#include "base/text.h"
#include "detect/detect_test_util.h"
#include "detect/rule.h"
#include "event/columns.h"
#include "sigma/direct_matcher.h"
#include "sigma/row_maker.h"
#include "sigma/sigma.h"

namespace daemoneye::sigma::testing {

inline const std::string data = DAEMONEYE_SOURCE_DIR "/tests/data/sigma/";

// A rule of only what the test is about.
inline YAML::Node whole(const YAML::Node& part) {
  YAML::Node rule = YAML::Clone(part);
  if (!rule["title"]) rule["title"] = "A rule";
  if (!rule["logsource"]) rule["logsource"] = YAML::Load("{category: process_creation, product: linux}");
  return rule;
}

inline std::string text_of(const YAML::Node& node) {
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

inline Fields fields_of(const YAML::Node& map) {
  Fields row;
  for (const auto& one : map) {
    if (!one.second.IsNull()) row[one.first.Scalar()] = one.second.Scalar();
  }
  return row;
}

// Whether the rule asks for the pid itself; without that each row has one that no rule asks for.
inline bool usable(const Fields& row) {
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

inline bool asks_for_pid(const std::string& yaml) { return yaml.find("e.pid ") != std::string::npos; }

inline std::string shown(const Fields& row) {
  std::string text;
  for (const auto& [field, value] : row) text += field + "=" + base::printable(value) + "; ";
  return text;
}

// How a translation did against the direct matcher, over rows made from the rule.
struct Held {
  std::size_t rows_found = 0, rows_not_found = 0;
  std::size_t branches = 0;              // values of searches that the condition asks for
  std::vector<std::string> not_decided;  // of these: no two rows were made between which they decide
  std::vector<std::string> not_asked;    // searches' values that the condition does not ask for

  Held& operator+=(const Held& other) {
    rows_found += other.rows_found;
    rows_not_found += other.rows_not_found;
    branches += other.branches;
    not_decided.insert(not_decided.end(), other.not_decided.begin(), other.not_decided.end());
    not_asked.insert(not_asked.end(), other.not_asked.begin(), other.not_asked.end());
    return *this;
  }
};

// Each branch is hit by a row and missed by another, and what else comes to a dice's mind.
inline Held hold(Rows& rows, const YAML::Node& rule, const std::string& yaml, unsigned seed) {
  Held held;
  RowMaker maker(rule, seed);
  const auto can_be_asked = [&](const Fields& row) {
    // A pid is never NULL, so a rule that asks for it can only be asked about rows that have one.
    return usable(row) && (!asks_for_pid(yaml) || row.contains("ProcessId"));
  };
  auto made = maker.make(60);
  std::erase_if(made, [&](const Fields& row) { return !can_be_asked(row); });
  for (const auto& branch : maker.branches(can_be_asked)) {
    if (!branch.used) {
      held.not_asked.push_back(branch.name);
      continue;
    }
    ++held.branches;
    if (!branch.shown) held.not_decided.push_back(branch.name);
    if (branch.shown) made.insert(made.end(), {branch.with, branch.without});
  }
  const auto first = rows.add(made);
  const auto found = rows.found(yaml);
  const DirectMatcher matcher(rule);
  for (std::size_t i = 0; i < made.size(); ++i) {
    const bool wanted = matcher.matches(made[i]);
    EXPECT_EQ(found.contains(first + i), wanted) << shown(made[i]) << "\n" << yaml;
    ++(wanted ? held.rows_found : held.rows_not_found);
  }
  return held;
}

inline std::string translated(const YAML::Node& rule) {
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

}  // namespace daemoneye::sigma::testing
