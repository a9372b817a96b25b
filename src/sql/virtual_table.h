// A read-only, eponymous virtual table as an object; virtual_table.cc is the C side.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "event/columns.h"
#include "store/reader.h"

struct sqlite3;
struct sqlite3_context;
struct sqlite3_index_info;
struct sqlite3_value;

namespace daemoneye::sql {

class Runtime;
struct Step;

class Cursor {
 public:
  virtual ~Cursor() = default;
  // Which place of the plan it reads for: known before filter().
  void set_step(Step& step, std::size_t number) {
    step_ = &step;
    step_number_ = number;
  }
  [[nodiscard]] Step& step() const { return *step_; }
  [[nodiscard]] std::size_t step_number() const { return step_number_; }  // 0: not noted
  // Begins; afterwards the cursor stands before the first row.
  virtual Result<void> filter(int plan, const char* detail, std::span<sqlite3_value*> values) = 0;
  virtual Result<bool> next() = 0;
  virtual void column(sqlite3_context* out, int index) = 0;
  virtual std::int64_t rowid() = 0;

 private:
  Step* step_ = nullptr;
  std::size_t step_number_ = 0;
};

class VirtualTable {
 public:
  explicit VirtualTable(Runtime& runtime) : runtime_(runtime) {}
  virtual ~VirtualTable() = default;
  VirtualTable(const VirtualTable&) = delete;
  VirtualTable& operator=(const VirtualTable&) = delete;
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual std::string columns() const = 0;  // inside CREATE TABLE x(…)
  virtual int plan(sqlite3_index_info& info) = 0;         // an SQLite result code
  virtual std::unique_ptr<Cursor> open() = 0;
  [[nodiscard]] Runtime& runtime() const { return runtime_; }
  [[nodiscard]] int column_count();
  [[nodiscard]] const std::string& column_name(int index);

 private:
  Runtime& runtime_;
  std::vector<std::string> names_;  // of columns(), when first asked for
};

// `table` must outlive the connection.
Result<void> register_table(sqlite3* handle, VirtualTable& table);

std::unique_ptr<VirtualTable> make_events_table(Runtime& runtime);
std::unique_ptr<VirtualTable> make_processes_table(Runtime& runtime);
std::unique_ptr<VirtualTable> make_ledger_table(Runtime& runtime);
std::unique_ptr<VirtualTable> make_lineage_table(Runtime& runtime, bool up);
std::unique_ptr<VirtualTable> make_groups_table(Runtime& runtime);
std::unique_ptr<VirtualTable> make_driving_table(Runtime& runtime, bool events);

void give(sqlite3_context* out, const store::ValueView& value);
void give(sqlite3_context* out, const event::Value& value);

// `"name" TYPE, …` of the columns of process_events or processes.
std::string declare_event_columns(bool of_processes);
// Which column of events stands at each place of `processes`.
std::span<const event::Column> process_columns();
// A number for a process instance: the same in every scan.
std::int64_t rowid_of(const event::ProcessKey& key);

}  // namespace daemoneye::sql
