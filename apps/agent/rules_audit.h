// Which rules are in force, in words for the ledger.
#pragma once

#include <string>

#include "detect/rule.h"

namespace daemoneye::apps {

// JSON: how many, a digest over id, version, status and file of all of them, and what differs from `before`.
std::string rules_audit(const detect::RuleSet* before, const detect::RuleSet& now);

}  // namespace daemoneye::apps
