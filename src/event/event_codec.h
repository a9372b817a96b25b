// The byte layout that batches and scans are made of; docs/formats/batch.md says the same in words.
// Reader and writer of an event walk one list of fields (event_codec.cc), so they cannot disagree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "event/event_view.h"
#include "event/process_event.h"

namespace daemoneye::event {

inline constexpr std::string_view batch_magic = "DEB\x01";  // three letters and the version
inline constexpr std::string_view scan_magic = "DES\x01";
// Length, bitmap, time, kind, source and collection time: no event is shorter.
inline constexpr std::size_t min_event_bytes = 1 + 1 + 8 + 1 + 1 + 1;

// One event with its length in front. The error names the column.
Result<void> decode_event(base::ByteReader& in, ProcessEvent& event);
// The same checks and the same errors, but nothing is copied: the view looks into the input.
Result<void> decode_event(base::ByteReader& in, EventView& event);

// A key after one with boot id `before`: the boot id is written only when it differs.
void put_key(base::ByteWriter& out, const ProcessKey& key, const BootId& before);
// False when the bytes are not what put_key() writes.
bool get_key(base::ByteReader& in, ProcessKey& key, const BootId& before);

}  // namespace daemoneye::event
