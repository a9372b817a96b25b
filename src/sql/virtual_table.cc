#include "sql/virtual_table.h"

#include <sqlite3.h>

#include <charconv>
#include <new>
#include <vector>

#include "base/text.h"
#include "sql/catalog.h"
#include "sql/runtime.h"

namespace daemoneye::sql {
namespace {

struct Table : sqlite3_vtab {
  VirtualTable* object = nullptr;
};
struct OpenCursor : sqlite3_vtab_cursor {
  std::unique_ptr<Cursor> object;
  bool at_end = true;
};

int failed(sqlite3_vtab* table, const Error& error) {
  sqlite3_free(table->zErrMsg);
  table->zErrMsg = sqlite3_mprintf("%s", error.message.c_str());
  static_cast<Table*>(table)->object->runtime().set_error(error);
  return error.code == Errc::corrupt ? SQLITE_CORRUPT : SQLITE_ERROR;
}

// Nothing may be thrown through SQLite's frames; what our code throws is want of memory.
template <class F>
int guarded(F&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return SQLITE_NOMEM;
  }
}

int connect(sqlite3* handle, void* object, int, const char* const*, sqlite3_vtab** out, char**) {
  auto* const table = static_cast<VirtualTable*>(object);
  const std::string sql = "CREATE TABLE x(" + table->columns() + ")";
  if (const int code = sqlite3_declare_vtab(handle, sql.c_str()); code != SQLITE_OK) return code;
  sqlite3_vtab_config(handle, SQLITE_VTAB_DIRECTONLY);
  auto created = std::make_unique<Table>();
  created->object = table;
  *out = created.release();
  return SQLITE_OK;
}

int disconnect(sqlite3_vtab* table) {
  delete static_cast<Table*>(table);
  return SQLITE_OK;
}

std::string_view spelling(int op) {
  switch (op) {
    case SQLITE_INDEX_CONSTRAINT_EQ: return "=";
    case SQLITE_INDEX_CONSTRAINT_IS: return "IS";
    case SQLITE_INDEX_CONSTRAINT_NE: return "<>";
    case SQLITE_INDEX_CONSTRAINT_ISNOT: return "IS NOT";
    case SQLITE_INDEX_CONSTRAINT_LT: return "<";
    case SQLITE_INDEX_CONSTRAINT_LE: return "<=";
    case SQLITE_INDEX_CONSTRAINT_GT: return ">";
    case SQLITE_INDEX_CONSTRAINT_GE: return ">=";
    case SQLITE_INDEX_CONSTRAINT_LIKE: return "LIKE";
    case SQLITE_INDEX_CONSTRAINT_GLOB: return "GLOB";
    case SQLITE_INDEX_CONSTRAINT_REGEXP: return "REGEXP";
    case SQLITE_INDEX_CONSTRAINT_ISNULL: return "IS NULL";
    case SQLITE_INDEX_CONSTRAINT_ISNOTNULL: return "IS NOT NULL";
    default: return {};
  }
}

// The value when the plan knows it, as it would be written.
std::string shown_value(sqlite3_index_info& info, int constraint) {
  constexpr std::size_t longest_shown = 60;
  sqlite3_value* value = nullptr;
  if (sqlite3_vtab_rhs_value(&info, constraint, &value) != SQLITE_OK || value == nullptr) return "?";
  const auto* const text = reinterpret_cast<const char*>(sqlite3_value_text(value));
  if (text == nullptr) return "NULL";
  if (sqlite3_value_type(value) != SQLITE_TEXT) return text;
  const std::string_view whole(text, static_cast<std::size_t>(sqlite3_value_bytes(value)));
  return "'" + base::printable(whole.substr(0, longest_shown)) + (whole.size() > longest_shown ? "…'" : "'");
}

void note_conditions(VirtualTable& table, sqlite3_index_info& info, Step& step) {
  for (int i = 0; i < info.nConstraint; ++i) {
    const auto& constraint = info.aConstraint[i];
    const auto op = spelling(constraint.op);
    if (constraint.usable == 0 || constraint.iColumn < 0 || op.empty()) continue;
    std::string shown = table.column_name(constraint.iColumn);
    if (sqlite3_vtab_in(&info, i, -1) != 0) {
      shown += " IN (…)";
    } else {
      shown += ' ';
      shown += op;
      const bool is_unary =
          constraint.op == SQLITE_INDEX_CONSTRAINT_ISNULL || constraint.op == SQLITE_INDEX_CONSTRAINT_ISNOTNULL;
      if (!is_unary) shown += ' ' + shown_value(info, i);
    }
    (info.aConstraintUsage[i].argvIndex > 0 ? step.pushed : step.left).push_back(std::move(shown));
  }
}

void note_columns(VirtualTable& table, const sqlite3_index_info& info, Step& step) {
  constexpr int last_bit = 63;  // stands for every column from there on
  for (int i = 0; i < table.column_count(); ++i) {
    if ((info.colUsed >> std::min(i, last_bit) & 1) != 0) step.columns.push_back(table.column_name(i));
  }
}

// The step's number goes before the plan's own text, so that the cursor knows it.
int best_index(sqlite3_vtab* raw, sqlite3_index_info* info) {
  return guarded([&] {
    auto& table = *static_cast<Table*>(raw)->object;
    if (const int code = table.plan(*info); code != SQLITE_OK) return code;
    std::size_t number = 0;
    if (table.runtime().keeps_plan()) {
      Step step;
      step.table = table.name();
      note_conditions(table, *info, step);
      note_columns(table, *info, step);
      if (info->nOrderBy > 0 && info->orderByConsumed != 0) step.order = "in the order asked for";
      number = table.runtime().add_step(std::move(step));
    }
    char* const whole = sqlite3_mprintf("%d:%s", static_cast<int>(number), info->idxStr == nullptr ? "" : info->idxStr);
    if (info->needToFreeIdxStr != 0) sqlite3_free(info->idxStr);
    info->idxStr = whole;
    info->needToFreeIdxStr = 1;
    return whole == nullptr ? SQLITE_NOMEM : SQLITE_OK;
  });
}

int open(sqlite3_vtab* table, sqlite3_vtab_cursor** out) {
  return guarded([&] {
    auto cursor = std::make_unique<OpenCursor>();
    cursor->object = static_cast<Table*>(table)->object->open();
    *out = cursor.release();
    return SQLITE_OK;
  });
}

int close(sqlite3_vtab_cursor* cursor) {
  delete static_cast<OpenCursor*>(cursor);
  return SQLITE_OK;
}

// Adds to the step's time while it lives, when that was asked for.
class Timed {
 public:
  Timed(const Runtime& runtime, Step& step) : step_(runtime.timing() ? &step : nullptr) {
    if (step_ != nullptr) begin_ = base::SteadyClock::now();
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;
  ~Timed() {
    if (step_ != nullptr) step_->elapsed += base::SteadyClock::now() - begin_;
  }

 private:
  Step* step_;
  base::SteadyClock::time_point begin_;
};

int step(OpenCursor& cursor) {
  Runtime& runtime = static_cast<Table*>(cursor.pVtab)->object->runtime();
  if (runtime.should_stop()) return SQLITE_INTERRUPT;
  const auto more = cursor.object->next();
  if (!more) {
    if (runtime.stopped()) return SQLITE_INTERRUPT;
    return failed(cursor.pVtab, more.error());
  }
  cursor.at_end = !*more;
  if (*more) ++cursor.object->step().rows;
  return SQLITE_OK;
}

int begin(sqlite3_vtab_cursor* raw, int plan, const char* detail, int count, sqlite3_value** values) {
  auto& cursor = *static_cast<OpenCursor*>(raw);
  cursor.at_end = true;
  auto& runtime = static_cast<Table*>(raw->pVtab)->object->runtime();
  std::string_view text = detail == nullptr ? "0:" : detail;
  const auto colon = std::min(text.find(':'), text.size());
  const auto number = base::parse_integer<std::size_t>(text.substr(0, colon)).value_or(0);
  auto& noted = runtime.step(number);
  cursor.object->set_step(noted, number);
  ++noted.begun;
  const Timed timed(runtime, noted);
  const auto begun = cursor.object->filter(plan, detail == nullptr ? "" : detail + std::min(colon + 1, text.size()),
                                           std::span<sqlite3_value*>(values, static_cast<std::size_t>(count)));
  if (!begun) {
    if (runtime.stopped()) return SQLITE_INTERRUPT;
    return failed(raw->pVtab, begun.error());
  }
  return step(cursor);
}

int filter(sqlite3_vtab_cursor* cursor, int plan, const char* detail, int count, sqlite3_value** values) {
  return guarded([&] { return begin(cursor, plan, detail, count, values); });
}

int next(sqlite3_vtab_cursor* raw) {
  return guarded([&] {
    auto& cursor = *static_cast<OpenCursor*>(raw);
    const Timed timed(static_cast<Table*>(raw->pVtab)->object->runtime(), cursor.object->step());
    return step(cursor);
  });
}
int eof(sqlite3_vtab_cursor* cursor) { return static_cast<OpenCursor*>(cursor)->at_end ? 1 : 0; }

int column(sqlite3_vtab_cursor* cursor, sqlite3_context* out, int index) {
  return guarded([&] {
    static_cast<OpenCursor*>(cursor)->object->column(out, index);
    return SQLITE_OK;
  });
}

int rowid(sqlite3_vtab_cursor* cursor, sqlite3_int64* out) {
  *out = static_cast<OpenCursor*>(cursor)->object->rowid();
  return SQLITE_OK;
}

// xCreate is null: the tables exist by their name only and cannot be created under another.
const sqlite3_module module_of_ours = {.iVersion = 0,
                                       .xCreate = nullptr,
                                       .xConnect = connect,
                                       .xBestIndex = best_index,
                                       .xDisconnect = disconnect,
                                       .xDestroy = nullptr,
                                       .xOpen = open,
                                       .xClose = close,
                                       .xFilter = filter,
                                       .xNext = next,
                                       .xEof = eof,
                                       .xColumn = column,
                                       .xRowid = rowid,
                                       .xUpdate = nullptr,
                                       .xBegin = nullptr,
                                       .xSync = nullptr,
                                       .xCommit = nullptr,
                                       .xRollback = nullptr,
                                       .xFindFunction = nullptr,
                                       .xRename = nullptr,
                                       .xSavepoint = nullptr,
                                       .xRelease = nullptr,
                                       .xRollbackTo = nullptr,
                                       .xShadowName = nullptr};

}  // namespace

int VirtualTable::column_count() {
  if (!names_.empty()) return static_cast<int>(names_.size());
  const auto all = columns();
  for (const auto part : base::split(all, ',')) {
    auto name = base::trim(part);
    name = name.substr(0, name.find(' '));
    if (name.starts_with('"')) name = name.substr(1, name.size() - 2);
    names_.emplace_back(name);
  }
  return static_cast<int>(names_.size());
}

const std::string& VirtualTable::column_name(int index) {
  (void)column_count();
  static const std::string none = "?";
  return index >= 0 && static_cast<std::size_t>(index) < names_.size() ? names_[static_cast<std::size_t>(index)] : none;
}

Result<void> register_table(sqlite3* handle, VirtualTable& table) {
  const std::string name = table.name();
  if (sqlite3_create_module_v2(handle, name.c_str(), &module_of_ours, &table, nullptr) != SQLITE_OK) {
    return std::unexpected(db::last_error(handle, "registering " + name));
  }
  return {};
}

void give(sqlite3_context* out, const store::ValueView& value) {
  if (const auto* const integer = std::get_if<std::int64_t>(&value))
    sqlite3_result_int64(out, *integer);
  else if (const auto* const real = std::get_if<double>(&value))
    sqlite3_result_double(out, *real);
  else if (const auto* const text = std::get_if<std::string_view>(&value))
    sqlite3_result_text64(out, text->data() == nullptr ? "" : text->data(), text->size(), SQLITE_TRANSIENT,
                          SQLITE_UTF8);
}

void give(sqlite3_context* out, const event::Value& value) {
  if (const auto* const text = std::get_if<std::string>(&value))
    return give(out, store::ValueView(std::string_view(*text)));
  if (const auto* const integer = std::get_if<std::int64_t>(&value)) return give(out, store::ValueView(*integer));
  if (const auto* const real = std::get_if<double>(&value)) return give(out, store::ValueView(*real));
}

std::string declare_event_columns(bool of_processes) {
  std::string sql;
  for (const auto& column : find_table(of_processes ? "processes" : "process_events")->columns) {
    sql += (sql.empty() ? "\"" : ", \"") + column.name + "\" " + column.type;
  }
  return sql;
}

std::span<const event::Column> process_columns() {
  static const auto columns = [] {
    std::vector<event::Column> list;
    for (const auto& info : event::columns()) {
      if (info.in_processes) list.push_back(info.column);
    }
    return list;
  }();
  return columns;
}

std::int64_t rowid_of(const event::ProcessKey& key) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  const auto mix = [&](std::uint64_t value) {
    hash ^= value;
    hash *= 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
  };
  for (const auto byte : key.boot) mix(byte);
  mix(key.pid);
  mix(key.start_ticks);
  return static_cast<std::int64_t>(hash);
}

}  // namespace daemoneye::sql
