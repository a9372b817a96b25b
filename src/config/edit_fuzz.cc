// A configuration file and one change of it: refused, or the file says that and all it said before. The first byte
// chooses the key, the second the value.
#include <array>
#include <cstdint>
#include <cstdlib>

#include "config/edit.h"

using namespace daemoneye::config;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 4096) return 0;
  constexpr std::array keys = {"app.batch_size", "alerting.retry.max_retries", "detection.rule_paths", "a"};
  constexpr std::array values = {"5", "[/a, /b]", "'- x: #'", "[]"};
  const std::string key = keys[data[0] % keys.size()];
  const auto value = parse_yaml(values[data[1] % values.size()]);
  const std::string text(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (const auto edited = with_key_set(text, key, *value)) {
    const auto tree = parse_yaml(edited->starts_with("\xef\xbb\xbf") ? edited->substr(3) : *edited);
    const auto* found = tree ? find_node(*tree, key) : nullptr;
    if (found == nullptr || !same_value(*found, *value)) std::abort();
    // What was set can be taken out again, or is refused.
    if (const auto without = with_key_removed(*edited, key)) {
      const auto rest = parse_yaml(without->starts_with("\xef\xbb\xbf") ? without->substr(3) : *without);
      if (!rest || find_node(*rest, key) != nullptr) std::abort();
    }
  }
  return 0;
}
