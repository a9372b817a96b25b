// For tests: random statements over the grammar, deterministic by seed, with what they need to be run and compared.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sql/expression_generator.h"

namespace daemoneye::sql::test {

struct Statement {
  std::string ours, plain;                         // the same, but for times
  std::map<std::string, event::Value> parameters;  // named as RunOptions has them
  struct OrderKey {
    std::size_t column;  // of the result, from 0
    std::string collation;
  };
  std::vector<OrderKey> order;  // of the outermost ORDER BY; rows that are equal in it may come in any order
};

class StatementGenerator : private ExpressionGenerator {
 public:
  explicit StatementGenerator(std::uint64_t seed) : ExpressionGenerator(seed) {}

  Statement statement() {
    depth_ = 0;
    names_ = 0;
    positional_ = 0;
    parameters_.clear();
    order_.clear();
    parameter_style_ = static_cast<ParameterStyle>(dice_.below(4));
    std::string text = body();
    if (dice_.one_in(8)) text += one_of(";", " ; ", " -- the end", "; /* the end */");
    if (dice_.one_in(10)) replace(text, " FROM ", one_of(" /* from; */ FROM ", " -- 'from\n FROM ", "\tfrom\n"));
    if (dice_.one_in(10)) replace(text, "SELECT ", one_of("select ", "SeLeCt\n"));
    if (dice_.one_in(20) && !text.contains("SELECT DISTINCT")) replace(text, "SELECT ", "SELECT ALL ");
    return {side(text, '\x01', '\x02'), side(text, '\x02', '\x03'), parameters_, order_};
  }

 private:
  std::string body() {
    switch (dice_.below(22)) {
      case 0:
      case 1: return aggregate();
      case 2:
      case 3: return grouped();
      case 4: return extremes();
      case 5: return compound();
      case 6: return with();
      case 7: return recursive();
      case 8:
      case 9: return windowed();
      case 10: return limited();
      case 11: return lineage_join();
      case 12: return using_join();
      case 13: return json_rows();
      case 14: return distinct();
      case 15: return constants();
      case 16:
      case 17: return joined_events();
      default: return plain(1 + dice_.below(4));
    }
  }

  static void replace(std::string& text, const std::string& from, const std::string& to) {
    if (const auto at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
  }
  // Of what both() wrote, the part from one mark to the next; everything else as it is.
  static std::string side(const std::string& text, char begin, char end) {
    std::string out;
    bool within = false, keep = true;
    for (const char c : text) {
      if (c >= '\x01' && c <= '\x03') {
        within = c != '\x03';
        keep = !within || (c == begin && c != end);
      } else if (keep) {
        out += c;
      }
    }
    return out;
  }

  std::string correlated_select(const Scope& outer) override {
    const auto x = fresh();
    return "SELECT " + one_of("count(*)", "max(" + x + ".pid)", "min(" + x + ".name)", "total(" + x + ".uid)") +
           " FROM " + one_of("processes ", "process_events ") + x + " WHERE " + x +
           ".uid = " + integer_column(any(outer));
  }

  std::string table(Scope& scope) {
    const Source source{fresh(), dice_.one_in(2)};
    const std::string name = source.events ? "process_events" : "processes";
    std::string sql;
    switch (dice_.below(8)) {
      case 0: sql = "(SELECT * FROM " + name + one_of("", " WHERE uid = 1") + ") AS " + source.alias; break;
      case 1:
        sql = "(SELECT * FROM " + name + " ORDER BY " + (source.events ? "event_id" : "process_key") + " LIMIT 90) " +
              source.alias;
        break;
      case 2: sql = "\"" + name + "\" \"" + source.alias + "\""; break;
      default: sql = name + one_of(" ", " AS ") + source.alias;
    }
    scope.push_back(source);
    return sql;
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
      sql += " ON " + on + (dice_.one_in(3) ? " AND " + condition(scope) : "");
    }
    return sql;
  }

