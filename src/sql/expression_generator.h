// For tests: random values and conditions over the grammar, deterministic by seed. What SQLite leaves open (which row
// stands for a group, the order of equals under LIMIT) is not generated.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sql/test_store.h"

namespace daemoneye::sql::test {

class ExpressionGenerator {
 protected:
  explicit ExpressionGenerator(std::uint64_t seed) : dice_(seed) {}

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
  const Source& any(const Scope& scope) { return scope[dice_.below(scope.size())]; }

  // What is written otherwise for plain SQLite, where a time column is no more than an integer.
  static std::string both(const std::string& ours, const std::string& plain) {
    return "\x01" + ours + "\x02" + plain + "\x03";
  }

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

  std::string text_literal() {
    return one_of("'bash'", "'nginx'", "'sh'", "'BASH'", "'a''b'", "'né'", "'exec'", "'exit'", "'running'", "'exited'",
                  "''", "'root'", "'100'", "'sh  '");
  }
  std::string integer_literal() {
    return one_of("0", "1", "2", "100", "150", "0x64", "-1", "4096", "9223372036854775807", "200", "0XfF");
  }
  std::string any_literal() {
    return one_of("NULL", "1.5", "2e2", ".25", "1E-3", "7.", "x'6162'", "X''", "TRUE", "false", "12345678901234567890");
  }
  std::string time_literal() {
    const auto at = static_cast<std::int64_t>(dice_.below(100));
    const auto ns = std::to_string(start_of_history + at * second);
    const auto clock = [&](std::int64_t zone_hours) {
      const auto local = at + zone_hours * 3600;
      return base::to_iso(Timestamp{start_of_history + local * second}).substr(0, 19);
    };
    std::string spaced = clock(0);
    spaced[10] = ' ';
    switch (dice_.below(9)) {
      case 0: return both("'" + clock(0) + "Z'", ns);
      case 1: return both("'" + spaced + "'", ns);
      case 2: return both("'" + clock(2) + "+02:00'", ns);
      case 3: return both("'" + clock(-5) + ".000-05:00'", ns);
      case 4: return both("'" + ns + "'", ns);
      case 5:
        return both("datetime('now', '+" + std::to_string(at) + " seconds')",
                    "(unixepoch('2026-11-21 20:48:23', '+" + std::to_string(at) + " seconds') * 1000000000)");
      case 6: return both("ago('" + std::to_string(at) + "s')", std::to_string(start_of_history - at * second));
      case 7: return both("'2026-11-21'", "1795219200000000000");
      default: return ns;
    }
  }

  // One value of each kind is given; see Statement::parameters.
  std::string parameter(const std::string& named, const event::Value& given) {
    switch (parameter_style_) {
      case ParameterStyle::named: parameters_[named] = given; return ":" + named;
      case ParameterStyle::positional: parameters_["?" + std::to_string(++positional_)] = given; return "?";
      case ParameterStyle::numbered: {
        positional_ = std::max<std::size_t>(positional_, 1 + dice_.below(9));
        const auto number = "?" + std::to_string(positional_);
        parameters_.emplace(number, given);
        return number;
      }
      case ParameterStyle::none: break;
    }
    return "NULL";
  }
  std::string some_parameter() {
    switch (dice_.below(4)) {
      case 0: return parameter("text", std::string("bash"));
      case 1: return parameter("number", std::int64_t{2});
      case 2: return parameter("real", 1.5);
      default: return parameter("nothing", {});
    }
  }

  virtual std::string correlated_select(const Scope& outer) = 0;  // one column, at most one row

  std::string integer(const Scope& scope) { return dice_.one_in(3) ? integer_literal() : integer_column(any(scope)); }
  std::string text(const Scope& scope) { return dice_.one_in(3) ? text_literal() : text_column(any(scope)); }
  std::string small() { return one_of("0", "0.25", "0.5", "1", "-1", "2", "NULL"); }

