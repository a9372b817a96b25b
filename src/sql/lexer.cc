#include "sql/lexer.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace daemoneye::sql {
namespace {

constexpr std::size_t max_token_shown = 64;

constexpr auto reserved = std::to_array<std::string_view>({
    "ABORT",     "ALL",       "ALTER",       "ANALYZE",   "AND",          "AS",           "ASC",
    "ATTACH",    "BEGIN",     "BETWEEN",     "BY",        "CASE",         "CAST",         "CHECK",
    "COLLATE",   "COMMIT",    "CREATE",      "CROSS",     "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "DEFAULT",   "DELETE",    "DESC",        "DETACH",    "DISTINCT",     "DROP",         "ELSE",
    "END",       "ESCAPE",    "EXCEPT",      "EXISTS",    "EXPLAIN",      "FALSE",        "FILTER",
    "FROM",      "FULL",      "GLOB",        "GROUP",     "HAVING",       "IN",           "INDEX",
    "INDEXED",   "INNER",     "INSERT",      "INTERSECT", "INTO",         "IS",           "ISNULL",
    "JOIN",      "LEFT",      "LIKE",        "LIMIT",     "MATCH",        "NATURAL",      "NOT",
    "NOTNULL",   "NULL",      "OFFSET",      "ON",        "OR",           "ORDER",        "OUTER",
    "OVER",      "PARTITION", "PRAGMA",      "RAISE",     "REGEXP",       "REINDEX",      "RELEASE",
    "RETURNING", "RIGHT",     "ROLLBACK",    "SAVEPOINT", "SELECT",       "SET",          "TABLE",
    "THEN",      "TO",        "TRANSACTION", "TRIGGER",   "TRUE",         "UNION",        "UNIQUE",
    "UPDATE",    "USING",     "VACUUM",      "VALUES",    "WHEN",         "WHERE",        "WINDOW",
    "WITH",
});
static_assert(std::ranges::is_sorted(reserved));

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_word_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_word(char c) { return is_word_start(c) || is_digit(c); }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    for (;;) {
      skip_blanks_and_comments();
      tokens.push_back(next());
      if (tokens.back().kind == TokenKind::end) return tokens;
    }
  }

 private:
  [[nodiscard]] char peek(std::size_t ahead = 0) const {
    return at_.offset + ahead < text_.size() ? text_[at_.offset + ahead] : '\0';
  }
  [[nodiscard]] bool done() const { return at_.offset >= text_.size(); }

  void advance(std::size_t count = 1) {
    for (; count > 0 && !done(); --count) {
      if (text_[at_.offset] == '\n') {
        ++at_.line;
        at_.column = 1;
      } else {
        ++at_.column;
      }
      ++at_.offset;
    }
  }

  void skip_blanks_and_comments() {
    for (;;) {
      if (is_blank(peek())) {
        advance();
      } else if (peek() == '-' && peek(1) == '-') {
        while (!done() && peek() != '\n') advance();
      } else if (peek() == '/' && peek(1) == '*') {
        const Position start = at_;
        advance(2);
        while (!done() && !(peek() == '*' && peek(1) == '/')) advance();
        if (done()) refuse(start, "/*", "this comment has no end; expected */");
        advance(2);
      } else {
        return;
      }
    }
  }

  Token next() {
    Token token;
    token.at = at_;
    if (done()) return token;
    const char c = peek();
    if ((c == 'x' || c == 'X') && peek(1) == '\'')
      blob(token);
    else if (is_word_start(c))
      word(token);
    else if (is_digit(c) || (c == '.' && is_digit(peek(1))))
      number(token);
    else if (c == '\'')
      quoted(token, '\'', TokenKind::string);
    else if (c == '"')
      quoted(token, '"', TokenKind::quoted_identifier);
    else if (c == ':' || c == '?')
      parameter(token);
    else
      symbol(token);
    token.source = text_.substr(token.at.offset, at_.offset - token.at.offset);
    return token;
  }

  void word(Token& token) {
    token.kind = TokenKind::word;
    while (is_word(peek())) {
      token.text += peek();
      advance();
    }
    token.upper = upper_case(token.text);
  }

  void number(Token& token) {
    token.kind = TokenKind::integer;
    if (peek() == '0' && (peek(1) == 'x' || peek(1) == 'X') && is_hex(peek(2))) {
      advance(2);
      std::string digits;
      for (; is_hex(peek()); advance()) {
        if (!digits.empty() || peek() != '0') digits += peek();
      }
      if (digits.size() > 16)
        refuse(token.at, text_.substr(token.at.offset, 32), "this hexadecimal number is above 64 bits");
      token.text = "0x" + (digits.empty() ? "0" : digits);
    } else {
      const auto take_digits = [&] {
        for (; is_digit(peek()); advance()) token.text += peek();
      };
      take_digits();
      if (peek() == '.') {
        token.kind = TokenKind::real;
        token.text += '.';
        advance();
        take_digits();
      }
      const std::size_t sign = peek(1) == '+' || peek(1) == '-' ? 1 : 0;
      if ((peek() == 'e' || peek() == 'E') && is_digit(peek(1 + sign))) {
        token.kind = TokenKind::real;
        token.text += 'e';
        if (sign == 1) token.text += peek(1);
        advance(1 + sign);
        take_digits();
      }
    }
    if (is_word(peek())) {
      refuse(token.at, text_.substr(token.at.offset, at_.offset - token.at.offset + 1),
             "a number runs into a name here");
    }
  }

  void quoted(Token& token, char quote, TokenKind kind) {
    token.kind = kind;
    advance();
    for (;; advance()) {
      if (done()) {
        refuse(token.at, std::string(1, quote),
               kind == TokenKind::string ? "this string has no end; expected '" : "this name has no end; expected \"");
      }
      if (peek() == quote) {
        if (peek(1) != quote) break;
        advance();
      }
      token.text += peek();
    }
    advance();
    if (kind == TokenKind::quoted_identifier && token.text.empty()) refuse(token.at, "\"\"", "a name cannot be empty");
  }

  void blob(Token& token) {
    token.kind = TokenKind::blob;
    advance(2);
    for (; is_hex(peek()); advance()) token.text += peek();
    if (peek() != '\'' || token.text.size() % 2 != 0) {
      refuse(token.at, "x'", "a blob is x'…' with an even number of hexadecimal digits");
    }
    advance();
  }

  void parameter(Token& token) {
    token.kind = TokenKind::parameter;
    const char sign = peek();
    token.text = sign;
    advance();
    if (sign == '?') {
      for (; is_digit(peek()); advance()) token.text += peek();
      return;
    }
    if (!is_word_start(peek())) refuse(token.at, ":", "a parameter is :name, ? or ?N");
    for (; is_word(peek()); advance()) token.text += peek();
  }

  void symbol(Token& token) {
    constexpr auto symbols =
        std::to_array<std::string_view>({"->>", "->", "||", "<<", ">>", "<=", ">=", "<>", "!=", "==", "=", "<", ">",
                                         "+",   "-",  "*",  "/",  "%",  "&",  "|",  "~",  "(",  ")",  ",", ".", ";"});
    const auto rest = text_.substr(at_.offset);
    const auto* const found =
        std::ranges::find_if(symbols, [&](std::string_view candidate) { return rest.starts_with(candidate); });
    if (found == symbols.end()) {
      const char c = peek();
      if (c == '`' || c == '[') refuse(at_, rest.substr(0, 1), "names are quoted with \" only");
      if (c == '@' || c == '$' || c == '#') refuse(at_, rest.substr(0, 1), "a parameter is :name, ? or ?N");
      std::size_t length = 1;  // a whole UTF-8 sequence, so that the message stays readable
      while (length < rest.size() && (static_cast<unsigned char>(rest[length]) & 0xc0) == 0x80) ++length;
      refuse(at_, rest.substr(0, length), "this character has no meaning here");
    }
    token.kind = TokenKind::symbol;
    token.text = *found;
    advance(found->size());
  }

  std::string_view text_;
  Position at_;
};

