// Changes of a bound statement that mean the same and run faster. Each is done only where types, collations and the
// shape of the statement leave no doubt; everything else stays as it is. docs/adr/0013 says why these.
#pragma once

#include "sql/ast.h"

namespace daemoneye::sql {

// Everywhere in the statement: SELECTs that group, count or make distinct rows of process_events alone, whose
// conditions the store evaluates exactly, read rows grouped beforehand.
void rewrite(Select& select);

}  // namespace daemoneye::sql
