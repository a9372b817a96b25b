// One line of a recording: a JSON object with columns of `process_events` as keys, to the event that it stands for.
// docs/formats/recording.md says what a line may hold.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "event/process_event.h"

namespace daemoneye::recording {

// The longest line that is read; a longer one is a bad line. No event needs more.
inline constexpr std::size_t max_line_bytes = 8 * 1024 * 1024;
// So many bytes after a line must be readable; what they hold does not matter.
inline constexpr std::size_t line_padding = 64;

class LineParser {
 public:
  LineParser();
  ~LineParser();
  LineParser(const LineParser&) = delete;
  LineParser& operator=(const LineParser&) = delete;

  // The event lives until the next call. invalid_input names the key and what is wanted.
  Result<const event::ProcessEvent*> parse(std::string_view line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace daemoneye::recording