  // An ORDER BY over result columns, which the comparison then checks.
  std::string order_by(std::size_t columns) {
    std::string sql = " ORDER BY ";
    const std::size_t terms = 1 + dice_.below(columns);
    for (std::size_t i = 0; i < terms; ++i) {
      const auto collation = one_of("", "", "", " COLLATE NOCASE", " COLLATE BINARY");
      sql += (i > 0 ? ", " : "") + std::to_string(i + 1) + collation + one_of("", " ASC", " DESC") +
             one_of("", "", " NULLS FIRST", " NULLS LAST");
      order_.push_back({i, collation});
    }
    return sql;
  }

  std::string plain(std::size_t columns) {
    Scope scope;
    const std::string source = from(scope);
    std::string sql = "SELECT ";
    const bool star = dice_.one_in(8);
    if (star) {
      sql += one_of(any(scope).alias + ".*", "*");
    } else {
      for (std::size_t i = 0; i < columns; ++i)
        sql +=
            (i > 0 ? ", " : "") + value(scope) + one_of("", "", " AS c" + std::to_string(i), " d" + std::to_string(i));
    }
    sql += source;
    if (!dice_.one_in(5)) {
      sql += " WHERE " + condition(scope);
      if (dice_.one_in(2)) sql += " AND " + condition(scope);
    }
    if (!star && dice_.one_in(3)) sql += order_by(columns);
    return sql;
  }

  std::string distinct() {
    Scope scope;
    const std::string source = from(scope);
    const std::string columns =
        dice_.one_in(2) ? text_column(any(scope))
                        : text_column(any(scope)) + ", " + one_of(integer_column(any(scope)), text_column(any(scope)));
    std::string sql = "SELECT DISTINCT " + columns + source + (dice_.one_in(2) ? " WHERE " + condition(scope) : "");
    if (dice_.one_in(4)) return "SELECT count(*) FROM (" + sql + ") AS d";
    return sql + (dice_.one_in(3) ? order_by(1) : "");
  }

  // Grouping over dictionaries: one or two columns of one table, with conditions that can be pushed and that cannot.
  std::string grouped() {
    const bool events = !dice_.one_in(4);
    const Scope scope{{"e", events}};
    const std::string one = dice_.one_in(4) ? integer_column(scope[0]) : text_column(scope[0]);
    const std::string two = dice_.one_in(3) ? ", " + one_of(text_column(scope[0]), integer_column(scope[0])) : "";
    const bool counted = !dice_.one_in(4);
    std::string sql = "SELECT " + one + two + (counted ? one_of(", count(*) AS n", ", count(*) n") : "") +
                      (dice_.one_in(4) ? ", " + extreme(scope) : "") + " FROM " +
                      (events ? "process_events" : "processes") + " e";
    if (!dice_.one_in(3)) sql += " WHERE " + conditions(scope);
    sql += " GROUP BY " + one + two;
    if (counted && dice_.one_in(4)) sql += " HAVING n " + one_of("> 1", "= 1", "BETWEEN 2 AND 5");
    if (!dice_.one_in(3)) {
      const std::size_t count_at = two.empty() ? 1 : 2;
      if (counted && dice_.one_in(2)) {
        sql += " ORDER BY n DESC";
        order_.push_back({count_at, ""});
        // The count first and then all that is grouped by: a total order, which LIMIT needs.
        sql += two.empty() ? ", 1" : ", 1, 2";
        order_.push_back({0, ""});
        if (!two.empty()) order_.push_back({1, ""});
        sql += one_of("", " LIMIT 5", " LIMIT 3 OFFSET 1", " LIMIT 2, 4");
      } else {
        sql += order_by(1);
      }
    }
    return sql;
  }

