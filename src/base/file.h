// Whole-file helpers with bounds.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace daemoneye::base {

// The file's bytes; limit_exceeded when it is larger than `max_bytes`.
Result<std::string> read_file(const std::string& path, std::size_t max_bytes);
// Writes beside, fsyncs, renames over, fsyncs the folder: the old or the new content, never a part.
Result<void> write_file_atomic(const std::string& path, std::string_view bytes, unsigned mode);
// All of `bytes`, through short writes and EINTR.
Result<void> write_all(int fd, std::string_view bytes);
// Up to `size` bytes; short only at the end of the file.
Result<std::string> read_up_to(int fd, std::size_t size);

}  // namespace daemoneye::base
