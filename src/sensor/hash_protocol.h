// The messages between procmond and its hashing helper (docs/formats/hashing-helper.md). Each side distrusts the other:
// what does not decode exactly is an error, and no length is believed before it is checked.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "sensor/hasher.h"

namespace daemoneye::sensor {

inline constexpr std::uint8_t hash_protocol_version = 1;
inline constexpr std::size_t max_hash_path_bytes = 4096;
inline constexpr std::size_t max_hash_error_bytes = 256;
inline constexpr std::size_t max_hash_details = 32;
inline constexpr std::size_t max_hash_detail_bytes = 2048;  // one key or value
inline constexpr std::size_t max_hash_message_bytes = 16384;
// Requests that a helper holds at one time, each with an open file.
inline constexpr std::size_t max_hash_window = 256;

// procmond -> helper
std::string encode_hash_request(const HashRequest& request);
Result<HashRequest> decode_hash_request(std::string_view message);

// helper -> procmond, first of each worker
struct HashHello {
  std::uint32_t pid = 0;
  std::uint64_t previous = 0;  // the request that the worker before it was at when it ended; 0: none
  std::string error = {};      // not empty: it will not serve, for this reason
  std::map<std::string, std::string> details = {};
};
struct HashReply {
  std::uint64_t id = 0;
  std::optional<event::ExecutableState> state;
  std::optional<base::Sha256Digest> digest;
  FileIdentity file;
  std::optional<std::string> path;
  std::string error;
  bool hopeless = false;
};
struct HashMessage {
  std::optional<HashHello> hello;
  std::optional<HashReply> reply;
};
// What is too long is cut (error, details) or left out (path).
std::string encode_hash_hello(const HashHello& hello);
std::string encode_hash_reply(const HashReply& reply);
Result<HashMessage> decode_hash_message(std::string_view message);  // exactly one is set

}  // namespace daemoneye::sensor
