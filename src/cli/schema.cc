// tables, schema: what can be asked. Needs neither settings nor a store.
#include "cli/schema.h"

#include <CLI/CLI.hpp>

#include "base/text.h"
#include "cli/verbs.h"
#include "sql/catalog.h"

namespace daemoneye::cli {

Outcome<Exit> list_tables(Invocation& invocation) {
  const auto writer = invocation.row_writer();
  writer->begin({{"table"}, {"columns"}, {"description"}});
  for (const auto& table : sql::catalog()) {
    writer->row({table.name, static_cast<std::int64_t>(table.columns.size()), table.description});
  }
  writer->finish({}, "");
  return Exit::done;
}

Outcome<Exit> show_schema(Invocation& invocation, const std::string& wanted) {
  std::vector<const sql::CatalogTable*> tables;
  for (const auto& table : sql::catalog()) tables.push_back(&table);
  if (!wanted.empty()) {
    // Those that stand in FROM with arguments only when they are asked for: nobody reads them as a whole.
    for (const auto& function : sql::table_functions()) tables.push_back(&function.table);
    std::vector<std::string_view> names;
    for (const auto* table : tables) names.push_back(table->name);
    std::erase_if(tables, [&](const auto* table) { return !sql::same_name(table->name, wanted); });
    if (tables.empty()) {
      std::string all;
      for (const auto name : names) all += (all.empty() ? "" : ", ") + std::string(name);
      const auto near = base::nearest(wanted, names);
      return std::unexpected(Failure(Exit::usage,
                                     "no table '" + base::printable(wanted.substr(0, 64)) + '\'' +
                                         (near.empty() ? "" : "; did you mean " + std::string(near) + "?"),
                                     {"tables: " + all}));
    }
  }
  const auto writer = invocation.row_writer();
  writer->begin({{"table"}, {"column"}, {"type"}, {"unit"}, {"description"}});
  for (const auto* table : tables) {
    for (const auto& column : table->columns) {
      writer->row({table->name, column.name, column.type, column.unit, column.description});
    }
  }
  writer->finish({}, "");
  return Exit::done;
}

void add_schema(CLI::App& app, Action& chosen) {
  add_verb(app, "tables", "List the tables")->callback([&chosen] { chosen = list_tables; });
  auto* schema = add_verb(app, "schema", "List the columns of all tables, or of one");
  const auto table = std::make_shared<std::string>();  // shared: the parser fills what the action reads
  schema->add_option("TABLE", *table, "A table's name");
  schema->callback(
      [table, &chosen] { chosen = [table](Invocation& invocation) { return show_schema(invocation, *table); }; });
}

}  // namespace daemoneye::cli
