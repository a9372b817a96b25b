// Secrets in arguments become "***" before anything leaves procmond.
#pragma once

#include <string>
#include <string_view>

namespace daemoneye::sensor {

// NUL-separated arguments in, the same with secrets masked out: `--password x`, `--password=x` and its kind,
// `-pSECRET` for tools that take it so, `TOKEN=…` assignments, URLs with credentials, `Authorization: …` and its kind.
// `name` is the base name of the executable. Returns true when something was masked.
bool mask_arguments(std::string_view name, std::string& nul_separated);

}  // namespace daemoneye::sensor
