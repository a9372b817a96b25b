// What exceptions files and overrides make of the rules that were loaded.
#pragma once

#include "detect/rule.h"

namespace daemoneye::detect {

// Adds the conditions of set.exceptions to their rules and lets set.overrides win; what does not fit is added to
// set.unhealthy. What `previous` has compiled of the same rule with the same conditions is used again.
void adjust_rules(RuleSet& set, const RuleSet* previous);

}  // namespace daemoneye::detect
