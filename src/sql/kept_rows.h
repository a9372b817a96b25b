// The inner side of a join, and a correlated subquery, are begun for each outer row with another value of one column.
// When that has cost as much as reading all the rows once would, they are read once and kept by that column.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "sql/virtual_table.h"

namespace daemoneye::sql {

inline constexpr std::size_t max_kept_bytes = 16 * 1024 * 1024;  // of one place of a plan

// What is known of one place of the plan in one run.
class KeptRows {
 public:
  // Notes the values of one more beginning. Gives the place, in `values`, of the constraint by whose column the rows
  // are to be kept: the one whose value alone changes, when reading all rows is no dearer than what was spent.
  std::optional<std::size_t> note(std::span<sqlite3_value*> values);
  // Of what a beginning cost, and what one would cost that reads everything, in any one unit.
  void spend(std::uint64_t cost, std::uint64_t cost_of_all);

  enum class State : std::uint8_t { none, filled, given_up };
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] std::size_t by() const { return *varying_; }
  void begin_filling(std::size_t columns);
  // False when there is no room for it any more: then nothing is kept.
  bool add(std::string key, std::int64_t rowid, std::vector<event::Value> values);
  void end_filling() { state_ = State::filled; }
  void give_up();

  // Whether these values differ from those noted first in the one place only.
  [[nodiscard]] bool serves(std::span<sqlite3_value*> values) const;
  [[nodiscard]] std::span<const std::uint32_t> find(const std::string& key) const;
  [[nodiscard]] const event::Value& value(std::uint32_t row, std::size_t column) const {
    return values_[row * columns_ + column];
  }
  [[nodiscard]] std::int64_t rowid(std::uint32_t row) const { return rowids_[row]; }

 private:
  State state_ = State::none;
  bool any_ = false, unsteady_ = false;
  std::vector<std::string> first_;  // the values of the first beginning
  std::optional<std::size_t> varying_;
  std::uint64_t spent_ = 0, cost_of_all_ = 0;
  std::size_t columns_ = 0, bytes_ = 0;
  std::vector<event::Value> values_;
  std::vector<std::int64_t> rowids_;
  std::unordered_map<std::string, std::vector<std::uint32_t>> rows_;
};

// Type and bytes: equal for equal values of the same type only.
std::string key_of(sqlite3_value* value);
std::string key_of(const store::ValueView& value);

// A cursor whose rows may be kept.
class KeepingCursor : public Cursor {
 public:
  explicit KeepingCursor(Runtime& runtime) : runtime_(runtime) {}
  Result<void> filter(int plan, const char* detail, std::span<sqlite3_value*> values) final;
  Result<bool> next() final;
  void column(sqlite3_context* out, int index) final;
  std::int64_t rowid() final;

 protected:
  // As filter() and so on, without the constraint of number `without`.
  virtual Result<void> begin(int plan, const char* detail, std::span<sqlite3_value*> values,
                             std::optional<std::size_t> without) = 0;
  virtual Result<bool> advance() = 0;
  // By its place in the table; the text lives until advance() or begin().
  virtual store::ValueView value(int index) = 0;
  virtual std::int64_t row_number() = 0;
  // Ends what begin() began and tells KeptRows::spend() of it.
  virtual void end(KeptRows* kept) = 0;
  [[nodiscard]] virtual std::span<const event::Column> table_columns() const = 0;
  [[nodiscard]] Runtime& runtime() const { return runtime_; }

 private:
  Result<bool> fill(KeptRows& kept, int plan, const char* detail, std::span<sqlite3_value*> values);

  Runtime& runtime_;
  KeptRows* serving_ = nullptr;  // the rows given are those kept
  std::vector<int> places_;      // of the columns kept
  std::span<const std::uint32_t> found_;
  std::size_t next_ = 0;
};

}  // namespace daemoneye::sql