  std::string conditions(const Scope& scope) {
    const auto pushable = [&] {
      return one_of("e.name = 'bash'", "e.name IN ('sh', 'nginx')", "e.name LIKE '%s%'", "e.name GLOB 'b*'",
                    "e.status = 'running'", "e.uid = 1", "e.pid > 130", "e.comm REGEXP 's'", "e.user <> 'root'",
                    time_column(scope[0]) + " >= " + time_literal(), time_column(scope[0]) + " < " + time_literal());
    };
    const auto left_over = [&] {
      return one_of("e.uid + 0 = 1", "upper(e.name) = 'BASH'", "e.name = 'BASH' COLLATE NOCASE", "e.name > e.comm",
                    "(e.uid = 1 OR e.name = 'sh')", "e.name LIKE '%s%' ESCAPE '!'", "e.name NOT LIKE 'b%'",
                    "e.pid % 2 = 0", "NOT e.uid = 1", "e.comm IS NOT NULL", "e.euid IS NULL", condition(scope));
    };
    std::string sql = dice_.one_in(2) ? pushable() : left_over();
    while (dice_.one_in(2)) sql += " AND " + (dice_.one_in(2) ? pushable() : left_over());
    return sql;
  }

  std::string extreme(const Scope& scope) {
    return one_of("min(", "max(", "count(", "count(DISTINCT ") +
           one_of(text_column(scope[0]), integer_column(scope[0]), time_column(scope[0])) + ")";
  }

  // Without groups: min, max, count over headers and dictionaries.
  std::string extremes() {
    const bool events = !dice_.one_in(4);
    const Scope scope{{"e", events}};
    std::string sql = "SELECT " + extreme(scope) + (dice_.one_in(2) ? ", " + extreme(scope) : "") +
                      (dice_.one_in(2) ? ", count(*)" : "") + " FROM " + (events ? "process_events" : "processes") +
                      " e";
    if (!dice_.one_in(3)) sql += " WHERE " + conditions(scope);
    return sql;
  }

  std::string aggregate() {
    Scope scope;
    const std::string source = from(scope);
    const std::string by = dice_.one_in(2) ? text_column(any(scope)) : integer_column(any(scope));
    const std::string column = integer_column(any(scope));
    const std::string filter = dice_.one_in(3) ? " FILTER (WHERE " + condition(scope) + ")" : "";
    const auto of = [&](const std::string& function) {
      return function + "(" + one_of("", "DISTINCT ") + column + ")";
    };
    std::string sql =
        "SELECT " + by + " AS g, count(*) AS n, " +
        one_of(of("sum"), of("min"), of("max"), of("total"), of("avg"), of("count"), "count(ALL " + column + ")",
               "length(group_concat(" + column + "))", "length(group_concat(" + column + ", '; '))",
               "json_array_length(json_group_array(" + column + "))",
               "json_type(json_group_object('k', " + column + "))") +
        filter_of(filter) + source;
    if (dice_.one_in(2)) sql += " WHERE " + condition(scope);
    sql += " GROUP BY " + one_of("1", "g", by);
    if (dice_.one_in(3)) sql += " HAVING " + one_of("n > 2", "count(*) > 1", "max(" + scope[0].alias + ".pid) > 120");
    if (dice_.one_in(2)) {
      const auto order = dice_.below(4);
      const std::pair<const char*, std::vector<Statement::OrderKey>> orders[] = {{"n DESC, g", {{1, ""}, {0, ""}}},
                                                                                 {"count(*), 1", {{1, ""}, {0, ""}}},
                                                                                 {"2 DESC", {{1, ""}}},
                                                                                 {"g", {{0, ""}}}};
      sql += std::string(" ORDER BY ") + orders[order].first;
      order_ = orders[order].second;
    }
    return sql;
  }
  // FILTER follows the aggregate itself, which a function may stand around.
  static std::string filter_of(const std::string& filter) { return filter.empty() ? "" : ", count(*)" + filter; }

  std::string compound() {
    std::string sql = plain_columns();
    for (std::size_t i = 1 + dice_.below(2); i > 0; --i)
      sql += one_of(" UNION ", " UNION ALL ", " INTERSECT ", " EXCEPT ") + plain_columns();
    switch (dice_.below(5)) {
      case 0: order_ = {{0, ""}, {1, ""}}; return sql + " ORDER BY 1, 2" + one_of("", " LIMIT 7", " LIMIT 5 OFFSET 2");
      case 1: order_ = {{0, ""}}; return sql + " ORDER BY a DESC";
      case 2: order_ = {{1, ""}, {0, " COLLATE NOCASE"}}; return sql + " ORDER BY b, a COLLATE NOCASE";
      default: return sql;
    }
  }
  std::string plain_columns() {
    Scope scope;
    const std::string source = " FROM " + table(scope);
    return "SELECT " + text_column(scope[0]) + " AS a, " + integer_column(scope[0]) + " AS b" + source + " WHERE " +
           condition(scope);
  }

