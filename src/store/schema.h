// The tables of the event store, schema version 2. docs/formats/store.md describes them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace daemoneye::store {

inline constexpr std::uint32_t application_id = 0x44457631;  // "DEv1"
const std::vector<std::string>& schema_steps();              // one a version, for db::migrate

// Keys of `meta`.
inline constexpr const char* meta_store_id = "store_id";
inline constexpr const char* meta_next_event = "next_event";  // no lower id is ever given again
inline constexpr const char* meta_stream_watermark = "stream_watermark";

}  // namespace daemoneye::store
