// What compile() keeps; seen by the room's own files only.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sql/ast.h"
#include "sql/sql.h"

namespace daemoneye::sql {

struct Compiled::State {
  std::string sql, streaming_sql, not_streamable;
  std::optional<DrivingReference> driving;
  std::vector<ResultColumn> columns;
  std::set<std::string> tables, parameters, driving_columns;
};

// Where the rows of a stream rule come from, or why there is no such place.
struct Streaming {
  const Source* driving = nullptr;
  std::string reason;
};
Streaming find_driving(const Select& select);

}  // namespace daemoneye::sql