  std::string with() {
    Scope scope;
    const std::string source = " FROM " + table(scope);
    const auto name = fresh();
    const std::string kind = one_of(" AS (", " AS MATERIALIZED (", " AS NOT MATERIALIZED (");
    std::string sql = "WITH " + name + "(x, y)" + kind + "SELECT " + text_column(scope[0]) + ", " +
                      integer_column(scope[0]) + source + " WHERE " + condition(scope) + ")";
    if (dice_.one_in(6)) return sql + " SELECT count(*) FROM " + name;
    if (dice_.one_in(3)) {
      const auto second_name = fresh();
      sql += ", " + second_name + " AS (WITH inner_one AS (SELECT x, y FROM " + name +
             ") SELECT * FROM inner_one WHERE y " + one_of("> 1", "IS NOT NULL", "< 200") + ")";
      return sql + " SELECT a.x, (SELECT count(*) FROM " + second_name + " b WHERE b.x = a.x) FROM " + name + " a";
    }
    return sql + " SELECT a.x, count(*), sum(a.y) FROM " + name + " a " +
           one_of("", "JOIN " + name + " b ON a.y = b.y ", "LEFT JOIN " + name + " b ON a.y = b.y AND b.x > 'c' ") +
           "GROUP BY a.x";
  }

  std::string recursive() {
    const std::string pid = std::to_string(100 + dice_.below(100));
    const std::string bound = std::to_string(2 + dice_.below(20));
    switch (dice_.below(6)) {
      case 0:
        return "WITH RECURSIVE up(k, d) AS (SELECT process_key, 0 FROM processes WHERE pid = " + pid +
               " UNION ALL SELECT p.parent_key, d + 1 FROM up JOIN processes p ON p.process_key = up.k WHERE d < 20) "
               "SELECT k, d FROM up";
      case 1:
        return "WITH RECURSIVE down(k) AS (SELECT process_key FROM process_events WHERE pid = " + pid +
               " UNION SELECT e.process_key FROM down, process_events e WHERE e.parent_key = down.k) "
               "SELECT count(*), min(k), max(k) FROM down";
      case 2:
        return "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + bound +
               ") SELECT i, (SELECT count(*) FROM processes p WHERE p.pid % n.i = 0) FROM n";
      case 3:
        return "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT (i * 3) % 17 FROM n) SELECT sum(i), count(*) FROM n";
      case 4:
        return "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT " + bound +
               ") SELECT max(i) FROM n";
      default:
        order_ = {{0, ""}};
        return "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT i + 2 FROM n WHERE i < 30 ORDER "
               "BY "
               "1 DESC LIMIT " +
               bound + " OFFSET 1) SELECT i FROM n ORDER BY i";
    }
  }

