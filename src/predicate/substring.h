// Finding a literal in much text: what LIKE '%literal%' comes to, over a whole dictionary at once.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace daemoneye::predicate {

class Substring {
 public:
  // `any_case`: ASCII letters match either case, as in LIKE. `nul_is_space`: a space of the literal also matches a NUL,
  // as what lies between two arguments is in a command line. The literal is not empty and holds no NUL.
  Substring(std::string_view literal, bool any_case, bool nul_is_space = false);
  // Where the literal begins in `text`, not before `from`; npos: nowhere.
  [[nodiscard]] std::size_t find(std::string_view text, std::size_t from = 0) const;
  [[nodiscard]] std::size_t size() const { return literal_.size(); }

 private:
  [[nodiscard]] bool matches_at(const char* text) const;
  std::string literal_;  // lower case when any_case
  bool any_case_, nul_is_space_;
  std::size_t rare_ = 0;  // the place of its byte that text is least likely to hold
};

}  // namespace daemoneye::predicate
