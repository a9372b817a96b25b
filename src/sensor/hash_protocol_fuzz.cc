// Both directions between procmond and its hashing helper: any bytes are taken or refused, and what is taken is
// written again as exactly the same bytes.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "sensor/hash_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace sensor = daemoneye::sensor;
  const std::string message(reinterpret_cast<const char*>(data), size);
  if (const auto request = sensor::decode_hash_request(message)) {
    if (sensor::encode_hash_request(*request) != message) std::abort();
  }
  if (const auto decoded = sensor::decode_hash_message(message)) {
    if (decoded->hello.has_value() == decoded->reply.has_value()) std::abort();
    if (decoded->reply && sensor::encode_hash_reply(*decoded->reply) != message) std::abort();
    // The writer leaves out details beyond half a message; the reader takes them.
    if (decoded->hello && message.size() <= sensor::max_hash_message_bytes / 2 &&
        sensor::encode_hash_hello(*decoded->hello) != message) {
      std::abort();
    }
  }
  return 0;
}
