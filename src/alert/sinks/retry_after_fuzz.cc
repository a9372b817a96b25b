// What a server says in Retry-After: nothing, or a time between now and a day from now.
#include <cstdint>
#include <cstdlib>

#include "alert/sinks/retry_after.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye;
  for (const std::int64_t now : {std::int64_t{0}, std::int64_t{1'800'000'000'123'456'789}}) {
    const auto wait = alert::parse_retry_after({reinterpret_cast<const char*>(data), size}, Timestamp{now});
    if (wait && (wait->count() < 0 || *wait > alert::longest_retry_after)) std::abort();
  }
  return 0;
}
