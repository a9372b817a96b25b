// Lines of recordings into an event store of their own.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/time.h"
#include "event/process_event.h"

namespace daemoneye::recording {

// Where lines come from. `read` fills the buffer and gives how much; 0 is the end.
struct Input {
  std::string name;  // as bad lines are told
  std::function<Result<std::size_t>(char* buffer, std::size_t size)> read;
};

struct BadLine {
  std::string input;
  std::uint64_t number = 0;  // from 1
  std::string reason;
};
// "FILE:LINE: REASON", safe to show.
std::string to_string(const BadLine& line);

struct ImportReport {
  std::uint64_t lines = 0;     // read, without blank ones
  std::uint64_t imported = 0;  // events
  std::uint64_t gaps = 0;      // of those
  std::uint64_t skipped = 0;   // bad lines
  std::uint64_t bytes = 0;     // of the input
};

struct ImportOptions {
  std::string into;
  // The first bad line ends the import. Then, and whenever it fails, the file is as it was before: the work is done on
  // a copy that takes its place at the end. Without it bad lines are skipped, and a file that was there is appended to
  // in place, batch by batch. A new file is there as a whole or not at all, in either way.
  bool strict = false;
  Deadline deadline = Deadline::never();
  std::function<bool()> stop = [] { return false; };  // asked about every megabyte
  std::function<void(const ImportReport&)> progress = [](const ImportReport&) {};
  std::function<void(const BadLine&)> bad_line = [](const BadLine&) {};
};

// unavailable when an agent or another import writes to the file; cancelled, timeout; strict: invalid_input for the bad
// line, which bad_line() was told of.
Result<ImportReport> import_recording(const std::vector<Input>& inputs, const ImportOptions& options);

}  // namespace daemoneye::recording
