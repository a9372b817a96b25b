// A Sigma text value: literals and wildcards, and how SQL asks for it.
//
// Case: a letter A-Z is the same as its other case and nothing else; a character beyond ASCII is the same as those
// beyond ASCII with which it shares Unicode's simple case folding (as RE2 and base::casefold() have it).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace daemoneye::sigma {

struct Piece {
  enum class Kind : std::uint8_t { literal, any_many, any_one, dash };  // dash: any of dashes()
  Kind kind = Kind::literal;
  std::string text;  // of a literal
};

class Pattern {
 public:
  // `*` any text, `?` any character; a backslash before one of these or before a backslash takes its meaning.
  static Pattern parse(std::string_view value);
  static Pattern literal(std::string text);

  [[nodiscard]] bool has_wildcards() const;
  [[nodiscard]] std::string plain() const;  // of one without wildcards
  void prepend_any();
  void append_any();
  // Each - and / that begins a word may be any of dashes().
  void loosen_dashes();

  // A condition on `column` that is true of the texts that this matches whole, NULL of NULL.
  [[nodiscard]] std::string sql(const std::string& column, bool cased) const;

 private:
  void add(Piece::Kind kind, std::string_view text = {});
  [[nodiscard]] bool needs_regexp() const;
  [[nodiscard]] std::string regexp(bool cased) const;
  [[nodiscard]] std::vector<Pattern> without_dashes() const;
  [[nodiscard]] std::string like(const std::string& column) const;
  [[nodiscard]] std::string glob(const std::string& column) const;

  std::vector<Piece> pieces_;
};

const std::vector<std::string_view>& dashes();

// 'text', quotes doubled.
std::string quoted(std::string_view text);
std::string base64(std::string_view bytes);
// The three texts of which one is in the base64 of anything that has `bytes` in it.
std::vector<std::string> base64_offsets(std::string_view bytes);
enum class Utf16 : std::uint8_t { little, big, marked };  // marked: little, after a byte order mark
std::string utf16(std::string_view utf8, Utf16 form);

}  // namespace daemoneye::sigma
