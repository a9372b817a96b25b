// Text from a configuration file or a peer: any bytes parse or are refused, and what parses has a text that means it.
#include <cstdlib>

#include "event/testing/random_event.h"
#include "predicate/predicate.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = predicate::Predicate::parse(text);
  if (!parsed) return 0;
  const auto printed = parsed->text();
  // A quote inside a text is printed twice, so the text form of a bounded one may itself be out of bounds.
  if (printed.size() > predicate::max_predicate_bytes) return 0;
  const auto again = predicate::Predicate::parse(printed);
  if (!again || again->text() != printed) std::abort();
  event::testing::RandomEvents random(size);
  for (int i = 0; i < 4; ++i) {
    const auto event = random.next();
    if (parsed->matches(event) != again->matches(event)) std::abort();
  }
  return 0;
}