  std::string windowed() {
    const Scope scope{{"e", true}};
    const std::string filter = dice_.one_in(3) ? " FILTER (WHERE " + condition(scope) + ")" : "";
    const std::string where = " WHERE " + condition(scope);
    const std::string part = dice_.one_in(3) ? "" : "PARTITION BY " + one_of("e.name", "e.uid", "e.name, e.uid") + " ";
    const std::string edge =
        one_of("1", "2", parameter_style_ == ParameterStyle::none ? "1" : parameter("two", std::int64_t{2}));
    std::string call, over;
    if (dice_.one_in(2)) {
      // A total order: everything about a row is determined.
      call = one_of("row_number()", "lag(e.pid)", "lag(e.name, 2)", "lead(e.pid, 1, -1)", "first_value(e.name)",
                    "last_value(e.pid)", "nth_value(e.pid, 2)", "ntile(3)", "sum(e.pid)", "group_concat(e.pid)",
                    "json_group_array(e.pid)");
      over = part + "ORDER BY e.event_id" + one_of("", " DESC") +
             one_of("", " ROWS BETWEEN " + edge + " PRECEDING AND CURRENT ROW", " ROWS 1 PRECEDING",
                    " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING", " ROWS UNBOUNDED PRECEDING",
                    " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW",
                    " ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING", " ROWS BETWEEN 1 FOLLOWING AND 3 FOLLOWING",
                    " RANGE BETWEEN 5 PRECEDING AND 5 FOLLOWING", " RANGE CURRENT ROW EXCLUDE NO OTHERS");
    } else {
      // Peers: what does not depend on the order among them.
      call = one_of("rank()", "dense_rank()", "percent_rank()", "cume_dist()", "sum(e.pid)", "count(*)", "max(e.name)",
                    "min(e.pid)", "total(e.uid)", "avg(e.pid)", "count(e.comm)");
      over = part + "ORDER BY e.uid" + one_of("", " DESC", " NULLS LAST") +
             one_of("", " GROUPS BETWEEN CURRENT ROW AND 1 FOLLOWING EXCLUDE GROUP",
                    " GROUPS BETWEEN " + edge + " PRECEDING AND 1 FOLLOWING EXCLUDE TIES",
                    " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", " RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING",
                    " GROUPS 2 PRECEDING EXCLUDE NO OTHERS");
    }
    const bool aggregate = call.find_first_of("(") != std::string::npos &&
                           (call.starts_with("sum") || call.starts_with("count") || call.starts_with("max") ||
                            call.starts_with("min") || call.starts_with("total") || call.starts_with("avg"));
    call += aggregate ? filter : "";
    const std::string head = "SELECT e.event_id, " + call + " OVER ";
    if (dice_.one_in(3)) return head + "w FROM process_events e" + where + " WINDOW w AS (" + over + ")";
    if (!part.empty() && dice_.one_in(2)) {
      // A window built on another.
      return head + "(w " + over.substr(part.size()) + ") FROM process_events e" + where + " WINDOW w AS (" + part +
             ")";
    }
    if (dice_.one_in(6)) {
      return "SELECT e.uid, sum(count(*)) OVER (ORDER BY e.uid) FROM process_events e" + where + " GROUP BY e.uid";
    }
    return head + "(" + over + ") FROM process_events e" + where;
  }

  // With LIMIT only a total order is the same twice.
  std::string limited() {
    const Scope scope{{"e", true}};
    const std::string by = one_of("event_id", "time");
    order_ = {{0, ""}};
    return "SELECT e." + by + ", " + value(scope) + " FROM process_events e WHERE " + condition(scope) +
           " ORDER BY e." + by + one_of("", " DESC", " ASC") +
           (dice_.one_in(5) ? " LIMIT 2, 9" : " LIMIT " + std::to_string(dice_.below(30)) + one_of("", " OFFSET 3"));
  }

