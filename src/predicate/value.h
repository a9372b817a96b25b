// SQLite's comparison of values: storage classes, column affinity, exact integers against reals.
#pragma once

#include <compare>
#include <string>

#include "event/columns.h"

namespace daemoneye::predicate {

// A constant after the affinity that SQLite applies to it when it is compared with a column of this type.
event::Value with_affinity(const event::Value& constant, event::ColumnType column);
// NULL < numbers < text; text by its bytes. Reals must not be NaN.
std::strong_ordering compare(const event::Value& a, const event::Value& b);
// As CAST(value AS TEXT); NULL gives "".
std::string to_text(const event::Value& value);
std::string real_to_text(double value);  // SQLite's 15 significant digits: "1.5", "100.0", "1.0e+15"

}  // namespace daemoneye::predicate
