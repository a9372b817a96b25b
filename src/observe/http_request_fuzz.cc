// Any bytes: an answer within bounds, and the same one however the bytes are cut.
#include <cstdint>
#include <cstdlib>

#include "observe/http_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye::observe;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto whole = parse_http_request(bytes);
  if (!whole || !*whole) return 0;
  if ((*whole)->path.empty() || (*whole)->path.size() > max_http_head_bytes || (*whole)->method.empty()) std::abort();
  for (std::size_t cut = 0; cut < bytes.size() && cut < 256; ++cut) {
    const auto part = parse_http_request(bytes.substr(0, cut));
    if (!part) std::abort();  // what becomes a request is at no point a wrong one
    if (*part && (*part)->path != (*whole)->path) std::abort();
  }
  return 0;
}
