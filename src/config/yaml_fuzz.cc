// Text of a configuration file: whatever it holds, it is read or refused, and a value that was read reads back.
#include <cstdint>
#include <cstdlib>

#include "config/schema.h"

namespace {

using namespace daemoneye::config;

void check(const Node& node, unsigned depth) {
  if (depth > max_depth + 1) std::abort();
  for (const Key& key : schema()) {
    const auto ignore = [](unsigned, const std::string&, const std::string&) {};
    const auto value = read_value(key, node, ignore);
    if (!value) continue;
    const auto tree = parse_yaml(write_value(key, *value));
    if (!tree) std::abort();
    const auto again = read_value(key, *tree, ignore);
    if (!again || !(*again == *value)) std::abort();
  }
  if (depth > 3) return;  // enough; every level is read by the same code
  for (const auto& item : node.items) check(item, depth + 1);
  for (const auto& [name, value] : node.entries) check(value, depth + 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 4096) return 0;
  const auto tree = parse_yaml({reinterpret_cast<const char*>(data), size});
  if (tree) check(*tree, 1);
  return 0;
}