  // One call of each allowed function is here; $i, $t, $v and $s stand for integer, text, value and a small number.
  std::string call(const Scope& scope) {
    static const std::vector<std::string> forms = {"abs($i)",
                                                   "acos($s)",
                                                   "asin($s)",
                                                   "atan($s)",
                                                   "atan2($s, 2)",
                                                   "ceil($s)",
                                                   "ceiling($s)",
                                                   "char(65, 233, $i)",
                                                   "coalesce($t, $v)",
                                                   "coalesce(NULL, $i, $v)",
                                                   "cos($s)",
                                                   "degrees($s)",
                                                   "exp($s)",
                                                   "floor($s)",
                                                   "format('%s-%5d|%.2f', $t, $i, $s)",
                                                   "hex($t)",
                                                   "ifnull($t, $v)",
                                                   "iif($i > 100, $v, $t)",
                                                   "instr($t, 's')",
                                                   "json(json_array($t))",
                                                   "json_array($t, $i, NULL)",
                                                   "json_array_length(json_array($t, 1))",
                                                   "json_extract(json_object('a', $t), '$.a')",
                                                   "json_object('a', $i, 'b', $t)",
                                                   "json_quote($t)",
                                                   "json_type(json_array($v), '$[0]')",
                                                   "json_valid($t)",
                                                   "length($v)",
                                                   "ln($s)",
                                                   "log($s)",
                                                   "log(2, $s)",
                                                   "log10($s)",
                                                   "log2($s)",
                                                   "lower($t)",
                                                   "ltrim($t)",
                                                   "ltrim($t, 'b/')",
                                                   "max($i, $i, 3)",
                                                   "min($t, $t)",
                                                   "mod($i, 7)",
                                                   "nullif($i, $i)",
                                                   "pi()",
                                                   "pow($s, 2)",
                                                   "power(2, $s)",
                                                   "printf('%x %%', $i)",
                                                   "quote($v)",
                                                   "radians($s)",
                                                   "replace($t, 's', 'ss')",
                                                   "round($s, 1)",
                                                   "round($s)",
                                                   "rtrim($t)",
                                                   "sign($s)",
                                                   "sin($s)",
                                                   "sqrt($s)",
                                                   "substr($t, 2, 3)",
                                                   "substr($t, -2)",
                                                   "substring($t, 2)",
                                                   "tan($s)",
                                                   "trim($t)",
                                                   "trim($t, 'sh')",
                                                   "trunc($s)",
                                                   "typeof($v)",
                                                   "unicode($t)",
                                                   "upper($t)",
                                                   "date('2026-11-21', '+1 day')",
                                                   "datetime('2026-11-21 20:48:23', 'start of month')",
                                                   "julianday('2026-11-21')",
                                                   "strftime('%Y %H %w', '2026-11-21 20:48:23')",
                                                   "time('20:48:23', '-1 hour')",
                                                   "unixepoch('2026-11-21')",
                                                   "iso($i)",
                                                   "casefold($t)"};
    const std::string& form = forms[dice_.below(forms.size())];
    std::string out;
    for (std::size_t i = 0; i < form.size(); ++i) {
      const char c = form[i] == '$' && i + 1 < form.size() ? form[i + 1] : '\0';
      if (c != 'i' && c != 't' && c != 'v' && c != 's') {
        out += form[i];
        continue;
      }
      out += c == 'i' ? integer(scope) : c == 't' ? text(scope) : c == 'v' ? value(scope) : small();
      ++i;
    }
    return out;
  }

  std::string value(const Scope& scope) {
    if (++depth_ > 12) return integer_literal();
    switch (dice_.below(24)) {
      case 0: return text_literal();
      case 1: return integer_literal();
      case 2: return any_literal();
      case 3: return some_parameter();
      case 4:
        return "(" + integer_column(any(scope)) + " " + one_of("+", "-", "*", "/", "%", "&", "|", "<<", ">>") + " " +
               value(scope) + ")";
      case 5: return text_column(any(scope)) + " || " + text_literal();
      case 6: return "CASE WHEN " + condition(scope) + " THEN " + value(scope) + " ELSE " + value(scope) + " END";
      case 7:
        return "CASE " + integer_column(any(scope)) + " WHEN 1 THEN 'one' WHEN " + integer_literal() +
               " THEN 'two' END";
      case 8:
        return "CAST(" + value(scope) + " AS " + one_of("INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC", "int", "double") +
               ")";
      case 9: return one_of("-", "+", "~", "- -", "NOT ") + integer_column(any(scope));
      case 10: return "(" + correlated_select(scope) + ")";
      case 11: return any(scope).alias + ".cpu_usage";
      case 12: return any(scope).alias + ".arguments" + one_of(" ->> 0", " ->> '$[1]'", " -> 0", " -> '$[2]'");
      case 13: return text_column(any(scope)) + " COLLATE " + one_of("NOCASE", "BINARY", "RTRIM");
      case 14: return "(" + condition(scope) + ")";
      case 15:
        return "CASE (" + any(scope).alias + ".name, " + any(scope).alias + ".uid) WHEN ('bash', 1) THEN 'one' ELSE " +
               value(scope) + " END";
      case 16: return one_of("date(", "datetime(", "strftime('%H:%M', ", "unixepoch(") + both_time(scope) + ")";
      case 17:
      case 18:
      case 19: return call(scope);
      case 20: return text_column(any(scope));
      default: return integer_column(any(scope));
    }
  }

  // A time column as the date functions are given it.
  std::string both_time(const Scope& scope) {
    const auto column = time_column(any(scope));
    // To the millisecond, as SQLite reads its own text form.
    return both(column, "strftime('%Y-%m-%d %H:%M:%f', " + column + " / 1000000 / 1000.0, 'unixepoch')");
  }

  std::string pattern() {
    return one_of("'b%'", "'%s%'", "'_ash'", "'B%'", "'%''%'", "'%é'", "''", "'%x\\_%'", "'/usr/%'", "'%-c 1%'");
  }
  std::string comparison() {
    return one_of("=", "==", "<>", "!=", "<", "<=", ">", ">=", "IS", "IS NOT", "IS DISTINCT FROM",
                  "IS NOT DISTINCT FROM");
  }

