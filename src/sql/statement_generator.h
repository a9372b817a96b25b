// For tests: random statements over the grammar, deterministic by seed. What SQLite leaves open (which row stands for a
// group, the order of equals under LIMIT) is not generated.
#pragma once

#include <string>
#include <vector>

#include "sql/test_store.h"

namespace daemoneye::sql::test {

class StatementGenerator {
 public:
  explicit StatementGenerator(std::uint64_t seed) : dice_(seed) {}

  std::string statement() {
    depth_ = 0;
    names_ = 0;
    switch (dice_.below(8)) {
      case 0: return aggregate() + ";";
      case 1: return compound();
      case 2: return with();
      case 3: return windowed();
      case 4: return limited();
      default: return plain(1 + dice_.below(4));
    }
  }

 private:
  struct Source {
    std::string alias;
    bool events;
  };
  using Scope = std::vector<Source>;

  template <class... T>
  std::string one_of(T... choices) {
    const std::string list[] = {choices...};
    return list[dice_.below(sizeof...(choices))];
  }
  std::string fresh() { return "t" + std::to_string(++names_); }

  std::string text_column(const Source& source) {
    std::vector<std::string> names = {"name", "comm",   "executable_path", "command_line",
                                      "user", "status", "process_key",     "parent_key"};
    if (source.events) names.insert(names.end(), {"kind", "source", "parent_name", "kind"});
    return source.alias + "." + names[dice_.below(names.size())];
  }
  std::string integer_column(const Source& source) {
    std::vector<std::string> names = {"pid", "ppid", "uid", "euid", "exit_code", "memory_usage"};
    if (source.events) names.emplace_back("event_id");
    return source.alias + "." + names[dice_.below(names.size())];
  }
  std::string time_column(const Source& source) {
    return source.alias + "." +
           (source.events && dice_.one_in(2) ? "time" : one_of("start_time", "exit_time", "collection_time"));
  }
  const Source& any(const Scope& scope) { return scope[dice_.below(scope.size())]; }

  std::string text_literal() {
    return one_of("'bash'", "'nginx'", "'sh'", "'BASH'", "'a''b'", "'né'", "'exec'", "'exit'", "'running'", "'exited'",
                  "''", "'root'", "'100'");
  }
  std::string integer_literal() {
    return one_of("0", "1", "2", "100", "150", "0x64", "-1", "4096", "9223372036854775807", "200");
  }
  std::string time_literal() {
    return std::to_string(start_of_history + static_cast<std::int64_t>(dice_.below(100)) * second);
  }

  std::string value(const Scope& scope) {
    if (++depth_ > 12) return integer_literal();
    switch (dice_.below(22)) {
      case 0: return text_literal();
      case 1: return integer_literal();
      case 2: return one_of("NULL", "1.5", "2e2", ".25", "x'6162'", "TRUE", "FALSE");
      case 3: return "upper(" + text_column(any(scope)) + ")";
      case 4:
        return "(" + integer_column(any(scope)) + " " + one_of("+", "-", "*", "/", "%", "&", "|", "<<", ">>") + " " +
               value(scope) + ")";
      case 5: return text_column(any(scope)) + " || " + text_literal();
      case 6: return "CASE WHEN " + condition(scope) + " THEN " + value(scope) + " ELSE " + value(scope) + " END";
      case 7:
        return "CASE " + integer_column(any(scope)) + " WHEN 1 THEN 'one' WHEN " + integer_literal() +
               " THEN 'two' END";
      case 8: return "CAST(" + value(scope) + " AS " + one_of("INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC") + ")";
      case 9: return "coalesce(" + text_column(any(scope)) + ", " + value(scope) + ")";
      case 10: return "length(" + text_column(any(scope)) + ")";
      case 11: return "substr(" + text_column(any(scope)) + ", 2, 3)";
      case 12: return one_of("-", "+", "~") + integer_column(any(scope));
      case 13:
        return "(SELECT " + one_of("count(*)", "max(x.pid)", "min(x.name)") + " FROM " +
               one_of("processes", "process_events") + " x WHERE x.uid = " + integer_column(any(scope)) + ")";
      case 14: return "iif(" + condition(scope) + ", 1, 'no')";
      case 15: return "nullif(" + integer_column(any(scope)) + ", " + integer_literal() + ")";
      case 16: return "typeof(" + value(scope) + ")";
      case 17: return any(scope).alias + ".cpu_usage";
      case 18: return "abs(" + integer_column(any(scope)) + ")";
      case 19: return "json_array(" + text_column(any(scope)) + ", 1) ->> 0";
      case 20: return text_column(any(scope));
      default: return integer_column(any(scope));
    }
  }

  std::string pattern() {
    return one_of("'b%'", "'%s%'", "'_ash'", "'B%'", "'%''%'", "'%é'", "''", "'%x\\_%'", "'/usr/%'", "'%-c 1%'");
  }

