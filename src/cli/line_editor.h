// A line from a person at a terminal: edited, completed, kept in a history. Uses standard input and output. One thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/shell_completion.h"

namespace daemoneye::cli {

class LineEditor {
 public:
  // `history_file` ("" none) is read now and written by remember(); only its owner can read it.
  LineEditor(const std::string& history_file, std::function<Completion(std::string_view line)> completer);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  enum class Read : std::uint8_t { line, cancelled, end };  // cancelled: Ctrl-C; end: Ctrl-D
  Read read(const std::string& prompt, std::string& line);
  void remember(const std::string& text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace daemoneye::cli
