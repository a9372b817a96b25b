// SQLite's own instr, replace, trim, LIKE and GLOB, as it has them to the byte, but looking at the clock: on the
// longest texts they would go on for minutes within one operation of its machine, where nothing can end them.
#include <sqlite3.h>

#include <algorithm>
#include <iterator>
#include <memory>

#include "predicate/predicate.h"
#include "sql/functions.h"
#include "sql/runtime.h"
#include "sql/text_search.h"

namespace daemoneye::sql {
namespace {

using predicate::ShouldStop;

Runtime& runtime_of(sqlite3_context* context) { return *static_cast<Runtime*>(sqlite3_user_data(context)); }

ShouldStop stop_of(sqlite3_context* context) {
  return [&runtime = runtime_of(context)] { return runtime.should_stop(); };
}

// Which error it is the runtime knows.
void give_up(sqlite3_context* context) { sqlite3_result_error(context, "the statement was ended", -1); }

bool is_null(sqlite3_value* value) { return sqlite3_value_type(value) == SQLITE_NULL; }

// Its bytes, of what SQLite makes of it as text. Nothing for want of memory.
std::optional<std::string_view> text_of(sqlite3_value* value) {
  const auto* const text = reinterpret_cast<const char*>(sqlite3_value_text(value));
  if (text == nullptr) return std::nullopt;
  return std::string_view(text, static_cast<std::size_t>(sqlite3_value_bytes(value)));
}

std::string_view blob_of(sqlite3_value* value) {
  const auto* const bytes = static_cast<const char*>(sqlite3_value_blob(value));
  return bytes == nullptr ? std::string_view()
                          : std::string_view(bytes, static_cast<std::size_t>(sqlite3_value_bytes(value)));
}

constexpr bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U; }

// The place of the first character of the match, from 1 on; 0: none.
void instr(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (is_null(arguments[0]) || is_null(arguments[1])) return;
  const bool blobs = sqlite3_value_type(arguments[0]) == SQLITE_BLOB && sqlite3_value_type(arguments[1]) == SQLITE_BLOB;
  std::string_view text, wanted;
  if (blobs) {
    text = blob_of(arguments[0]);
    wanted = blob_of(arguments[1]);
  } else {
    const auto first = text_of(arguments[0]), second = text_of(arguments[1]);
    if (!first || !second) return sqlite3_result_error_nomem(context);
    text = *first;
    wanted = *second;
  }
  if (wanted.empty()) return sqlite3_result_int(context, 1);
  // Looked for where characters begin, and at the very beginning.
  const bool only_first = !blobs && continues(wanted.front());
  const auto stop = stop_of(context);
  const auto found = only_first ? std::optional(text.starts_with(wanted) ? 0 : std::string_view::npos)
                                : find_text(text, wanted, 0, stop);
  if (!found) return give_up(context);
  if (*found == std::string_view::npos) return sqlite3_result_int(context, 0);
  std::size_t place = *found + 1;
  if (!blobs && *found > 0)
    place = 1 + static_cast<std::size_t>(
                    std::ranges::count_if(text.substr(1, *found), [](char c) { return !continues(c); }));
  sqlite3_result_int64(context, static_cast<sqlite3_int64>(place));
}

struct Free {
  void operator()(char* memory) const { sqlite3_free(memory); }
};

void replace(sqlite3_context* context, int, sqlite3_value** arguments) {
  if (is_null(arguments[0]) || is_null(arguments[1])) return;
  const auto text = text_of(arguments[0]), wanted = text_of(arguments[1]);
  if (!text || !wanted) return sqlite3_result_error_nomem(context);
  if (wanted->empty() || wanted->front() == '\0') return sqlite3_result_value(context, arguments[0]);
  if (is_null(arguments[2])) return;
  const auto other = text_of(arguments[2]);
  if (!other) return sqlite3_result_error_nomem(context);
  const auto stop = stop_of(context);
  const auto most =
      static_cast<std::size_t>(sqlite3_limit(sqlite3_context_db_handle(context), SQLITE_LIMIT_LENGTH, -1));
  const auto size_with = [&](std::size_t matches) {
    return text->size() - matches * wanted->size() + matches * other->size();
  };
  // Counted first: the memory for the result is taken once, and on the statement's account. Where each match makes it
  // longer, the first ones can tell that it is too long.
  const bool grows = other->size() > wanted->size();
  std::size_t matches = 0;
  for (std::size_t at = 0;; ++matches) {
    if (grows && size_with(matches) > most) return sqlite3_result_error_toobig(context);
    const auto found = find_text(*text, *wanted, at, stop);
    if (!found || (matches % 4096 == 0 && stop())) return give_up(context);
    if (*found == std::string_view::npos) break;
    at = *found + wanted->size();
  }
  const auto size = size_with(matches);
  if (size > most) return sqlite3_result_error_toobig(context);
  std::unique_ptr<char, Free> made(static_cast<char*>(sqlite3_malloc64(size + 1)));
  if (made == nullptr) return sqlite3_result_error_nomem(context);
  char* out = made.get();
  std::size_t at = 0;
  for (std::size_t match = 0; match < matches; ++match) {
    const auto found = find_text(*text, *wanted, at, stop);
    if (!found || (match % 4096 == 0 && stop())) return give_up(context);
    out = std::copy(text->begin() + static_cast<std::ptrdiff_t>(at),
                    text->begin() + static_cast<std::ptrdiff_t>(*found), out);
    out = std::copy(other->begin(), other->end(), out);
    at = *found + wanted->size();
  }
  std::copy(text->begin() + static_cast<std::ptrdiff_t>(at), text->end(), out);
  made.get()[size] = '\0';
  sqlite3_result_text64(context, made.release(), size, sqlite3_free, SQLITE_UTF8);
}

// trim(text [, characters]) from the left, the right, or both ends.
enum Ends : unsigned { left = 1, right = 2, both = 3 };

template <Ends ends>
void trim(sqlite3_context* context, int count, sqlite3_value** arguments) {
  if (is_null(arguments[0]) || (count == 2 && is_null(arguments[1]))) return;
  const auto whole = text_of(arguments[0]);
  const auto set = count == 2 ? text_of(arguments[1]) : std::optional<std::string_view>(" ");
  if (!whole || !set) return sqlite3_result_error_nomem(context);
  constexpr std::size_t longest_set = 1024 * 1024;
  if (set->size() > longest_set) return sqlite3_result_error_toobig(context);
  const auto stop = stop_of(context);
  const auto characters = set->substr(0, set->find('\0'));  // as far as SQLite reads it
  const auto trimmed = trim_text(*whole, characters, (ends & left) != 0, (ends & right) != 0, stop);
  if (!trimmed) return give_up(context);
  sqlite3_result_text64(context, trimmed->data(), trimmed->size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

// text LIKE pattern calls like(pattern, text [, escape]).
template <predicate::PatternKind kind>
void match(sqlite3_context* context, int count, sqlite3_value** arguments) {
  static const bool not_of_blobs = sqlite3_compileoption_used("LIKE_DOESNT_MATCH_BLOBS") != 0;
  const auto is_blob = [](sqlite3_value* value) { return sqlite3_value_type(value) == SQLITE_BLOB; };
  if (not_of_blobs && (is_blob(arguments[0]) || is_blob(arguments[1]))) return sqlite3_result_int(context, 0);
  const auto most =
      static_cast<std::size_t>(sqlite3_limit(sqlite3_context_db_handle(context), SQLITE_LIMIT_LIKE_PATTERN_LENGTH, -1));
  if (static_cast<std::size_t>(sqlite3_value_bytes(arguments[0])) > most)
    return sqlite3_result_error(context, "LIKE or GLOB pattern too complex", -1);
  char32_t escape = 0;
  if (count == 3) {
    if (is_null(arguments[2])) return;
    const auto given = text_of(arguments[2]);
    if (!given) return sqlite3_result_error_nomem(context);
    const auto character = predicate::only_character(*given);
    if (!character) return sqlite3_result_error(context, "ESCAPE expression must be a single character", -1);
    escape = *character;
  }
  if (is_null(arguments[0]) || is_null(arguments[1])) return;
  const auto pattern = text_of(arguments[0]), text = text_of(arguments[1]);
  if (!pattern || !text) return sqlite3_result_error_nomem(context);
  const auto matched = predicate::pattern_matches(kind, *pattern, *text, escape, stop_of(context));
  if (!matched) return give_up(context);
  sqlite3_result_int(context, *matched ? 1 : 0);
}

struct Registration {
  const char* name;
  int arguments;
  void (*function)(sqlite3_context*, int, sqlite3_value**);
};

constexpr Registration registrations[] = {
    {"instr", 2, instr},
    {"replace", 3, replace},
    {"trim", 1, trim<both>},
    {"trim", 2, trim<both>},
    {"ltrim", 1, trim<left>},
    {"ltrim", 2, trim<left>},
    {"rtrim", 1, trim<right>},
    {"rtrim", 2, trim<right>},
    {"like", 2, match<predicate::PatternKind::like>},
    {"like", 3, match<predicate::PatternKind::like>},
    {"glob", 2, match<predicate::PatternKind::glob>},
};

}  // namespace

Result<void> replace_slow_functions(sqlite3* handle, Runtime& runtime) {
  for (const auto& one : registrations) {
    if (sqlite3_create_function_v2(handle, one.name, one.arguments, SQLITE_UTF8 | SQLITE_DETERMINISTIC, &runtime,
                                   one.function, nullptr, nullptr, nullptr) != SQLITE_OK) {
      return std::unexpected(db::last_error(handle, std::string("registering ") + one.name));
    }
  }
  return {};
}

}  // namespace daemoneye::sql
