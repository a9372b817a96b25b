// Where in a text each value of a YAML document stands, so that one can be changed and the rest stays as it is.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/yaml.h"

namespace daemoneye::config {

// A template, so that a value may hold entries of its own kind.
template <class Value>
struct MarkedEntry {
  std::string name;
  std::size_t key_begin = 0;
  Value value;
};

struct Marked {
  using Entry = MarkedEntry<Marked>;
  Node::Kind kind = Node::Kind::nothing;
  bool flow = false;                // a list or map in brackets
  std::size_t begin = 0;            // of the value; means nothing when there is none
  std::string text = {};            // of a scalar
  bool plain = false;               // a scalar without quotes
  std::vector<Marked> items = {};   // of a list
  std::vector<Entry> entries = {};  // of a map
};

// `text` is one that parse_yaml() takes.
Result<Marked> mark_yaml(std::string_view text);

// --- lines; a line ends before its "\n" or "\r\n" ---
std::size_t line_begin(std::string_view text, std::size_t at);
std::size_t line_end(std::string_view text, std::size_t at);
std::size_t next_line(std::string_view text, std::size_t at);  // where the line after that of `at` begins, or the end
unsigned line_number(std::string_view text, std::size_t at);   // from 1

// --- ends; errors say in which line something stands that is not changed by line ---
// Past the quoted scalar at `begin`, or past the end in its line of one that is not. `flow`: within brackets.
Result<std::size_t> scalar_end(std::string_view text, std::size_t begin, bool flow);
// A text in block style whose lines go on below that of its beginning.
bool goes_on_below(std::string_view text, const Marked& scalar);
// Past the bracket that closes the one at `begin`; whether a comment stands between.
struct Brackets {
  std::size_t end = 0;
  bool comment = false;
};
Result<Brackets> brackets_end(std::string_view text, std::size_t begin);
// Past the colon after the key.
Result<std::size_t> colon_end(std::string_view text, const Marked::Entry& entry, bool flow);
// Past the last character of the entry's value, or of the key's colon when there is no value. What follows in that line
// is a comment at most.
Result<std::size_t> entry_end(std::string_view text, const Marked::Entry& entry, bool flow);
// The same of an item of a list in block style, whose dash stands in column `column`.
Result<std::size_t> item_end(std::string_view text, const Marked& item, std::size_t column);

}  // namespace daemoneye::config
