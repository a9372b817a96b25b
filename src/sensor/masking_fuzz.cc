// Masking keeps the number of arguments, is done when it is done, and does not blow its input up.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "sensor/masking.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const auto line = input.find('\n');  // the program's name, then its arguments
  const auto name = input.substr(0, line);
  const auto arguments = line == std::string::npos ? std::string() : input.substr(line + 1);

  auto once = arguments;
  const bool changed = daemoneye::sensor::mask_arguments(name, once);
  if (changed != (once != arguments)) std::abort();
  if (std::ranges::count(once, '\0') != std::ranges::count(arguments, '\0')) std::abort();
  if (once.size() > 2 * arguments.size() + 3) std::abort();

  auto twice = once;
  if (daemoneye::sensor::mask_arguments(name, twice) || twice != once) std::abort();
  return 0;
}
