// The configuration that was in force last, kept beside the state of who ran with it: a start tells what is another
// since then, as a reload does, whoever changed the files meanwhile.
#pragma once

#include <optional>
#include <string>

#include "config/change.h"

namespace daemoneye::config {

inline constexpr const char* kept_file_name = "configuration-in-force";

Result<void> keep(const std::string& path, const Loaded& loaded);
// Nothing: there is none, or none that this version understands.
std::optional<Settings> read_kept(const std::string& path);

}  // namespace daemoneye::config
