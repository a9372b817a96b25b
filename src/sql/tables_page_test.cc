// docs/tables.md is made from the catalog: this writes it, and sees that it is as the catalog is.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "sql/catalog.h"

namespace daemoneye::sql {
namespace {

void add_columns(std::ostringstream& out, const CatalogTable& table) {
  out << "| column | type | unit | what it is |\n|---|---|---|---|\n";
  for (const auto& column : table.columns) {
    out << "| `" << column.name << "` | " << column.type << " | " << column.unit << " | " << column.description
        << " |\n";
  }
}

std::string tables_page() {
  std::ostringstream out;
  out << "# Tables\n\nThis page is made from the catalog that statements are checked against (`src/sql/catalog.cc`); a "
         "test "
         "holds it up\nto date. `daemoneye-cli tables` and `daemoneye-cli schema TABLE` tell the same. What can be "
         "asked of "
         "them:\n[sql.md](sql.md).\n\nTimes are integers within statements and ISO 8601 where they are shown (`--raw` "
         "shows "
         "the integers).\n";
  for (const auto& table : catalog()) {
    out << "\n## " << table.name << "\n\n" << table.description << "\n\n";
    add_columns(out, table);
  }
  out << "\n## Functions that stand in FROM\n";
  for (const auto& function : table_functions()) {
    out << "\n### " << function.table.name << "\n\n" << function.table.description << "\n\n";
    add_columns(out, function.table);
  }
  out << "\n## Functions\n\n";
  std::string line;
  for (const auto& name : functions()) {
    const auto word = (line.empty() ? "`" : " `") + name + "`";
    if (line.size() + word.size() > 115) {
      out << line << "\n";
      line.clear();
    }
    line += line.empty() ? "`" + name + "`" : word;
  }
  out << line << "\n";
  return out.str();
}

TEST(TablesPage, IsAsTheCatalogIs) {
  const std::string path = std::string(DAEMONEYE_SOURCE_DIR) + "/docs/tables.md";
  const auto page = tables_page();
  if (std::getenv("DE_WRITE_PAGE") != nullptr) std::ofstream(path) << page;
  std::ifstream file(path);
  const std::string stored((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(stored, page) << "DE_WRITE_PAGE=1 build/release/bin/sql_test --gtest_filter=TablesPage.* writes it";
}

}  // namespace
}  // namespace daemoneye::sql
