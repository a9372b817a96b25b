// The functions that SQLite does not have, or that derived SQL alone calls.
#include <sqlite3.h>

#include "base/casefold.h"
#include "sql/functions.h"
#include "sql/runtime.h"
#include "sql/time.h"

namespace daemoneye::sql {
namespace {

Runtime& runtime_of(sqlite3_context* context) { return *static_cast<Runtime*>(sqlite3_user_data(context)); }

bool is_null(sqlite3_value* value) { return sqlite3_value_type(value) == SQLITE_NULL; }

std::string_view text_of(sqlite3_value* value) {
  const auto* const text = sqlite3_value_text(value);
  return text == nullptr ? std::string_view()
                         : std::string_view(reinterpret_cast<const char*>(text),
                                            static_cast<std::size_t>(sqlite3_value_bytes(value)));
}

void give_text(sqlite3_context* context, std::string_view text) {
  sqlite3_result_text64(context, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

void give_error(sqlite3_context* context, Error error) {
  sqlite3_result_error(context, error.message.c_str(), -1);
  runtime_of(context).set_error(std::move(error));
}

// text REGEXP pattern calls regexp(pattern, text).
void regexp(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (is_null(arguments[0]) || is_null(arguments[1])) return;
  const auto result = runtime_of(context).regexps().matches(text_of(arguments[0]), text_of(arguments[1]));
  if (!result) return give_error(context, result.error());
  sqlite3_result_int(context, *result ? 1 : 0);
}

// NULL of what is no text.
void casefold(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (sqlite3_value_type(arguments[0]) == SQLITE_TEXT) give_text(context, base::casefold(text_of(arguments[0])));
}

void to_ns(sqlite3_context* context, int, sqlite3_value** arguments) {
  switch (sqlite3_value_type(arguments[0])) {
    case SQLITE_INTEGER:
    case SQLITE_FLOAT: sqlite3_result_value(context, arguments[0]); return;
    case SQLITE_NULL: return;
    default: break;
  }
  const auto time = parse_time(text_of(arguments[0]));
  if (!time) return give_error(context, time.error());
  sqlite3_result_int64(context, time->ns);
}

void ago(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (is_null(arguments[1])) return;
  const auto span = base::parse_duration(text_of(arguments[1]));
  if (!span) return give_error(context, span.error());
  sqlite3_result_int64(context, sqlite3_value_int64(arguments[0]) - span->count());
}

void iso(sqlite3_context* context, int, sqlite3_value** arguments) {
  switch (sqlite3_value_type(arguments[0])) {
    case SQLITE_NULL: return;
    case SQLITE_INTEGER: give_text(context, base::to_iso(Timestamp{sqlite3_value_int64(arguments[0])})); return;
    default: break;
  }
  const auto time = parse_time(text_of(arguments[0]));
  if (!time) return give_error(context, time.error());
  give_text(context, base::to_iso(*time));
}

void time_text(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (sqlite3_value_type(arguments[0]) == SQLITE_INTEGER) {
    give_text(context, to_sqlite_time(Timestamp{sqlite3_value_int64(arguments[0])}));
  } else {
    sqlite3_result_value(context, arguments[0]);
  }
}

void not_now(sqlite3_context* context, int, sqlite3_value** arguments) {
  const bool is_now = sqlite3_value_type(arguments[0]) == SQLITE_TEXT && same_name(text_of(arguments[0]), "now");
  sqlite3_result_value(context, arguments[is_now ? 1 : 0]);
}

void recursion_step(sqlite3_context* context, int, sqlite3_value**) {
  if (runtime_of(context).count_recursion()) return sqlite3_result_int(context, 1);
  give_error(context, {Errc::limit_exceeded, "a recursive table passed " + std::to_string(max_recursion_steps) +
                                                 " rows; give it a condition or a LIMIT that ends it"});
}

void has_ancestor(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (is_null(arguments[0]) || is_null(arguments[1])) return;
  auto& runtime = runtime_of(context);
  if (runtime.reader() == nullptr) return;
  const auto found = runtime.has_ancestor(std::string(text_of(arguments[0])), text_of(arguments[1]));
  if (!found) return give_error(context, found.error());
  sqlite3_result_int(context, *found ? 1 : 0);
}

struct Registration {
  std::string_view name;
  int arguments;
  bool deterministic;
  void (*function)(sqlite3_context*, int, sqlite3_value**);
};

constexpr Registration registrations[] = {
    {"regexp", 2, true, regexp},
    {"casefold", 1, true, casefold},
    {to_ns_function, 1, true, to_ns},
    {ago_function, 2, true, ago},
    {"iso", 1, true, iso},
    {time_value_function, 1, true, time_text},
    {not_now_function, 2, true, not_now},
    {recursion_guard_function, -1, false, recursion_step},
    {"has_ancestor", 2, false, has_ancestor},
};

}  // namespace

Result<void> register_functions(sqlite3* handle, Runtime& runtime) {
  for (const auto& one : registrations) {
    const int flags = SQLITE_UTF8 | SQLITE_DIRECTONLY | (one.deterministic ? SQLITE_DETERMINISTIC : 0);
    if (sqlite3_create_function_v2(handle, std::string(one.name).c_str(), one.arguments, flags, &runtime, one.function,
                                   nullptr, nullptr, nullptr) != SQLITE_OK) {
      return std::unexpected(db::last_error(handle, "registering " + std::string(one.name)));
    }
  }
  return {};
}

}  // namespace daemoneye::sql