Position position_of(std::string_view text, std::size_t offset) {
  Position at;
  for (; at.offset < offset; ++at.offset) {
    if (text[at.offset] == '\n') {
      ++at.line;
      at.column = 1;
    } else {
      ++at.column;
    }
  }
  return at;
}

}  // namespace

void refuse(const Position& at, std::string_view token, std::string message) {
  throw Refusal{{at.line, at.column, base::printable(token.substr(0, max_token_shown)), std::move(message)}};
}

void refuse(const Token& token, std::string message) {
  refuse(token.at, token.kind == TokenKind::end ? "end of text" : token.source, std::move(message));
}

std::vector<Token> tokenize(std::string_view text, const Limits& limits) {
  if (text.size() > limits.max_text_bytes) {
    refuse(Position{}, text.substr(0, 16),
           "the statement has " + std::to_string(text.size()) + " bytes; at most " +
               std::to_string(limits.max_text_bytes) + " are allowed");
  }
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    refuse(position_of(text, nul), text.substr(nul, 1), "the statement holds a NUL byte");
  }
  if (const auto valid = base::to_valid_utf8(text); valid != text) {
    const auto [mine, other] = std::ranges::mismatch(text, valid);
    const auto offset = static_cast<std::size_t>(mine - text.begin());
    refuse(position_of(text, offset), text.substr(offset, 1), "the statement is not valid UTF-8");
  }
  return Lexer(text).run();
}

std::size_t end_of_statement(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ';') return i + 1;
    std::size_t end = i;
    if (c == '\'' || c == '"')
      end = text.find(c, i + 1);
    else if (text.substr(i).starts_with("--"))
      end = text.find('\n', i);
    else if (text.substr(i).starts_with("/*"))
      end = text.find("*/", i + 2);
    else
      continue;
    if (end == std::string_view::npos) return end;
    i = c == '/' ? end + 1 : end;
  }
  return std::string_view::npos;
}

bool is_reserved(std::string_view upper) { return std::ranges::binary_search(reserved, upper); }

std::string upper_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool same_name(std::string_view a, std::string_view b) {
  const auto fold = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, fold, fold);
}

}  // namespace daemoneye::sql
