// From SQLite's constraints to a store scan. A pushed constraint is checked again by SQLite, so what is pushed may only
// be too wide, never too narrow: a value is pushed when collation, affinity and type leave no doubt.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "event/columns.h"
#include "store/reader.h"

struct sqlite3_index_info;
struct sqlite3_value;

namespace daemoneye::sql {

// What the constraints say that hold for every row wanted.
struct ScanFilter {
  bool nothing = false;  // no row can meet them
  event::TimeRange time;
  std::optional<event::EventId> first_event, last_event;
  std::vector<predicate::Condition> conditions;

  // All of these columns' conditions; for tables that need to look at one.
  [[nodiscard]] const predicate::Condition* find(event::Column column, predicate::Operator op) const;
};

inline constexpr int plan_newest_first = 1, plan_by_time = 2;  // without the latter by event id

// Decides which constraints are passed on and describes them in info.idxStr; `columns` says which event column stands
// at each place of the table. A REGEXP is compiled each time the scan begins: where that happens often and for few rows
// it is left to SQLite, whose function keeps it.
enum class Regexps : std::uint8_t { pushed, left };
enum class Orders : std::uint8_t { none, by_event_id, by_event_id_or_time };  // that the scan can give
int plan_scan(sqlite3_index_info& info, std::span<const event::Column> columns, Orders orders,
              Regexps regexps = Regexps::pushed);

// What info.idxStr said of the constraints that were passed on.
struct Pushed {
  std::size_t place = 0;  // of the column in the table
  int op = 0;
  bool is_in = false;  // an IN whose right side is passed whole
};
class PushedPlan {
 public:
  PushedPlan() = default;
  explicit PushedPlan(std::string_view detail);
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] std::span<const Pushed> list() const { return list_; }
  // Whether the constraint of this number, or any, is `=` with one value; and its column.
  [[nodiscard]] bool is_equality(std::size_t constraint) const;
  [[nodiscard]] bool has_equality() const;
  [[nodiscard]] event::Column column(std::size_t constraint, std::span<const event::Column> columns) const;
  // What the statement reads of the table.
  [[nodiscard]] bool uses(std::size_t place) const;
  [[nodiscard]] store::ColumnSet used(std::span<const event::Column> columns) const;

 private:
  std::string text_;
  std::uint64_t used_ = 0;
  std::vector<Pushed> list_;
};
using LeftOut = std::vector<bool>;  // by number of the constraint; shorter: the rest is not left out

// The constraints with their values, as xFilter gets them, but those that are left out.
ScanFilter read_filter(const PushedPlan& plan, std::span<sqlite3_value*> values, std::span<const event::Column> columns,
                       const LeftOut& without = {});
// A condition that holds for every row wanted: as a bound of the scan where it is one.
void add_condition(ScanFilter& filter, predicate::Condition condition);
// The columns of process_events in their order.
std::span<const event::Column> all_columns();

}  // namespace daemoneye::sql