  // A process and its parent, in every form it is asked for.
  std::string lineage_join() {
    const auto child = one_of("processes", "process_events"), parent = one_of("processes", "process_events");
    const Scope c{{"c", child == "process_events"}}, p{{"p", parent == "process_events"}};
    const auto name = text_literal();
    const std::string where = dice_.one_in(2) ? condition(c) : one_of("c.name = 'sh'", "c.uid = 1", "c.pid > 120");
    switch (dice_.below(8)) {
      case 6:
        return "SELECT * FROM " +
               one_of(
                   "(processes c JOIN processes p ON p.process_key = c.parent_key) JOIN scans s",
                   "scans s, (processes c CROSS JOIN processes p ON p.process_key = c.parent_key)",
                   "(processes c LEFT JOIN processes p ON p.process_key = c.parent_key) LEFT JOIN scans s ON s.scan_id "
                   "= c.scan_id",
                   "processes g JOIN (processes c JOIN processes p ON p.process_key = c.parent_key) ON "
                   "g.process_key = p.parent_key") +
               " WHERE " + one_of("c.name = 'sh'", "c.uid = 1", "c.pid > 120", "p.name LIKE '%s%'");
      case 0:
        return "SELECT c.pid, p.pid, p.name FROM " + child + " c JOIN " + parent +
               " p ON p.process_key = c.parent_key WHERE p.name = " + name + " AND " + where;
      case 1:
        return "SELECT c.pid, c.name FROM " + child + " c WHERE " + where +
               " AND c.parent_key IN (SELECT p.process_key FROM " + parent + " p WHERE p.name = " + name + ")";
      case 2:
        return "SELECT c.pid, c.name FROM " + child + " c WHERE " + where + one_of(" AND EXISTS", " AND NOT EXISTS") +
               " (SELECT 1 FROM " + parent + " p WHERE p.process_key = c.parent_key AND p.name = " + name + ")";
      case 3:
        return "SELECT c.pid, p.name, g.name FROM " + child + " c LEFT JOIN " + parent +
               " p ON p.process_key = c.parent_key LEFT JOIN processes g ON g.process_key = p.parent_key WHERE " +
               where;
      case 4:
        return "SELECT p.name, c.name, count(*) AS n FROM " + child + " c, " + parent +
               " p WHERE p.process_key = c.parent_key GROUP BY 1, 2";
      case 5:
        return "SELECT c.name, count(*) FROM " + child + " c WHERE EXISTS (SELECT * FROM " + parent +
               " p WHERE p.process_key = c.parent_key AND p.uid = c.uid AND " + condition(p) + ") GROUP BY 1";
      default:
        return "SELECT p.pid, count(c.pid) FROM " + parent + " p LEFT JOIN " + child +
               " c ON c.parent_key = p.process_key AND c.name = " + name + " GROUP BY p.process_key, p.pid";
    }
  }

  // Events and events by a key or pid, where one side is picked within a time: read first and passed on as a set.
  std::string joined_events() {
    const Scope e{{"e", true}}, p{{"p", true}};
    const std::string key =
        one_of("p.process_key = e.parent_key", "e.parent_key = p.process_key", "p.parent_key = e.parent_key",
               "p.process_key = e.process_key", "p.pid = e.ppid", "e.ppid = p.ppid", "p.parent_key = e.process_key");
    const std::string picked =
        one_of("p.name = " + text_literal(), "p.name IN ('bash', " + text_literal() + ", 'sh')", "'sh' = p.comm",
               "p.parent_name = 'bash'", "p.executable_path IN ('/usr/bin/sh', '/usr/bin/nginx')", "p.pid = 120") +
        " AND " +
        one_of("p.time >= " + time_literal(), "p.event_id > " + std::to_string(dice_.below(40)),
               time_literal() + " < p.time", "p.event_id BETWEEN 3 AND 60");
    std::string conditions = picked;
    if (dice_.one_in(2))
      conditions += " AND " + one_of("p.kind = 'exec'", "p.uid <> 1", "p.comm IS NOT NULL", "p.name LIKE '%s%'");
    if (dice_.one_in(4)) conditions += " AND " + condition(p);
    const std::string of_e = one_of("e.kind = 'exec'", "e.uid < 2", "e.name IN ('sh', 'bash', 'nginx')", condition(e));
    const auto pair =
        dice_.one_in(2) ? "process_events e" + one_of(" JOIN ", " INNER JOIN ", " CROSS JOIN ") + "process_events p ON "
                        : "process_events p" + one_of(" JOIN ", " CROSS JOIN ") + "process_events e ON ";
    switch (dice_.below(9)) {
      case 0:
        return "SELECT e.event_id, p.event_id, p.name, p.uid FROM " + pair + key + " WHERE " + of_e + " AND " +
               conditions;
      case 1:
        return "SELECT e.event_id, " + value(p) + " FROM " + pair + conditions + " WHERE " + key +
               " AND e.uid IS NOT p.uid";
      case 2:
        return "SELECT e.name, count(*), count(DISTINCT p.pid) FROM process_events e, process_events p WHERE " + key +
               " AND " + conditions + " GROUP BY e.name";
      case 3:
        return "SELECT * FROM process_events e LEFT JOIN process_events p ON " + key + " AND " + conditions +
               " WHERE " + of_e;
      case 4:
        return "SELECT e.event_id FROM process_events e WHERE " + of_e + " AND EXISTS (SELECT " +
               one_of("1", "*", "p.name") + " FROM process_events p WHERE " + key + " AND " + conditions + ")";
      case 5:
        return "SELECT e.event_id FROM process_events e WHERE " + of_e + one_of(" AND NOT EXISTS", " OR EXISTS") +
               " (SELECT 1 FROM process_events p WHERE " + key + " AND " + conditions + ")";
      case 6:
        return "SELECT e.event_id, EXISTS (SELECT 1 FROM process_events p WHERE " + key + " AND " + conditions +
               ") FROM process_events e WHERE " + of_e;
      case 7:
        return "SELECT count(*), min(d.k) FROM (SELECT e.process_key AS k, p.name AS n FROM " + pair + key + " WHERE " +
               conditions + ") d WHERE d.n IS NOT NULL";
      default:
        order_ = {{0, ""}};
        return "SELECT e.event_id FROM process_events e WHERE EXISTS (SELECT 1 FROM process_events p WHERE p.name = "
               "e.name AND " +
               key + " AND " + conditions + ") AND EXISTS (SELECT 1 FROM process_events p WHERE " + key +
               " AND p.name = 'bash' AND p.event_id > 5) ORDER BY e.event_id" + one_of("", " DESC LIMIT 7");
    }
  }

