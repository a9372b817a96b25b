// The SQL front door. Text -> lexer, parser -> AST -> binder -> SQL printed from the AST. Pure: touches no database.
// What the AST cannot hold cannot be asked.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sql/necessary.h"

namespace daemoneye::sql {

struct Limits {
  std::size_t max_text_bytes = 64 * 1024;
  unsigned max_nesting = 16;  // of SELECTs
  unsigned max_expression_depth = 100;
  unsigned max_joins = 8;
  unsigned max_result_columns = 256;
  std::size_t max_in_values = 1000;
};

// A refusal: where, what was found, what is allowed.
struct SqlError {
  unsigned line = 1, column = 1;  // from 1, columns in bytes
  std::string token;              // as found, printable, bounded
  std::string message;            // "unknown column comand_line; did you mean command_line?"
};
// "line 1, column 8: message" and then the source line with a caret below it.
std::string to_string(const SqlError& error, std::string_view text);
// A message without what the statement has in quotes, bounded: to be kept where the text itself may not.
std::string without_quoted(std::string_view message);

struct ResultColumn {
  std::string name;
  bool is_time = false;  // a time column passed through unchanged: shown as ISO 8601
};

// Where a rule's rows come from, for streaming.
struct DrivingReference {
  std::string table;  // "process_events" or "processes"
  std::string alias;  // as it is called in the statement
};

class Compiled {
 public:
  [[nodiscard]] const std::string& sql() const;  // derived, for Connection::run
  // The same with the driving reference reading the rows given to Connection::begin_stream(), and the driving
  // row's event id as one more column; empty when the statement cannot be streamed.
  [[nodiscard]] const std::string& streaming_sql() const;
  [[nodiscard]] const std::optional<DrivingReference>& driving() const;
  // Why it cannot be streamed ("uses GROUP BY: needs evaluate"); empty when it can.
  [[nodiscard]] const std::string& not_streamable() const;
  [[nodiscard]] const std::vector<ResultColumn>& columns() const;
  [[nodiscard]] const std::set<std::string>& tables() const;
  // Columns of the driving reference that the statement's conditions name: a change of another cannot change for which
  // rows it gives something.
  [[nodiscard]] const std::set<std::string>& driving_conditions() const;
  // What a driving row must hold for streaming_sql() to give anything for it, the rarest first; empty: any may matter.
  [[nodiscard]] const std::vector<NecessaryClause>& necessary() const;
  [[nodiscard]] const std::set<std::string>& parameters() const;  // names without the colon; "?N" for positional

  Compiled(Compiled&&) noexcept;
  Compiled& operator=(Compiled&&) noexcept;
  ~Compiled();
  struct State;
  explicit Compiled(std::unique_ptr<State> state);
  [[nodiscard]] const State& state() const { return *state_; }  // for the room's own files

 private:
  std::unique_ptr<State> state_;
};

std::expected<Compiled, SqlError> compile(std::string_view text, const Limits& limits = {});
// A lone condition over one table, for a rule's `except:`; becomes NOT coalesce((condition), 0) on the statement.
// Column names resolve against the statement's result columns first, then its tables.
std::expected<Compiled, SqlError> compile_with_exceptions(std::string_view text, const std::vector<std::string>& except,
                                                          const Limits& limits = {});

// What a statement does the long way, and what to write instead.
struct Hint {
  std::string kind;  // no_time_bound, leading_wildcard, cartesian_join, correlated_subquery, hash_of_exec
  unsigned line = 1, column = 1;
  std::string message, suggestion;
};
enum class Use : std::uint8_t { query, stream_rule, scheduled_rule };
std::vector<Hint> hints(const Compiled& compiled, Use use = Use::query);  // in the order of the text
std::string to_string(const Hint& hint);                                  // "line 1, column 15: message; suggestion"

// The catalog, for `tables`, `schema`, documents and completion.
struct CatalogColumn {
  std::string name, type, description;
  bool is_time = false;
  std::string unit;  // what its values are counted in or made of: "bytes", "process id", "JSON list"
};
struct CatalogTable {
  std::string name, description;
  std::vector<CatalogColumn> columns;
};
const std::vector<CatalogTable>& catalog();
const std::vector<std::string>& functions();  // the allow-list, sorted

}  // namespace daemoneye::sql
