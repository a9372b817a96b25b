// Output for a person that waits until it is whole: nothing of the store is held while they read. Small output stays in
// memory, more of it goes to a file without a name.
#pragma once

#include <cstddef>
#include <streambuf>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace daemoneye::cli {

inline constexpr std::size_t max_spooled_bytes = 256 * 1024 * 1024;  // beyond it no more rows are taken

class Spool final : public std::streambuf {
 public:
  explicit Spool(std::size_t most = max_spooled_bytes) : most_(most) {}

  [[nodiscard]] bool full() const { return full_; }  // the bound was reached: output is missing
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] std::size_t lines() const { return lines_; }
  // In memory as a whole; more is in the file.
  [[nodiscard]] bool in_memory() const { return !file_; }
  [[nodiscard]] const std::string& text() const { return held_; }
  // All of it in a file, read from its beginning.
  Result<int> file();

 protected:
  int_type overflow(int_type c) override;
  std::streamsize xsputn(const char* text, std::streamsize size) override;

 private:
  bool move_to_file();

  std::size_t most_;
  std::string held_;
  base::UniqueFd file_;
  std::size_t bytes_ = 0, lines_ = 0;
  bool full_ = false, failed_ = false;
};

}  // namespace daemoneye::cli
