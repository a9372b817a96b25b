// How a statement is done, for people and as JSON: what is pushed into the scans, what they read, where the time went;
// and what could be written better.
#pragma once

#include <string>
#include <vector>

#include "sql/connection.h"
#include "sql/sql.h"

namespace daemoneye::cli {

// `stats`: of the run, or null when it was only read.
std::string explain_text(const sql::Compiled& compiled, const sql::RunStats* stats);
std::string explain_json(const sql::Compiled& compiled, const sql::RunStats* stats);

std::string hints_text(const std::vector<sql::Hint>& hints);  // a line a hint, "hint: …"
std::string hints_json(const std::vector<sql::Hint>& hints);

}  // namespace daemoneye::cli
