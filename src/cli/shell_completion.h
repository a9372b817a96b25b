// What may follow in a line of the shell.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace daemoneye::cli {

struct Completion {
  std::size_t word_bytes = 0;           // before the cursor, that a candidate takes the place of
  std::vector<std::string> candidates;  // whole words, sorted
};

// `text`: the statement so far, up to the cursor; its earlier lines too.
Completion complete(std::string_view text);
// The longest beginning that all candidates have.
std::string common_beginning(const std::vector<std::string>& candidates);

const std::vector<std::string>& shell_commands();  // ".help", …

}  // namespace daemoneye::cli