  std::string condition(const Scope& scope) {
    if (++depth_ > 12) return text_column(any(scope)) + " = " + text_literal();
    const auto comparison = [&] {
      return one_of("=", "==", "<>", "!=", "<", "<=", ">", ">=", "IS", "IS NOT", "IS DISTINCT FROM");
    };
    switch (dice_.below(24)) {
      case 0: return text_column(any(scope)) + " " + comparison() + " " + text_literal();
      case 1: return integer_column(any(scope)) + " " + comparison() + " " + integer_literal();
      case 2: return time_column(any(scope)) + " " + one_of("<", "<=", ">", ">=", "=") + " " + time_literal();
      case 3: return text_column(any(scope)) + one_of(" LIKE ", " NOT LIKE ") + pattern();
      case 4:
        return text_column(any(scope)) + one_of(" GLOB ", " NOT GLOB ") +
               one_of("'b*'", "'*s*'", "'[a-n]*'", "'?ash'", "'*'");
      case 5:
        return text_column(any(scope)) + one_of(" REGEXP ", " NOT REGEXP ") +
               one_of("'^b'", "'s'", "'^(sh|bash)$'", "'[0-9]+'", "''");
      case 6: return text_column(any(scope)) + " LIKE '%!%x!_%' ESCAPE '!'";
      case 7:
        return text_column(any(scope)) + one_of(" IN (", " NOT IN (") + text_literal() + ", " + text_literal() + ", " +
               text_literal() + ")";
      case 8:
        return integer_column(any(scope)) + one_of(" IN (", " NOT IN (") + integer_literal() + ", " +
               integer_literal() + one_of("", ", NULL") + ")";
      case 9:
        return integer_column(any(scope)) + one_of(" BETWEEN ", " NOT BETWEEN ") + integer_literal() + " AND " +
               integer_literal();
      case 10: return value(scope) + one_of(" IS NULL", " IS NOT NULL", " ISNULL", " NOTNULL", " NOT NULL");
      case 11:
        return "(" + condition(scope) + " OR " + condition(scope) +
               one_of("", " OR " + text_column(any(scope)) + " = 'sh'") + ")";
      case 12: return "(" + condition(scope) + " AND " + condition(scope) + ")";
      case 13: return "NOT " + condition(scope);
      case 14: return "NOT (" + condition(scope) + ")";
      case 15: {
        const auto alias = fresh();
        return one_of("EXISTS", "NOT EXISTS") + " (SELECT 1 FROM " + one_of("processes ", "process_events ") + alias +
               " WHERE " + alias + ".process_key = " + any(scope).alias + "." + one_of("parent_key", "process_key") +
               ")";
      }
      case 16:
        return any(scope).alias + "." + one_of("parent_key", "process_key") + one_of(" IN ", " NOT IN ") +
               "(SELECT process_key FROM processes WHERE name = " + text_literal() + ")";
      case 17:
        return "(" + any(scope).alias + ".name, " + any(scope).alias + ".uid) = (" + text_literal() + ", " +
               integer_literal() + ")";
      case 18:
        return text_column(any(scope)) + " " + comparison() + " " + text_literal() + " COLLATE " +
               one_of("NOCASE", "BINARY", "RTRIM");
      case 19: return text_column(any(scope)) + " COLLATE NOCASE IN ('BASH', 'x', 'ROOT')";
      case 20:
        return integer_column(any(scope)) + " " + comparison() + " " + one_of("'100'", "1.0", "'1'", "'x'", "100.5");
      case 21: return text_column(any(scope)) + " " + comparison() + " " + one_of("100", "1", "2.5");
      case 22: return any(scope).alias + ".cpu_usage " + comparison() + " " + one_of("1", "2.5", "'3'", "NULL");
      default: return value(scope) + " " + comparison() + " " + value(scope);
    }
  }

  std::string table(Scope& scope) {
    const Source source{fresh(), dice_.one_in(2)};
    scope.push_back(source);
    if (dice_.one_in(6)) {
      return "(SELECT * FROM " + std::string(source.events ? "process_events" : "processes") +
             one_of("", " WHERE uid = 1") + ") AS " + source.alias;
    }
    return std::string(source.events ? "process_events" : "processes") + one_of(" ", " AS ") + source.alias;
  }

  std::string from(Scope& scope) {
    std::string sql = " FROM " + table(scope);
    if (dice_.one_in(3)) {
      const Source left = scope.back();
      const auto kind = one_of(" JOIN ", " INNER JOIN ", " LEFT JOIN ", " CROSS JOIN ", " LEFT OUTER JOIN ");
      sql += kind + table(scope);
      const Source& right = scope.back();
      const std::string on =
          dice_.one_in(3) ? left.alias + ".pid = " + right.alias + ".ppid"
                          : right.alias + ".process_key = " + left.alias + "." + one_of("parent_key", "process_key");
      sql += " ON " + on + (dice_.one_in(3) ? " AND " + right.alias + ".uid = 1" : "");
    }
    return sql;
  }

