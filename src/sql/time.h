// Times as text, numbers and spans, the same when a literal is read and when a value is met at run time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.h"

namespace daemoneye::sql {

// ISO 8601, SQLite's own forms, or nanoseconds as digits (at least 16 of them: fewer are seconds or a year, and mean
// a mistake). invalid_input names the text.
Result<Timestamp> parse_time(std::string_view text);
// "YYYY-MM-DD HH:MM:SS.SSS" in UTC: what SQLite's date functions read to the millisecond.
std::string to_sqlite_time(Timestamp time);

}  // namespace daemoneye::sql
