// docs/rule-pack.md is made from the files in rules/: this writes it, and sees that it is as they are.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/file.h"
#include "base/text.h"
#include "detect/rule.h"

namespace daemoneye::detect {
namespace {

const std::string source = DAEMONEYE_SOURCE_DIR;

// "attack.t1059.004" -> T1059.004 with its address; a tactic -> its name.
std::string shown_tag(const std::string& tag) {
  std::string name = tag.starts_with("attack.") ? tag.substr(7) : tag;
  if (name.size() > 1 && name[0] == 't' && name[1] >= '0' && name[1] <= '9') {
    name[0] = 'T';
    std::string path = name;
    if (const auto dot = path.find('.'); dot != std::string::npos) path[dot] = '/';
    return "[" + name + "](https://attack.mitre.org/techniques/" + path + "/)";
  }
  for (char& c : name) c = c == '_' ? ' ' : c;
  return name;
}

bool is_tactic(const std::string& tag) { return tag.starts_with("attack.") && shown_tag(tag).front() != '['; }

std::string page() {
  const auto set = load_rules({source + "/rules"});
  EXPECT_TRUE(set.unhealthy.empty());
  std::string out =
      "# The bundled rules\n\n"
      "Made from the files in `rules/`; do not edit it. To write it anew:\n"
      "`DE_WRITE_PAGE=1 build/dev/bin/detect_test --gtest_filter=RulePage.*`\n\n";
  std::map<std::string, std::size_t> tactics;
  for (const auto& loaded : set.rules) {
    for (const auto& tag : loaded.rule.tags) tactics[tag] += is_tactic(tag) ? 1 : 0;
  }
  out += std::to_string(set.rules.size()) + " rules. By tactic of ATT&CK (a rule may have more than one):\n\n";
  for (const auto& [tag, count] : tactics) {
    if (count > 0) out += "- " + shown_tag(tag) + ": " + std::to_string(count) + "\n";
  }
  out += "\n| rule | severity | technique |\n|---|---|---|\n";
  for (const auto& [rule, compiled, packaged, digest] : set.rules) {
    std::string techniques;
    for (const auto& tag : rule.tags) {
      if (!is_tactic(tag)) techniques += (techniques.empty() ? "" : " ") + shown_tag(tag);
    }
    out += "| [" + rule.id + "](#" + rule.id + ") | " + std::string(store::to_string(rule.severity)) + " | " +
           techniques + " |\n";
  }
  for (const auto& [rule, compiled, packaged, digest] : set.rules) {
    out += "\n## " + rule.id + "\n\n" + std::string(base::trim(rule.description)) + "\n\n";
    out += "Severity " + std::string(store::to_string(rule.severity)) + "; ";
    out += rule.evaluate ? "runs by schedule" : "on the stream";
    out += "; one alert by " + [&] {
      std::string by;
      for (const auto& column : rule.dedup_by) by += (by.empty() ? "" : ", ") + column;
      return by.empty() ? std::string("process") : by;
    }() + ".\nMay also be: ";
    for (std::size_t i = 0; i < rule.falsepositives.size(); ++i) out += (i == 0 ? "" : " ") + rule.falsepositives[i];
    out += "\n";
  }
  return out;
}

TEST(RulePage, IsMadeFromTheFiles) {
  const std::string path = source + "/docs/rule-pack.md";
  const auto made = page();
  if (std::getenv("DE_WRITE_PAGE") != nullptr) std::ofstream(path) << made;
  const auto text = base::read_file(path, 1024 * 1024);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text, made) << "write it anew as its head says";
}

TEST(RulePage, ThePackReachesOverTheTactics) {
  const auto set = load_rules({source + "/rules"});
  EXPECT_GE(set.rules.size(), 40U);
  std::map<std::string, int> tactics;
  for (const auto& loaded : set.rules) {
    for (const auto& tag : loaded.rule.tags) tactics[tag] += is_tactic(tag) ? 1 : 0;
  }
  for (const char* tactic : {"execution", "persistence", "privilege_escalation", "defense_evasion", "credential_access",
                             "discovery", "command_and_control", "exfiltration", "impact", "initial_access"}) {
    EXPECT_GT(tactics[std::string("attack.") + tactic], 0) << tactic;
  }
}

}  // namespace
}  // namespace daemoneye::detect