  std::string condition(const Scope& scope) {
    if (++depth_ > 12) return text_column(any(scope)) + " = " + text_literal();
    const std::string a = any(scope).alias;
    switch (dice_.below(34)) {
      case 0: return text_column(any(scope)) + " " + comparison() + " " + text_literal();
      case 1: return integer_column(any(scope)) + " " + comparison() + " " + integer_literal();
      case 2: return time_column(any(scope)) + " " + one_of("<", "<=", ">", ">=", "=") + " " + time_literal();
      case 3: return text_column(any(scope)) + one_of(" LIKE ", " NOT LIKE ") + pattern();
      case 4:
        return text_column(any(scope)) + one_of(" GLOB ", " NOT GLOB ") +
               one_of("'b*'", "'*s*'", "'[a-n]*'", "'?ash'", "'*'");
      case 5:
        return text_column(any(scope)) + one_of(" REGEXP ", " NOT REGEXP ") +
               one_of("'^b'", "'s'", "'^(sh|bash)$'", "'[0-9]+'", "''", "'(?i)BASH'");
      case 6: return text_column(any(scope)) + one_of(" LIKE ", " NOT LIKE ") + "'%!%x!_%' ESCAPE '!'";
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
      case 15:
      case 16: return exists(scope);
      case 17:
        return a + "." + one_of("parent_key", "process_key") + one_of(" IN ", " NOT IN ") +
               "(SELECT process_key FROM processes WHERE name = " + text_literal() + ")";
      case 18:
        return "(" + a + ".name, " + a + ".uid) " + comparison() + " (" + text_literal() + ", " + integer_literal() +
               ")";
      case 19:
        return text_column(any(scope)) + " " + comparison() + " " + text_literal() + " COLLATE " +
               one_of("NOCASE", "BINARY", "RTRIM");
      case 20: return text_column(any(scope)) + " COLLATE NOCASE IN ('BASH', 'x', 'ROOT')";
      case 21:
        return integer_column(any(scope)) + " " + comparison() + " " + one_of("'100'", "1.0", "'1'", "'x'", "100.5");
      case 22: return text_column(any(scope)) + " " + comparison() + " " + one_of("100", "1", "2.5");
      case 23: return a + ".cpu_usage " + comparison() + " " + one_of("1", "2.5", "'3'", "NULL");
      case 24:
        return "(" + a + ".name, " + a + ".uid)" + one_of(" IN ", " NOT IN ") + "(SELECT name, uid FROM processes " +
               one_of("", "WHERE pid > 120") + ")";
      case 25: return "(" + a + ".uid, " + a + ".pid)" + one_of(" BETWEEN ", " NOT BETWEEN ") + "(0, 110) AND (1, 130)";
      case 26:
        return "(" + a + ".pid, " + a + ".name) " + one_of("=", "<>", ">", "IS") +
               " (SELECT pid, name FROM processes WHERE pid = 115)";
      case 27: return text_column(any(scope)) + " LIKE " + parameter("text", std::string("bash"));
      case 28: return integer_column(any(scope)) + one_of(" = ", " > ", " IS ") + some_parameter();
      case 29: return text_column(any(scope)) + one_of(" = ", " < ", " IS NOT ") + some_parameter();
      case 30: return value(scope) + one_of(" IN ()", " NOT IN ()");
      case 31:
        return time_column(any(scope)) + one_of(" BETWEEN ", " NOT BETWEEN ") + time_literal() + " AND " +
               time_literal();
      case 32:
        return time_column(any(scope)) + one_of(" IN (", " NOT IN (") + time_literal() + ", " + time_literal() + ")";
      default: return value(scope) + " " + comparison() + " " + value(scope);
    }
  }

  std::string exists(const Scope& scope) {
    const auto x = fresh();
    const Source inner{x, dice_.one_in(2)};
    const auto& outer = any(scope);
    const std::string link = x + "." +
                             (dice_.one_in(3) ? "pid = " + outer.alias + "." + one_of("pid", "ppid")
                                              : one_of("process_key", "parent_key") + " = " + outer.alias + "." +
                                                    one_of("parent_key", "process_key"));
    return one_of("EXISTS", "NOT EXISTS") + " (SELECT " + one_of("1", "*", x + ".pid") + " FROM " +
           std::string(inner.events ? "process_events " : "processes ") + x + " WHERE " + link +
           (dice_.one_in(2) ? " AND " + condition({inner}) : "") + ")";
  }

  enum class ParameterStyle : std::uint8_t { none, named, positional, numbered };

  Dice dice_;
  int depth_ = 0;
  unsigned names_ = 0;
  ParameterStyle parameter_style_ = ParameterStyle::none;
  std::size_t positional_ = 0;
  std::map<std::string, event::Value> parameters_;
};

}  // namespace daemoneye::sql::test