  std::string using_join() {
    const std::string kind = one_of(" JOIN ", " LEFT JOIN ", " INNER JOIN ");
    // What is in both and not in USING has to be named with its table.
    const bool several = dice_.one_in(2);
    return "SELECT " + one_of("*", "process_key, b.name", "process_key, a.uid, b.*") +
           " FROM (SELECT process_key, pid, uid FROM " + one_of("processes", "process_events WHERE kind = 'exec'") +
           ") a" + kind + "(SELECT process_key, " + (several ? "pid, " : "") +
           "name FROM processes WHERE uid < 2) b USING (" + (several ? "process_key, pid" : "process_key") + ")" +
           one_of("", " WHERE pid > 130", " WHERE b.name LIKE '%s%'");
  }

  std::string json_rows() {
    const Scope scope{{"e", true}};
    const std::string where = " WHERE " + condition(scope);
    switch (dice_.below(3)) {
      case 0: return "SELECT e.event_id, j.key, j.value FROM process_events e, json_each(e.arguments) j" + where;
      case 1:
        return "SELECT e.event_id FROM process_events e" + where +
               " AND EXISTS (SELECT 1 FROM json_each(e.arguments) a WHERE a.value = '-c' AND a.key = 1)";
      default:
        return "SELECT t.fullkey, t.type, t.atom FROM json_tree('{\"a\":[1,\"x\",null],\"b\":{\"c\":1.5}}'" +
               one_of("", ", '$.a'") + ") AS t WHERE t.atom IS NOT NULL";
    }
  }

  std::string constants() {
    const Scope scope{{"one", false}};
    std::string sql = "SELECT ";
    for (std::size_t i = 0; i < 3; ++i) sql += value(scope) + ", ";
    sql += both("CURRENT_TIMESTAMP", "'2026-11-21 20:48:23'") + ", " + both("current_date", "'2026-11-21'") + ", " +
           both("CURRENT_TIME", "'20:48:23'") + ", " + both("iso(ago('5m'))", "'2026-11-21T20:43:23.000000000Z'");
    sql += one_of("", " WHERE 1 = 1", " WHERE NULL");
    // Where there is no FROM the columns come from outside.
    return "SELECT one.pid, (SELECT count(*) FROM (" + sql + ")) FROM processes one";
  }

  std::vector<Statement::OrderKey> order_;
};

}  // namespace daemoneye::sql::test
