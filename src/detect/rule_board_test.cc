#include "detect/rule_board.h"

#include <gtest/gtest.h>

namespace daemoneye::detect {
namespace {

using std::chrono::milliseconds;

RuleSet one_rule(const std::string& id, RuleStatus status = RuleStatus::active) {
  RuleSet set;
  Rule rule;
  rule.id = id;
  rule.version = "1";
  rule.status = status;
  set.rules.push_back(
      {std::move(rule), std::make_shared<const sql::Compiled>(*sql::compile("SELECT e.pid FROM process_events e"))});
  return set;
}

double state_metric(const std::string& id) {
  return observe::gauge("daemoneye_rule_state", "", {{"rule", id}}).value();
}

TEST(RuleBoard, TellsTheStateOfARuleAsAMetric) {
  const std::string id = "told-as-a-metric";
  RuleBoard board;
  board.replace(one_rule(id), {}, true);
  EXPECT_EQ(state_metric(id), 0);
  board.ran(id, milliseconds(150), 1, 0);
  EXPECT_EQ(state_metric(id), 1);
  board.failed(id, milliseconds(1), {Errc::invalid_input, "no"});
  EXPECT_EQ(state_metric(id), 2);
  for (unsigned i = 0; i < RuleBoard::suspend_after; ++i) board.failed(id, milliseconds(1), {Errc::timeout, "late"});
  EXPECT_EQ(state_metric(id), 3);
  board.replace(one_rule(id), {}, true);
  EXPECT_EQ(state_metric(id), 0);
  board.replace(one_rule(id, RuleStatus::disabled), {}, false);
  EXPECT_EQ(state_metric(id), -1);
  board.replace(one_rule(id), {}, false);
  EXPECT_EQ(state_metric(id), 0);
  board.replace({}, {}, false);
  EXPECT_EQ(state_metric(id), -1);
  RuleSet broken;
  broken.unhealthy.push_back({id, "/x.yaml", {{"/x.yaml", 1, "", "no YAML"}}, false, ""});
  board.replace(broken, {}, false);
  EXPECT_EQ(state_metric(id), 2);
}

}  // namespace
}  // namespace daemoneye::detect
