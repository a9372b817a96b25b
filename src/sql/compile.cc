// The front door: text -> Compiled.
#include <algorithm>

#include "base/text.h"
#include "sql/binder.h"
#include "sql/catalog.h"
#include "sql/compiled.h"
#include "sql/parser.h"
#include "sql/printer.h"
#include "sql/rewrite.h"

namespace daemoneye::sql {
namespace {

// Stops a statement from growing without end while it is bound; SQLite's own limit is set above it.
constexpr std::size_t max_derived_bytes = 4 * 1024 * 1024;

// SQLite's parser stack as Debian builds it holds 100 symbols, and it cannot be made larger.
constexpr unsigned max_parser_depth = 98;

std::unique_ptr<Compiled::State> finish(Binder& binder, Select& select, const std::vector<OutputColumn>& columns) {
  auto state = std::make_unique<Compiled::State>();
  const auto streaming = find_driving(select);
  state->hints = find_hints(select, streaming.driving);  // of what was written, not of how it is done
  if (streaming.driving != nullptr) {
    state->necessary = find_necessary(select, *streaming.driving);
    state->driving_conditions = find_condition_columns(select, *streaming.driving);
  }
  rewrite(select);
  unsigned parser_depth = 0;
  state->sql = print(select, {}, &parser_depth);
  if (parser_depth > max_parser_depth) {
    refuse(select.at, "", "SELECTs and expressions are nested too deeply in each other; WITH takes them apart");
  }
  if (state->sql.size() > max_derived_bytes) refuse(select.at, "", "the statement grows too large when it is resolved");
  if (may_have_joins(select)) {
    Select joined = select;
    if (rewrite_joins(joined)) {
      auto sql = print(joined, {}, &parser_depth);
      if (parser_depth <= max_parser_depth && sql.size() <= max_derived_bytes) state->sql = std::move(sql);
    }
  }
  for (const auto& column : columns) state->columns.push_back({column.name, column.type == Type::time});
  state->tables = binder.tables();
  state->parameters = binder.parameters();
  state->not_streamable = streaming.reason;
  if (streaming.driving != nullptr) {
    const Source& source = *streaming.driving;
    state->driving = DrivingReference{source.printed_table, source.alias.empty() ? source.table : source.alias};
    const bool events = source.printed_table == "process_events";
    state->streaming_sql = print(select, {.driving = &source,
                                          .driving_table = events ? driving_events_table : driving_processes_table,
                                          .driving_id = driving_id_column});
  }
  return state;
}

// A statement whose rows are the result of another: SELECT * FROM (…).
Select wrap(Select inner) {
  Select outer;
  outer.at = inner.at;
  outer.height = inner.height + 1;
  Core core;
  core.at = inner.at;
  ResultTerm star;
  star.kind = ResultTerm::Kind::star;
  star.at = inner.at;
  core.results.push_back(std::move(star));
  Source source;
  source.at = inner.at;
  source.derived = std::move(inner);
  source.alias = "result";
  core.from.push_back(std::move(source));
  outer.cores.push_back(std::move(core));
  return outer;
}

// Whether a condition ANDed to WHERE would change more than which rows come out.
bool must_wrap(const Select& select) {
  const auto streaming = find_driving(select);
  return select.cores.size() > 1 || streaming.reason.starts_with("uses ");
}

}  // namespace

std::string to_string(const SqlError& error, std::string_view text) {
  std::string out =
      "line " + std::to_string(error.line) + ", column " + std::to_string(error.column) + ": " + error.message;
  const auto lines = base::split(text, '\n');
  if (error.line == 0 || error.line > lines.size()) return out;
  constexpr std::size_t shown_before = 60, shown_after = 40;
  const auto line = lines[error.line - 1];
  const std::size_t caret = std::min<std::size_t>(error.column - 1, line.size());
  std::size_t begin = caret > shown_before ? caret - shown_before : 0;
  while (begin < caret && (static_cast<unsigned char>(line[begin]) & 0xc0) == 0x80) ++begin;
  std::size_t end = std::min(line.size(), caret + shown_after);
  while (end < line.size() && (static_cast<unsigned char>(line[end]) & 0xc0) == 0x80) ++end;
  // Tabs and other control characters would move the caret away from its place.
  const auto one_line = [](std::string_view part) {
    std::string spaced(part);
    std::ranges::replace(spaced, '\t', ' ');
    return base::printable(spaced);
  };
  const std::string before = one_line(line.substr(begin, caret - begin));
  const auto width =
      std::ranges::count_if(before, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
  return out + "\n  " + before + one_line(line.substr(caret, end - caret)) + "\n  " +
         std::string(static_cast<std::size_t>(width), ' ') + "^";
}

std::string without_quoted(std::string_view message) {
  constexpr std::size_t most = 512;
  std::string out;
  bool quoted = false;
  for (const char c : message.substr(0, most)) {
    if (c == '\'') {
      out += quoted ? "…'" : "'";
      quoted = !quoted;
    } else if (!quoted) {
      out += c;
    }
  }
  return base::to_valid_utf8(out);
}

std::expected<Compiled, SqlError> compile(std::string_view text, const Limits& limits) {
  try {
    Select select = parse_statement(text, limits);
    Binder binder(text, limits);
    const auto columns = binder.statement(select);
    return Compiled(finish(binder, select, columns));
  } catch (const Refusal& refusal) {
    return std::unexpected(refusal.error);
  }
}

std::expected<Compiled, SqlError> compile_with_exceptions(std::string_view text, const std::vector<std::string>& except,
                                                          const Limits& limits) {
  if (except.empty()) return compile(text, limits);
  std::size_t current = 0;  // the exception being read; 0: the statement
  try {
    Select select = parse_statement(text, limits);
    {
      Select probe = select;
      Binder binder(text, limits);
      binder.statement(probe);
      if (must_wrap(probe)) select = wrap(std::move(select));
    }
    Binder binder(text, limits);
    const auto columns = binder.statement(select);
    for (const auto& condition : except) {
      ++current;
      binder.add_exception(select, parse_condition(condition, limits), condition);
    }
    return Compiled(finish(binder, select, columns));
  } catch (const Refusal& refusal) {
    SqlError error = refusal.error;
    if (current > 0) error.message = "in exception " + std::to_string(current) + ": " + error.message;
    return std::unexpected(std::move(error));
  }
}

Compiled::Compiled(std::unique_ptr<State> state) : state_(std::move(state)) {}
Compiled::Compiled(Compiled&&) noexcept = default;
Compiled& Compiled::operator=(Compiled&&) noexcept = default;
Compiled::~Compiled() = default;

const std::string& Compiled::sql() const { return state_->sql; }
const std::string& Compiled::streaming_sql() const { return state_->streaming_sql; }
const std::optional<DrivingReference>& Compiled::driving() const { return state_->driving; }
const std::string& Compiled::not_streamable() const { return state_->not_streamable; }
const std::vector<ResultColumn>& Compiled::columns() const { return state_->columns; }
const std::set<std::string>& Compiled::tables() const { return state_->tables; }
const std::vector<NecessaryClause>& Compiled::necessary() const { return state_->necessary; }
const std::set<std::string>& Compiled::parameters() const { return state_->parameters; }
const std::set<std::string>& Compiled::driving_conditions() const { return state_->driving_conditions; }

}  // namespace daemoneye::sql
