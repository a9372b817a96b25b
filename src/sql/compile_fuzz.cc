// Whatever is accepted prepares in SQLite over the same tables, only reads, and prints to a fixed point.
#include <sqlite3.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "sql/catalog.h"
#include "sql/parser.h"
#include "sql/printer.h"
#include "sql/runtime.h"
#include "sql/virtual_table.h"

namespace {

using namespace daemoneye::sql;

[[noreturn]] void broken(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

class Database {
 public:
  Database() {
    sqlite3_open(":memory:", &handle_);
    for (auto& table : tables_) {
      if (!register_table(handle_, *table)) broken("registering " + table->name());
    }
    if (!register_functions(handle_, runtime_)) broken("registering functions");
    for (const auto& table : catalog()) {
      if (table.name == "processes" || table.name == "process_events" || table.name == "audit_ledger") continue;
      std::string sql = "CREATE TABLE \"" + table.name + "\"(";
      for (const auto& column : table.columns) {
        sql += (&column == table.columns.data() ? "\"" : ", \"") + column.name + "\" " + column.type;
      }
      sqlite3_exec(handle_, (sql + ")").c_str(), nullptr, nullptr, nullptr);
    }
    for (const auto* const table :
         {"process_events", "processes", "audit_ledger", "ancestors('')", "descendants('')", "_driving_events",
          "_driving_processes", "_event_groups('')", "json_each('1')", "json_tree('1')"}) {
      prepare(std::string("SELECT 1 FROM ") + table);
    }
    set_limits(handle_);
    set_authorizer(handle_, strict_);
  }

  void prepare(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v2(handle_, sql.c_str(), static_cast<int>(sql.size()), &statement, nullptr);
    if (code != SQLITE_OK) broken("accepted, but SQLite says " + std::string(sqlite3_errmsg(handle_)) + ":\n" + sql);
    if (sqlite3_stmt_readonly(statement) == 0) broken("accepted, and writes:\n" + sql);
    sqlite3_finalize(statement);
  }
  void check(const std::string& sql) {
    const StrictPreparation walled(strict_);
    prepare(sql);
  }

 private:
  sqlite3* handle_ = nullptr;
  bool strict_ = false;
  Runtime runtime_{nullptr, ""};
  std::unique_ptr<VirtualTable> tables_[8] = {
      make_events_table(runtime_),         make_processes_table(runtime_),      make_ledger_table(runtime_),
      make_lineage_table(runtime_, true),  make_lineage_table(runtime_, false), make_driving_table(runtime_, true),
      make_driving_table(runtime_, false), make_groups_table(runtime_),
  };
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Database database;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto compiled = compile(text);
  if (!compiled) {
    if (compiled.error().message.empty() || compiled.error().line == 0) broken("a refusal without a reason");
    (void)to_string(compiled.error(), text);
    (void)without_quoted(compiled.error().message);
    return 0;
  }
  for (const auto& hint : hints(*compiled)) {
    if (hint.message.empty() || hint.suggestion.empty()) broken("a hint without a suggestion");
  }
  (void)end_of_statement(text);
  database.check(compiled->sql());
  if (!compiled->streaming_sql().empty()) database.check(compiled->streaming_sql());
  try {
    Limits roomy;  // printing adds quotes and parentheses
    roomy.max_text_bytes = 16 * 1024 * 1024;
    roomy.max_expression_depth = 1000;
    const std::string once = print(parse_statement(text, {}));
    const std::string twice = print(parse_statement(once, roomy));
    if (once != twice) broken("not a fixed point:\n" + once + "\n" + twice);
  } catch (const Refusal& refusal) {
    broken("what was printed is refused: " + refusal.error.message);
  }
  return 0;
}
