// What one statement at a time runs with: shared by the virtual tables, the functions and the connection.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <stop_token>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "event/columns.h"
#include "event/completeness.h"
#include "sql/connection.h"
#include "sql/instances.h"
#include "sql/kept_rows.h"
#include "sql/regexp.h"
#include "store/reader.h"

struct sqlite3;

namespace daemoneye::sql {

inline constexpr std::uint64_t max_recursion_steps = 1'000'000;  // rows of recursive tables a statement may make
inline constexpr std::size_t max_lineage_depth = 64;
inline constexpr std::size_t max_descendants = 10'000;
inline constexpr std::size_t max_damage_kept = 64;

class Runtime {
 public:
  explicit Runtime(store::Reader* reader, std::string audit_path)
      : reader_(reader), audit_path_(std::move(audit_path)) {}

  // Null in tests that only prepare.
  [[nodiscard]] store::Reader* reader() const { return reader_; }
  [[nodiscard]] const std::string& audit_path() const { return audit_path_; }

  void begin(const RunOptions& options, Timestamp now);
  [[nodiscard]] bool should_stop();
  // timeout or cancelled, once should_stop() said so.
  [[nodiscard]] std::optional<Error> stopped() const;

  [[nodiscard]] Timestamp now() const { return now_; }
  [[nodiscard]] const event::TimeRange& history() const { return history_; }
  // The part of `range` that lies within the run's history.
  [[nodiscard]] event::TimeRange clamp(event::TimeRange range) const;
  // History in this range was looked at: what is missing of it makes the answer degraded.
  void touch(const event::TimeRange& range);
  [[nodiscard]] const std::optional<event::TimeRange>& touched() const { return touched_; }
  void add(const store::ScanStats& stats, Step& step);
  [[nodiscard]] const store::ScanStats& scanned() const { return scanned_; }

  // The places of the plan of the statement that is being prepared; not noted (number 0) unless keep_plan() was called.
  void keep_plan(bool keep);
  // Whether plans may count on a scan by time.
  void set_times_in_order(bool in_order) { times_in_order_ = in_order; }
  [[nodiscard]] bool times_are_in_order() const { return times_in_order_; }
  [[nodiscard]] bool keeps_plan() const { return keep_plan_; }
  std::size_t add_step(Step step);
  [[nodiscard]] Step& step(std::size_t number);  // stays where it is until the next keep_plan()
  [[nodiscard]] const std::deque<Step>& steps() const { return steps_; }
  [[nodiscard]] bool timing() const { return timing_; }
  // Null for what is not noted: without a number it could be of another statement.
  KeptRows* kept_rows(std::size_t number) {
    return number == 0 ? nullptr : &kept_rows_.try_emplace(number, patience_).first->second;
  }
  // One process, as `processes` has it: live, or its newest exit within the run's history. What was looked at counts.
  Result<std::optional<store::Reader::Instance>> find_instance(const event::ProcessKey& key, Step& step);
  Instances& instances() { return instances_; }
  // For progress: a scan that begins, and each block that is behind it.
  void expect_blocks(const event::TimeRange& range);
  void pass_block();

  // The first error met below SQLite, with its code.
  void set_error(Error error) {
    if (!error_) error_ = std::move(error);
  }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  [[nodiscard]] bool count_recursion() { return ++recursion_steps_ <= max_recursion_steps; }
  [[nodiscard]] RegexpCache& regexps() { return regexps_; }

  // Lineage, within one snapshot.
  struct Link {
    bool known = false;
    std::string name;
    std::optional<std::string> parent_key;
    std::optional<std::string> parent_name;  // as its event has it: stays known when the parent does not
    std::optional<event::TimeRange> looked_at;
    store::ScanStats met;  // damage, where it was looked for
  };
  Result<Link> link(const std::string& process_key);
  Result<bool> has_ancestor(const std::string& process_key, std::string_view name);
  void forget_lineage() { links_.clear(); }

  // The rows of the stream. Their values are made once for all statements that are shown them, and stay where they are
  // until other rows are set.
  void set_driving(std::vector<DrivingRow> rows);
  [[nodiscard]] const std::vector<DrivingRow>& driving() const { return driving_; }
  [[nodiscard]] const event::TimeRange& driving_time() const { return driving_time_; }  // from the first to the last
  // As process_events has it, or as `processes` does: there an ended instance has ended.
  // Which of them the run is about; null: all.
  [[nodiscard]] const std::vector<std::uint32_t>* only_rows() const { return only_rows_; }
  const event::Value& driving_value(std::size_t row, event::Column column, bool of_processes);

 private:
  store::Reader* reader_;
  std::vector<DrivingRow> driving_;
  const std::vector<std::uint32_t>* only_rows_ = nullptr;
  event::TimeRange driving_time_;
  std::array<std::vector<std::optional<event::Value>>, 2> driving_values_;  // of events, of processes; rows x columns
  std::string audit_path_;
  Timestamp now_;
  Deadline deadline_ = Deadline::never();
  std::stop_token stop_;
  event::TimeRange history_;
  enum class Stop : std::uint8_t { none, timeout, cancelled } stop_reason_ = Stop::none;
  std::optional<event::TimeRange> touched_;
  store::ScanStats scanned_;
  std::deque<Step> steps_;  // from number 1 on
  Step unnoted_;            // number 0
  std::unordered_map<std::size_t, KeptRows> kept_rows_;
  bool keep_plan_ = false, timing_ = false, times_in_order_ = false;
  std::function<void(const Progress&)> report_;
  Progress progress_;
  base::SteadyClock::time_point next_report_{};
  std::optional<Error> error_;
  std::uint64_t recursion_steps_ = 0;
  RegexpCache regexps_;
  std::unordered_map<std::string, Link> links_;
  Instances instances_{*this};
  double patience_ = 1;
};

Result<void> register_functions(sqlite3* handle, Runtime& runtime);
// SQLite's own that could go on for minutes, by ours: the same to the byte, but ended when the runtime says so.
Result<void> replace_slow_functions(sqlite3* handle, Runtime& runtime);

// A process and its ancestors, nearest first; stops where one is unknown or met before.
Result<std::vector<event::ProcessEvent>> walk_lineage(store::Reader& reader, const event::ProcessKey& key,
                                                      std::size_t max_depth, store::ScanStats& stats);

// While one lives, statements that are prepared may only read what the catalog has.
class StrictPreparation {
 public:
  explicit StrictPreparation(bool& strict) : strict_(strict) { strict_ = true; }
  ~StrictPreparation() { strict_ = false; }
  StrictPreparation(const StrictPreparation&) = delete;
  StrictPreparation& operator=(const StrictPreparation&) = delete;

 private:
  bool& strict_;
};
// `strict` must outlive the connection's use.
void set_authorizer(sqlite3* handle, const bool& strict);
void set_limits(sqlite3* handle);

}  // namespace daemoneye::sql
