// The other way: a row of `process_events` as one line of a recording.
#pragma once

#include <string>

#include "store/reader.h"

namespace daemoneye::recording {

struct LineFormat {
  bool raw_times = false;  // integers, not ISO 8601
};

// What append_line() asks the scan for.
store::ColumnSet line_columns();

// The scan's current row, with its line end. NULL columns are left out. What is not UTF-8 becomes U+FFFD, and what
// that makes longer than the store takes is cut: LineParser reads every line that this writes.
void append_line(const store::EventScan& row, const LineFormat& format, std::string& out);

}  // namespace daemoneye::recording
