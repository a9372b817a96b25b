// Changes of a bound statement that mean the same and run faster. Each is done only where types, collations and the
// shape of the statement leave no doubt; everything else stays as it is. docs/adr/0013 says why these.
#pragma once

#include "sql/ast.h"

namespace daemoneye::sql {

// Everywhere in the statement: SELECTs that group, count or make distinct rows of process_events alone, whose
// conditions the store evaluates exactly, read rows grouped beforehand.
void rewrite(Select& select);

// Joins of events with events, and EXISTS, by a process key or a pid: each side is read once. Not for a statement that
// is shown new rows: it looks up what belongs to them. Whether anything was changed.
bool rewrite_joins(Select& select);
bool may_have_joins(const Select& select);  // quickly: false when rewrite_joins() would change nothing

// Without columns, the same for all rows, and without an affinity of its own.
bool is_constant(const Expr& node);

}  // namespace daemoneye::sql
