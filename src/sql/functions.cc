#include "sql/functions.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace daemoneye::sql {
namespace {

using enum FunctionKind;
constexpr int any = 127;

// Sorted by name. Not here on purpose: whatever reads or writes files, loads code, makes large values out of nothing
// (randomblob, zeroblob), tells of the connection (changes, last_insert_rowid, sqlite_*) or differs between two runs
// over the same rows (random).
constexpr auto list = std::to_array<FunctionInfo>({
    {"abs", scalar, 1, 1, Type::real, "abs(x)"},
    {"acos", scalar, 1, 1, Type::real, "acos(x)"},
    {"ago", scalar, 1, 1, Type::time, "ago('5m')"},
    {"asin", scalar, 1, 1, Type::real, "asin(x)"},
    {"atan", scalar, 1, 1, Type::real, "atan(x)"},
    {"atan2", scalar, 2, 2, Type::real, "atan2(y, x)"},
    {"avg", aggregate, 1, 1, Type::real, "avg(x)"},
    {"casefold", scalar, 1, 1, Type::text, "casefold(text)"},
    {"ceil", scalar, 1, 1, Type::real, "ceil(x)"},
    {"ceiling", scalar, 1, 1, Type::real, "ceiling(x)"},
    {"char", scalar, 0, any, Type::text, "char(code, …)"},
    {"coalesce", scalar, 2, any, Type::unknown, "coalesce(x, y, …)"},
    {"cos", scalar, 1, 1, Type::real, "cos(x)"},
    {"count", aggregate, 0, 1, Type::integer, "count(*) or count(x)"},
    {"cume_dist", window, 0, 0, Type::real, "cume_dist() OVER (…)"},
    {"date", date, 0, any, Type::text, "date(time, modifier, …)"},
    {"datetime", date, 0, any, Type::text, "datetime(time, modifier, …)"},
    {"degrees", scalar, 1, 1, Type::real, "degrees(x)"},
    {"dense_rank", window, 0, 0, Type::integer, "dense_rank() OVER (…)"},
    {"exp", scalar, 1, 1, Type::real, "exp(x)"},
    {"first_value", window, 1, 1, Type::unknown, "first_value(x) OVER (…)"},
    {"floor", scalar, 1, 1, Type::real, "floor(x)"},
    {"format", scalar, 1, any, Type::text, "format(format, …)"},
    {"group_concat", aggregate, 1, 2, Type::text, "group_concat(x[, separator])"},
    {"has_ancestor", scalar, 2, 2, Type::integer, "has_ancestor(process_key, 'name')"},
    {"hex", scalar, 1, 1, Type::text, "hex(x)"},
    {"ifnull", scalar, 2, 2, Type::unknown, "ifnull(x, y)"},
    {"iif", scalar, 3, 3, Type::unknown, "iif(condition, x, y)"},
    {"instr", scalar, 2, 2, Type::integer, "instr(text, part)"},
    {"iso", scalar, 1, 1, Type::text, "iso(time)"},
    {"json", scalar, 1, 1, Type::text, "json(text)"},
    {"json_array", scalar, 0, any, Type::text, "json_array(x, …)"},
    {"json_array_length", scalar, 1, 2, Type::integer, "json_array_length(json[, path])"},
    {"json_extract", scalar, 2, any, Type::unknown, "json_extract(json, path, …)"},
    {"json_group_array", aggregate, 1, 1, Type::text, "json_group_array(x)"},
    {"json_group_object", aggregate, 2, 2, Type::text, "json_group_object(name, x)"},
    {"json_object", scalar, 0, any, Type::text, "json_object(name, x, …)"},
    {"json_quote", scalar, 1, 1, Type::text, "json_quote(x)"},
    {"json_type", scalar, 1, 2, Type::text, "json_type(json[, path])"},
    {"json_valid", scalar, 1, 1, Type::integer, "json_valid(text)"},
    {"julianday", date, 0, any, Type::real, "julianday(time, modifier, …)"},
    {"lag", window, 1, 3, Type::unknown, "lag(x[, offset[, default]]) OVER (…)"},
    {"last_value", window, 1, 1, Type::unknown, "last_value(x) OVER (…)"},
    {"lead", window, 1, 3, Type::unknown, "lead(x[, offset[, default]]) OVER (…)"},
    {"length", scalar, 1, 1, Type::integer, "length(x)"},
    {"ln", scalar, 1, 1, Type::real, "ln(x)"},
    {"log", scalar, 1, 2, Type::real, "log(x) or log(base, x)"},
    {"log10", scalar, 1, 1, Type::real, "log10(x)"},
    {"log2", scalar, 1, 1, Type::real, "log2(x)"},
    {"lower", scalar, 1, 1, Type::text, "lower(text)"},
    {"ltrim", scalar, 1, 2, Type::text, "ltrim(text[, characters])"},
    {"max", scalar_or_aggregate, 1, any, Type::unknown, "max(x) or max(x, y, …)"},
    {"min", scalar_or_aggregate, 1, any, Type::unknown, "min(x) or min(x, y, …)"},
    {"mod", scalar, 2, 2, Type::real, "mod(x, y)"},
    {"nth_value", window, 2, 2, Type::unknown, "nth_value(x, n) OVER (…)"},
    {"ntile", window, 1, 1, Type::integer, "ntile(n) OVER (…)"},
    {"nullif", scalar, 2, 2, Type::unknown, "nullif(x, y)"},
    {"percent_rank", window, 0, 0, Type::real, "percent_rank() OVER (…)"},
    {"pi", scalar, 0, 0, Type::real, "pi()"},
    {"pow", scalar, 2, 2, Type::real, "pow(x, y)"},
    {"power", scalar, 2, 2, Type::real, "power(x, y)"},
    {"printf", scalar, 1, any, Type::text, "printf(format, …)"},
    {"quote", scalar, 1, 1, Type::text, "quote(x)"},
    {"radians", scalar, 1, 1, Type::real, "radians(x)"},
    {"rank", window, 0, 0, Type::integer, "rank() OVER (…)"},
    {"replace", scalar, 3, 3, Type::text, "replace(text, from, to)"},
    {"round", scalar, 1, 2, Type::real, "round(x[, digits])"},
    {"row_number", window, 0, 0, Type::integer, "row_number() OVER (…)"},
    {"rtrim", scalar, 1, 2, Type::text, "rtrim(text[, characters])"},
    {"sign", scalar, 1, 1, Type::integer, "sign(x)"},
    {"sin", scalar, 1, 1, Type::real, "sin(x)"},
    {"sqrt", scalar, 1, 1, Type::real, "sqrt(x)"},
    {"strftime", date, 1, any, Type::text, "strftime(format, time, modifier, …)"},
    {"substr", scalar, 2, 3, Type::text, "substr(text, start[, length])"},
    {"substring", scalar, 2, 3, Type::text, "substring(text, start[, length])"},
    {"sum", aggregate, 1, 1, Type::real, "sum(x)"},
    {"tan", scalar, 1, 1, Type::real, "tan(x)"},
    {"time", date, 0, any, Type::text, "time(time, modifier, …)"},
    {"total", aggregate, 1, 1, Type::real, "total(x)"},
    {"trim", scalar, 1, 2, Type::text, "trim(text[, characters])"},
    {"trunc", scalar, 1, 1, Type::real, "trunc(x)"},
    {"typeof", scalar, 1, 1, Type::text, "typeof(x)"},
    {"unicode", scalar, 1, 1, Type::integer, "unicode(text)"},
    {"unixepoch", date, 0, any, Type::integer, "unixepoch(time, modifier, …)"},
    {"upper", scalar, 1, 1, Type::text, "upper(text)"},
});
static_assert(std::ranges::is_sorted(list, {}, &FunctionInfo::name));

}  // namespace

const FunctionInfo* find_function(std::string_view lower_name) {
  const auto* const found = std::ranges::lower_bound(list, lower_name, {}, &FunctionInfo::name);
  return found != list.end() && found->name == lower_name ? &*found : nullptr;
}

const std::vector<std::string>& functions() {
  static const auto names = [] {
    std::vector<std::string> all;
    all.reserve(list.size());
    for (const auto& function : list) all.emplace_back(function.name);
    return all;
  }();
  return names;
}

}  // namespace daemoneye::sql
