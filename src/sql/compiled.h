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

struct KeptHint {
  Hint hint;
  bool of_driving = false;  // about the source that new rows stand for in a stream
};

struct Compiled::State {
  std::vector<KeptHint> hints;
  std::string sql, streaming_sql, not_streamable;
  std::optional<DrivingReference> driving;
  std::vector<ResultColumn> columns;
  std::vector<NecessaryClause> necessary;
  std::set<std::string> tables, parameters, driving_conditions;
};

// Where the rows of a stream rule come from, or why there is no such place.
struct Streaming {
  const Source* driving = nullptr;
  std::string reason;
};
Streaming find_driving(const Select& select);
// The columns of the source that a condition of the outermost SELECT names, at whatever depth.
std::set<std::string> find_condition_columns(const Select& select, const Source& driving);
std::vector<KeptHint> find_hints(const Select& select, const Source* driving);

}  // namespace daemoneye::sql
