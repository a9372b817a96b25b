// Any bytes are rules of ours or refusals with a reason.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sigma/sigma.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto outcomes = daemoneye::sigma::translate(text, "fuzz.yml");
  for (const auto& outcome : outcomes) {
    if (!outcome && outcome.error().reason.empty()) std::abort();
    if (outcome && (outcome->id.empty() || outcome->yaml.empty())) std::abort();
  }
  return 0;
}
