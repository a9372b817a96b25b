// Any bytes are a rule or a list of problems.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "detect/rule.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye::detect;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto rule = parse_rule(text, "fuzz.yaml");
  if (!rule) {
    if (rule.error().empty()) std::abort();
    for (const auto& problem : rule.error()) {
      if (problem.file != "fuzz.yaml" || problem.message.empty()) std::abort();
      if (problem.line > size + 1) std::abort();
    }
    return 0;
  }
  if (rule->id.empty() || rule->title.empty() || rule->sql.empty()) std::abort();
  if (rule->evaluate && rule->evaluate->every > rule->evaluate->window) std::abort();
  return 0;
}
