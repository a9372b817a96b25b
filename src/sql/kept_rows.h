// The inner side of a join, and a correlated subquery, are begun for each outer row with another value of one column.
// When that has cost as much as reading all the rows once would, they are read once and kept by that column.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sql/push_down.h"
#include "sql/virtual_table.h"

namespace daemoneye::sql {

inline constexpr std::size_t max_kept_bytes = 16 * 1024 * 1024;  // of one place of a plan

// What is known of one place of the plan in one run.
class KeptRows {
 public:
  // Begun again must have cost `patience` times what reading everything once would.
  explicit KeptRows(double patience = 1) : patience_(patience) {}

  // Notes the values of one more beginning. Gives the number of the constraint by whose column the rows are to be kept:
  // the `=` whose value alone changes, when reading all rows is no dearer than what was spent. The sets of INs may
  // change beside it: such a constraint is left out, for SQLite checks it again.
  std::optional<std::size_t> note(const PushedPlan& plan, std::span<sqlite3_value*> values);
  // Of what a beginning cost, and what one would cost that reads everything, in any one unit.
  void spend(std::uint64_t cost, std::uint64_t cost_of_all);

  enum class State : std::uint8_t { none, filled, given_up };
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] std::size_t by() const { return *varying_; }
  // The constraints that the rows kept do not meet: that one, and INs.
  [[nodiscard]] const LeftOut& left_out() const { return left_out_; }

  void begin_filling(std::size_t columns);
  // Values that are not `whole` are asked for when they are needed. False when there is no room for it any more: then
  // nothing is kept.
  bool add(const store::ValueView& key, std::int64_t rowid, std::span<const store::ValueView> values, bool whole);
  // To have read the whole rows would have cost `cost_of_whole`, in units of late().
  void end_filling(std::uint64_t cost_of_whole);
  void give_up();
  // What the values asked for later have cost.
  void late(std::uint64_t cost) { late_ += cost; }
  [[nodiscard]] bool should_be_whole() const { return state_ == State::filled && late_ > cost_of_whole_; }

  // Whether these values differ from those noted first only where it does not matter.
  [[nodiscard]] bool serves(const PushedPlan& plan, std::span<sqlite3_value*> values) const;
  // The first row of the key, and the one after a row, in the order in which they were added.
  static constexpr std::uint32_t no_row = 0xffffffff;
  [[nodiscard]] std::uint32_t find(const store::ValueView& key) const;
  [[nodiscard]] std::uint32_t next(std::uint32_t row) const { return next_[row]; }
  [[nodiscard]] const store::ValueView& value(std::uint32_t row, std::size_t column) const {
    return values_[row * columns_ + column];
  }
  [[nodiscard]] std::int64_t rowid(std::uint32_t row) const { return rowids_[row]; }
  [[nodiscard]] bool is_whole(std::uint32_t row) const { return whole_[row]; }

 private:
  // What a constraint was given when it was noted first.
  struct Given {
    int type = 0;  // SQLite's
    event::Value value;
    std::optional<std::string> set;  // of an IN; none: too large to compare
    bool is_in = false;
  };
  // A key's rows, chained by next_.
  struct Slot {
    std::uint64_t hash = 0;
    store::ValueView key;
    std::uint32_t first = no_row, last = no_row;
  };
  static Given given(const Pushed& pushed, sqlite3_value* value);
  static bool is_same(const Given& before, const Pushed& pushed, sqlite3_value* value);
  [[nodiscard]] std::size_t slot_of(const store::ValueView& key, std::uint64_t hash) const;
  void grow();
  store::ValueView held(const store::ValueView& value);
  bool charge();
  void forget();

  double patience_;
  State state_ = State::none;
  bool any_ = false, unsteady_ = false;
  std::vector<Given> first_;
  std::optional<std::size_t> varying_;
  LeftOut left_out_;
  std::uint64_t spent_ = 0, cost_of_all_ = 0, late_ = 0, cost_of_whole_ = 0;
  std::size_t columns_ = 0, charged_ = 0;
  std::vector<store::ValueView> values_;  // texts are in `texts_`
  std::vector<std::int64_t> rowids_;
  std::vector<std::uint32_t> next_;
  std::vector<bool> whole_;
  std::vector<Slot> slots_;
  std::size_t keys_ = 0;
  // Texts one after the other, and those met of late: most columns have few different ones.
  std::vector<std::unique_ptr<char[]>> texts_;
  char* room_ = nullptr;
  std::size_t room_left_ = 0, text_bytes_ = 0;
  std::vector<std::string_view> recent_;
};

// The value without a copy; of a blob NULL.
store::ValueView view_of(sqlite3_value* value);

// A cursor whose rows may be kept.
class KeepingCursor : public Cursor {
 public:
  explicit KeepingCursor(Runtime& runtime) : runtime_(runtime) {}
  Result<void> filter(int plan, const char* detail, std::span<sqlite3_value*> values) final;
  Result<bool> next() final;
  void column(sqlite3_context* out, int index) final;
  std::int64_t rowid() final;

 protected:
  // As filter() and so on, without some of the constraints.
  virtual Result<void> begin(int flags, const PushedPlan& plan, std::span<sqlite3_value*> values,
                             const LeftOut& without) = 0;
  virtual Result<bool> advance() = 0;
  // By its place in the table; the text lives until advance() or begin().
  virtual store::ValueView value(int index) = 0;
  virtual std::int64_t row_number() = 0;
  // Ends what begin() began and tells KeptRows::spend() of it.
  virtual void end(KeptRows* kept) = 0;
  [[nodiscard]] virtual std::span<const event::Column> table_columns() const = 0;

  // Of a kept row a value need not be read with the rest when it can be had later, and this row's is not at hand.
  [[nodiscard]] virtual bool can_be_late(int) const { return false; }
  [[nodiscard]] virtual bool is_at_hand() const { return true; }
  virtual Result<store::ValueView> late_value(std::int64_t, int, KeptRows&) { return store::ValueView(); }
  // What late_value() would have cost for all the rows that were read since begin().
  [[nodiscard]] virtual std::uint64_t cost_of_late_values() const { return 0; }
  [[nodiscard]] Runtime& runtime() const { return runtime_; }

 private:
  Result<void> fill(KeptRows& kept, int flags, std::span<sqlite3_value*> values, bool whole);
  Result<bool> read_all(KeptRows& kept, int flags, std::span<sqlite3_value*> values, bool whole);
  [[nodiscard]] bool is_plain(sqlite3_value* value, std::size_t constraint) const;

  Runtime& runtime_;
  PushedPlan plan_;
  std::vector<int> places_;                    // that the statement reads
  KeptRows* serving_ = nullptr;                // the rows given are those kept
  std::uint32_t row_ = KeptRows::no_row;       // where it stands
  std::uint32_t next_row_ = KeptRows::no_row;  // the one after
};

}  // namespace daemoneye::sql
