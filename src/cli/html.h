// Writing HTML of untrusted values: what comes from outside can only enter as text, and markup only as a literal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace daemoneye::cli {

class Html {
 public:
  // A literal of this program's source, which the compiler proves.
  class Markup {
   public:
    consteval Markup(const char* text) : text_(text) {}  // NOLINT: meant to convert
    [[nodiscard]] constexpr std::string_view text() const { return text_; }

   private:
    std::string_view text_;
  };

  Html& raw(Markup markup) {
    out_ += markup.text();
    return *this;
  }
  // Any bytes. What a browser would not show as it is (control characters, bytes that are no UTF-8, what turns the
  // direction of text) is spelled out and marked. Of more than `max_bytes` the beginning, and how many there are more.
  Html& text(std::string_view untrusted, std::size_t max_bytes = std::string_view::npos);
  // The same where line ends are line ends, as in <pre>.
  Html& lines(std::string_view untrusted, std::size_t max_bytes = std::string_view::npos);
  // For the value of an attribute that stands in double quotes: no marks, else as text().
  Html& attribute(std::string_view untrusted, std::size_t max_bytes = std::string_view::npos);
  Html& number(std::int64_t value);
  Html& number(double value);  // two decimals
  // A link where the address is one of the web, else its text alone. It says nothing of where it was followed from.
  Html& link(std::string_view address);

  [[nodiscard]] std::size_t size() const { return out_.size(); }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  void append(std::string_view untrusted, std::size_t max_bytes, bool marked);

  std::string out_;
};

}  // namespace daemoneye::cli
