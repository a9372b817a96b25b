// The user's own format: a text with {{field}} for a field of the alert, {{json:field}} for the same as a JSON value.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/alert.h"

namespace daemoneye::alert {

class Template {
 public:
  static constexpr std::size_t max_placeholders = 64;
  static constexpr std::size_t max_column_bytes = 128;

  // An unknown field, a placeholder that does not end, or too many of them is invalid_input and says where.
  static Result<Template> parse(std::string_view text);
  // Nothing that an alert holds is a placeholder. Plain fields are one line with control characters made visible.
  [[nodiscard]] std::string render(const store::Alert& alert) const;
  static const std::vector<std::string_view>& fields();

 private:
  struct Part {
    std::string text;  // literal, or the field's name
    bool field = false, json = false;
  };
  std::vector<Part> parts_;
};

}  // namespace daemoneye::alert
