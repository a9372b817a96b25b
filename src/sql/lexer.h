// Text -> tokens. Refuses what no statement may hold: NUL, invalid UTF-8, unterminated strings, foreign quoting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sql/sql.h"

namespace daemoneye::sql {

struct Position {
  unsigned line = 1, column = 1;  // from 1; columns in bytes
  std::size_t offset = 0;         // from 0
};

enum class TokenKind : std::uint8_t {
  end,
  word,               // a bare name or keyword
  quoted_identifier,  // "x"; `text` is what is between the quotes, "" undone
  string,             // 'x'; `text` likewise
  blob,               // x'…'; `text` are the hex digits
  integer,            // decimal or 0x…
  real,
  parameter,  // :name, ?, ?N; `text` with the sign
  symbol,     // operators and punctuation
};

struct Token {
  TokenKind kind = TokenKind::end;
  Position at;
  std::string_view source;  // as found, in the statement's text
  std::string text;         // the meaning; of a word: as written
  std::string upper;        // of a word: in upper case
};

// How a refusal leaves the depths of the front end; compile() catches it. Never crosses the room's border.
struct Refusal {
  SqlError error;
};
[[noreturn]] void refuse(const Position& at, std::string_view token, std::string message);
[[noreturn]] void refuse(const Token& token, std::string message);

// All tokens, an `end` last. Views point into `text`. Throws Refusal.
std::vector<Token> tokenize(std::string_view text, const Limits& limits);

// Where the first statement of a text ends, which is after its `;`; npos while there is more to come. Looks at quotes
// and comments only.
std::size_t end_of_statement(std::string_view text);

// Words that must be quoted to be names.
bool is_reserved(std::string_view upper);

std::string upper_case(std::string_view text);  // ASCII only, as SQLite folds names
std::string lower_case(std::string_view text);
bool same_name(std::string_view a, std::string_view b);

}  // namespace daemoneye::sql
