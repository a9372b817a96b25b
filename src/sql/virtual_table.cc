#include "sql/virtual_table.h"

#include <sqlite3.h>

#include <new>
#include <vector>

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

int best_index(sqlite3_vtab* table, sqlite3_index_info* info) {
  return static_cast<Table*>(table)->object->plan(*info);
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

int step(OpenCursor& cursor) {
  Runtime& runtime = static_cast<Table*>(cursor.pVtab)->object->runtime();
  if (runtime.should_stop()) return SQLITE_INTERRUPT;
  const auto more = cursor.object->next();
  if (!more) {
    if (runtime.stopped()) return SQLITE_INTERRUPT;
    return failed(cursor.pVtab, more.error());
  }
  cursor.at_end = !*more;
  return SQLITE_OK;
}

int begin(sqlite3_vtab_cursor* raw, int plan, const char* detail, int count, sqlite3_value** values) {
  auto& cursor = *static_cast<OpenCursor*>(raw);
  cursor.at_end = true;
  const auto begun = cursor.object->filter(plan, detail == nullptr ? "" : detail,
                                           std::span<sqlite3_value*>(values, static_cast<std::size_t>(count)));
  if (!begun) {
    if (static_cast<Table*>(raw->pVtab)->object->runtime().stopped()) return SQLITE_INTERRUPT;
    return failed(raw->pVtab, begun.error());
  }
  return step(cursor);
}

int filter(sqlite3_vtab_cursor* cursor, int plan, const char* detail, int count, sqlite3_value** values) {
  return guarded([&] { return begin(cursor, plan, detail, count, values); });
}

int next(sqlite3_vtab_cursor* cursor) {
  return guarded([&] { return step(*static_cast<OpenCursor*>(cursor)); });
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
