// ancestors(process_key) and descendants(process_key), over live and ended processes; bounded and cycle-proof.
#include <sqlite3.h>

#include <algorithm>
#include <set>

#include "sql/runtime.h"
#include "sql/virtual_table.h"

namespace daemoneye::sql {
namespace {

using event::Column;
using event::ProcessEvent;
using event::ProcessKey;

class LineageCursor : public Cursor {
 public:
  LineageCursor(Runtime& runtime, bool up) : runtime_(runtime), up_(up) {}

  Result<void> filter(int, const char*, std::span<sqlite3_value*> values) override {
    rows_.clear();
    next_ = 0;
    if (runtime_.reader() == nullptr) return fail(Errc::unavailable, "there is no store");
    if (values.empty() || sqlite3_value_type(values[0]) != SQLITE_TEXT) return {};
    of_ = reinterpret_cast<const char*>(sqlite3_value_text(values[0]));
    const auto key = event::parse_process_key(of_);
    if (!key) return {};
    return up_ ? climb(*key) : descend(*key);
  }

  Result<bool> next() override {
    if (next_ >= rows_.size()) return false;
    ++next_;
    return true;
  }

  void column(sqlite3_context* out, int index) override {
    const auto& row = rows_[next_ - 1];
    const auto list = process_columns();
    const auto place = static_cast<std::size_t>(index);
    if (place == list.size()) return sqlite3_result_int64(out, static_cast<std::int64_t>(row.depth));
    // Of many constraints SQLite checks some again although it was told not to.
    if (place > list.size()) return give(out, store::ValueView(std::string_view(of_)));
    const bool ended = row.event.kind == event::EventKind::exit;
    if (ended && list[place] == Column::status) return give(out, store::ValueView("exited"));
    const auto value = event::column_value(row.event, 0, list[place]);
    if (ended && list[place] == Column::exit_time && std::holds_alternative<std::monostate>(value)) {
      return sqlite3_result_int64(out, row.event.time.ns);
    }
    give(out, value);
  }

  std::int64_t rowid() override { return rowid_of(rows_[next_ - 1].event.process.key); }

 private:
  struct Row {
    ProcessEvent event;
    std::size_t depth;
  };

  Result<void> climb(const ProcessKey& key) {
    store::ScanStats stats;
    DE_TRY(auto line, walk_lineage(*runtime_.reader(), key, max_lineage_depth, stats));
    runtime_.add(stats, step());
    // Where an ancestor is not known all of history was searched for it; what is missing of that counts.
    const bool whole = !line.empty() && !line.back().process.parent_key;
    if (!whole && line.size() <= max_lineage_depth) runtime_.touch(runtime_.clamp({}));
    for (const auto& process : line) {
      const bool ended = process.kind == event::EventKind::exit;
      const auto seen_at = ended ? process.time : runtime_.now();
      runtime_.touch({seen_at, seen_at});
    }
    for (std::size_t i = 1; i < line.size(); ++i) rows_.push_back({std::move(line[i]), i});
    return {};
  }

  // Breadth first: the children of a whole level at once.
  Result<void> descend(const ProcessKey& key) {
    auto& reader = *runtime_.reader();
    std::set<ProcessKey> seen{key};
    std::vector<ProcessKey> level{key};
    for (std::size_t depth = 1; depth <= max_lineage_depth && !level.empty(); ++depth) {
      std::vector<ProcessKey> children;
      for (const auto& parent : level) {
        DE_TRY(auto live, reader.live_children(parent));
        children.insert(children.end(), live.begin(), live.end());
      }
      DE_CHECK(ended_children(level, children));
      level.clear();
      for (const auto& child : children) {
        if (runtime_.should_stop()) return std::unexpected(*runtime_.stopped());
        if (!seen.insert(child).second) continue;
        DE_TRY(auto process, runtime_.find_instance(child, step()));
        if (!process) continue;
        if (rows_.size() >= max_descendants) {
          return fail(Errc::limit_exceeded, "descendants: more than " + std::to_string(max_descendants) + " processes");
        }
        rows_.push_back({std::move(process->event), depth});
        level.push_back(child);
      }
    }
    return {};
  }

  Result<void> ended_children(const std::vector<ProcessKey>& parents, std::vector<ProcessKey>& children) {
    for (std::size_t begin = 0; begin < parents.size(); begin += predicate::max_in_values) {
      store::ScanRequest request;
      request.time = runtime_.clamp({});
      runtime_.touch(request.time);
      request.columns.set(static_cast<std::size_t>(Column::process_key));
      predicate::Condition of_parents{Column::parent_key, predicate::Operator::in, {}, false};
      const std::size_t end = std::min(parents.size(), begin + predicate::max_in_values);
      for (std::size_t i = begin; i < end; ++i) of_parents.values.emplace_back(event::to_string(parents[i]));
      request.conditions.push_back(std::move(of_parents));
      request.conditions.push_back({Column::kind, predicate::Operator::equal, {std::string("exit")}, false});
      DE_TRY(auto scan, runtime_.reader()->scan(request, [this] { return runtime_.should_stop(); }));
      for (;;) {
        DE_TRY(const bool more, scan->next());
        if (!more) break;
        const auto value = scan->value(Column::process_key);
        const auto* const text = std::get_if<std::string_view>(&value);
        if (text == nullptr) continue;
        if (const auto key = event::parse_process_key(*text)) children.push_back(*key);
      }
      runtime_.add(scan->stats(), step());
    }
    return {};
  }

  Runtime& runtime_;
  bool up_;
  std::string of_;  // the argument
  std::vector<Row> rows_;
  std::size_t next_ = 0;
};

class LineageTable : public VirtualTable {
 public:
  LineageTable(Runtime& runtime, bool up) : VirtualTable(runtime), up_(up) {}
  [[nodiscard]] std::string name() const override { return up_ ? "ancestors" : "descendants"; }
  [[nodiscard]] std::string columns() const override {
    return declare_event_columns(true) + ", depth INTEGER, _of TEXT HIDDEN";
  }

  int plan(sqlite3_index_info& info) override {
    const int argument = static_cast<int>(process_columns().size()) + 1;
    for (int i = 0; i < info.nConstraint; ++i) {
      const auto& constraint = info.aConstraint[i];
      if (constraint.iColumn != argument || constraint.op != SQLITE_INDEX_CONSTRAINT_EQ) continue;
      if (constraint.usable == 0) return SQLITE_CONSTRAINT;  // the argument must be known first
      info.aConstraintUsage[i].argvIndex = 1;
      info.aConstraintUsage[i].omit = 1;
      info.estimatedRows = 10;
      info.estimatedCost = up_ ? 100 : 10'000;
      return SQLITE_OK;
    }
    return SQLITE_CONSTRAINT;
  }

  std::unique_ptr<Cursor> open() override { return std::make_unique<LineageCursor>(runtime(), up_); }

 private:
  bool up_;
};

}  // namespace

std::unique_ptr<VirtualTable> make_lineage_table(Runtime& runtime, bool up) {
  return std::make_unique<LineageTable>(runtime, up);
}

}  // namespace daemoneye::sql