  std::string plain(std::size_t columns) {
    Scope scope;
    const std::string source = from(scope);
    std::string sql = dice_.one_in(6) ? "SELECT DISTINCT " : "SELECT ";
    for (std::size_t i = 0; i < columns; ++i) sql += (i > 0 ? ", " : "") + value(scope);
    if (columns == 4 && dice_.one_in(3)) sql = "SELECT " + any(scope).alias + ".*";
    sql += source;
    if (!dice_.one_in(5)) {
      sql += " WHERE " + condition(scope);
      if (dice_.one_in(2)) sql += " AND " + condition(scope);
    }
    if (dice_.one_in(4)) sql += " ORDER BY 1" + one_of("", " DESC", " COLLATE NOCASE", " NULLS LAST");
    return sql;
  }

  std::string aggregate() {
    Scope scope;
    const std::string source = from(scope);
    const std::string by = dice_.one_in(2) ? text_column(any(scope)) : integer_column(any(scope));
    std::string sql = "SELECT " + by + " AS g, count(*) AS n, " + one_of("sum", "min", "max", "total", "avg", "count") +
                      "(" + one_of("", one_of("", "DISTINCT ")) + integer_column(any(scope)) + ")" +
                      (dice_.one_in(3) ? " FILTER (WHERE " + condition(scope) + ")" : "") + source;
    if (dice_.one_in(2)) sql += " WHERE " + condition(scope);
    sql += " GROUP BY " + one_of("1", "g", by);
    if (dice_.one_in(3)) sql += " HAVING " + one_of("n > 2", "count(*) > 1", "max(" + scope[0].alias + ".pid) > 120");
    if (dice_.one_in(2)) sql += " ORDER BY " + one_of("n DESC, g", "count(*), 1", "2 DESC");
    return sql;
  }

  std::string compound() {
    std::string sql = plain_columns();
    for (std::size_t i = 1 + dice_.below(2); i > 0; --i)
      sql += one_of(" UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT ") + plain_columns();
    return sql + one_of("", " ORDER BY 1, 2", " ORDER BY a DESC");
  }
  std::string plain_columns() {
    Scope scope;
    const std::string source = " FROM " + table(scope);
    return "SELECT " + text_column(scope[0]) + " AS a, " + integer_column(scope[0]) + " AS b" + source + " WHERE " +
           condition(scope);
  }

  std::string with() {
    if (dice_.one_in(3)) {
      return "WITH RECURSIVE up(k, d) AS (SELECT process_key, 0 FROM processes WHERE pid = " +
             std::to_string(100 + dice_.below(100)) +
             " UNION ALL SELECT p.parent_key, d + 1 FROM up JOIN processes p ON p.process_key = up.k WHERE d < 20) "
             "SELECT k, d FROM up";
    }
    Scope scope;
    const std::string source = " FROM " + table(scope);
    const auto name = fresh();
    return "WITH " + name + "(x, y) AS (SELECT " + text_column(scope[0]) + ", " + integer_column(scope[0]) + source +
           " WHERE " + condition(scope) + ") SELECT a.x, count(*), sum(a.y) FROM " + name + " a " +
           one_of("", "JOIN " + name + " b ON a.y = b.y ") + "GROUP BY a.x";
  }

  std::string windowed() {
    Scope scope;
    const std::string source = " FROM process_events e";
    scope.push_back({"e", true});
    const std::string frame = one_of("", " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", " ROWS 1 PRECEDING",
                                     " GROUPS BETWEEN CURRENT ROW AND 1 FOLLOWING EXCLUDE CURRENT ROW");
    const std::string over = "(PARTITION BY " + text_column(scope[0]) + " ORDER BY e.event_id" + frame + ")";
    return "SELECT e.event_id, " +
           one_of("row_number()", "lag(e.pid)", "sum(e.pid)", "first_value(e.name)", "count(*)", "ntile(3)",
                  "max(e.uid)") +
           " OVER " + over + source + " WHERE " + condition(scope);
  }

  // With LIMIT only a total order is the same twice.
  std::string limited() {
    Scope scope{{"e", true}};
    return "SELECT e.event_id, " + value(scope) + " FROM process_events e WHERE " + condition(scope) +
           " ORDER BY e.event_id" + one_of("", " DESC", " ASC") + " LIMIT " + std::to_string(dice_.below(30)) +
           one_of("", " OFFSET 3");
  }

  Dice dice_;
  int depth_ = 0;
  unsigned names_ = 0;
};

}  // namespace daemoneye::sql::test
