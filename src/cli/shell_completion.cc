#include "cli/shell_completion.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/text.h"
#include "sql/catalog.h"
#include "sql/lexer.h"
#include "sql/sql.h"

namespace daemoneye::cli {
namespace {

constexpr auto keywords = std::to_array<std::string_view>({"ALL",
                                                           "AND",
                                                           "AS",
                                                           "ASC",
                                                           "BETWEEN",
                                                           "BY",
                                                           "CASE",
                                                           "CAST",
                                                           "COLLATE",
                                                           "CROSS",
                                                           "CURRENT_TIMESTAMP",
                                                           "DESC",
                                                           "DISTINCT",
                                                           "ELSE",
                                                           "END",
                                                           "ESCAPE",
                                                           "EXCEPT",
                                                           "EXISTS",
                                                           "FILTER",
                                                           "FROM",
                                                           "GLOB",
                                                           "GROUP",
                                                           "HAVING",
                                                           "IN",
                                                           "INNER",
                                                           "INTERSECT",
                                                           "IS",
                                                           "JOIN",
                                                           "LEFT",
                                                           "LIKE",
                                                           "LIMIT",
                                                           "NOT",
                                                           "NULL",
                                                           "NULLS",
                                                           "OFFSET",
                                                           "ON",
                                                           "OR",
                                                           "ORDER",
                                                           "OVER",
                                                           "PARTITION",
                                                           "RECURSIVE",
                                                           "REGEXP",
                                                           "SELECT",
                                                           "THEN",
                                                           "UNION",
                                                           "USING",
                                                           "WHEN",
                                                           "WHERE",
                                                           "WINDOW",
                                                           "WITH"});

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

struct Word {
  std::string_view text;
  std::size_t at;
};

// Names and commas; what is quoted has none.
std::vector<Word> words_of(std::string_view text) {
  std::vector<Word> words;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '\'') {
      i = std::min(text.size(), text.find('\'', i + 1));
      if (i < text.size()) ++i;
    } else if (is_word(text[i])) {
      const std::size_t begin = i;
      while (i < text.size() && is_word(text[i])) ++i;
      words.push_back({text.substr(begin, i - begin), begin});
    } else {
      if (text[i] == ',') words.push_back({text.substr(i, 1), i});
      ++i;
    }
  }
  return words;
}

const sql::CatalogTable* table_named(std::string_view name) {
  if (const auto* const table = sql::find_table(name)) return table;
  const auto* const function = sql::find_table_function(name);
  return function == nullptr ? nullptr : &function->table;
}

// The table that an alias stands for in the text; or the table of that name.
const sql::CatalogTable* table_of_alias(const std::vector<Word>& words, std::string_view alias) {
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const auto* const table = table_named(words[i].text);
    if (table == nullptr) continue;
    const bool as = i + 2 < words.size() && sql::same_name(words[i + 1].text, "AS");
    if (sql::same_name(words[i + (as ? 2 : 1)].text, alias)) return table;
  }
  return table_named(alias);
}

class Candidates {
 public:
  explicit Candidates(std::string_view begun) : begun_(begun) {}

  void add(std::string_view word, std::string_view before = {}, std::string_view after = {}) {
    if (word.size() < begun_.size() || !sql::same_name(word.substr(0, begun_.size()), begun_)) return;
    found_.insert(std::string(before) + std::string(word) + std::string(after));
  }
  // In the letters that were begun with.
  void add_keyword(std::string_view word) {
    const bool lower = !begun_.empty() && begun_.front() >= 'a' && begun_.front() <= 'z';
    if (!begun_.empty()) add(lower ? sql::lower_case(word) : std::string(word));
  }
  void add_columns(const sql::CatalogTable& table, std::string_view before = {}) {
    for (const auto& column : table.columns) add(column.name, before);
  }
  void add_tables() {
    for (const auto& table : sql::catalog()) add(table.name);
    for (const auto& function : sql::table_functions()) add(function.table.name, {}, "(");
  }
  [[nodiscard]] std::vector<std::string> list() const { return {found_.begin(), found_.end()}; }

 private:
  std::string_view begun_;
  std::set<std::string> found_;
};

Completion complete_command(std::string_view text) {
  const auto blank = text.find_first_of(" \t");
  if (blank == std::string_view::npos) {
    Candidates found(text);
    for (const auto& command : shell_commands()) found.add(command);
    return {text.size(), found.list()};
  }
  const auto argument = base::trim(text.substr(blank));
  Candidates found(argument);
  const auto command = text.substr(0, blank);
  if (command == ".schema") found.add_tables();
  if (command == ".mode") {
    for (const auto* const mode : {"table", "json", "jsonl", "csv"}) found.add(mode);
  }
  if (command == ".timing" || command == ".explain") {
    for (const auto* const state : {"on", "off"}) found.add(state);
  }
  return {argument.size(), found.list()};
}

}  // namespace

const std::vector<std::string>& shell_commands() {
  static const std::vector<std::string> all = {".exit",  ".explain", ".help",   ".limit",  ".mode",
                                               ".param", ".quit",    ".schema", ".tables", ".timing"};
  return all;
}

Completion complete(std::string_view text) {
  if (text.starts_with('.')) return complete_command(text);
  std::size_t begin = text.size();
  while (begin > 0 && is_word(text[begin - 1])) --begin;
  const auto begun = text.substr(begin);
  const auto words = words_of(text);
  const auto before = words_of(text.substr(0, begin));
  Candidates found(begun);
  if (begin > 0 && text[begin - 1] == '.') {
    if (before.empty()) return {};
    if (const auto* const table = table_of_alias(words, before.back().text)) found.add_columns(*table);
    return {begun.size(), found.list()};
  }
  const auto last = before.empty() ? std::string() : sql::upper_case(before.back().text);
  // After the comma of a FROM comes a table, too; telling that comma from others is not worth a parser.
  if (last == "FROM" || last == "JOIN") {
    found.add_tables();
    return {begun.size(), found.list()};
  }
  if (begun.empty()) return {};
  bool named = false;
  for (const auto& word : words) {
    if (const auto* const table = table_named(word.text)) {
      found.add_columns(*table);
      named = true;
    }
  }
  if (!named) {
    for (const auto& table : sql::catalog()) found.add_columns(table);
  }
  for (const auto& function : sql::functions()) found.add(function, {}, "(");
  for (const auto keyword : keywords) found.add_keyword(keyword);
  found.add_tables();
  return {begun.size(), found.list()};
}

std::string common_beginning(const std::vector<std::string>& candidates) {
  if (candidates.empty()) return {};
  std::string common = candidates.front();
  for (const auto& one : candidates) {
    const auto [mine, other] = std::ranges::mismatch(common, one);
    common.erase(mine, common.end());
  }
  return common;
}

}  // namespace daemoneye::cli
