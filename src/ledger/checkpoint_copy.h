// The file that checkpoints are copied to, one after another: what leaves the machine, so that the log can be held
// against it. A pipe or a device will do as well.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "ledger/files.h"

namespace daemoneye::ledger {

class CheckpointCopy {
 public:
  CheckpointCopy() = default;
  // Kept open: where it lies may be out of reach once this process is confined. What cannot be opened is tried again
  // with each checkpoint.
  explicit CheckpointCopy(std::string path);

  // All of it, or nothing of it. A file that was taken away meanwhile (rotated, say) is made anew.
  void append(std::string_view note);
  // Why the last one is not there; empty: it is, or there is no copy.
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  Result<void> open();
  Result<void> write(std::string_view note);

  std::string path_, problem_;
  UniqueFd file_;
  std::optional<FileIdentity> identity_;  // of a regular file
  bool mid_line_ = false;  // what is there does not end with a line: no part of it may become part of ours
};

}  // namespace daemoneye::ledger
