// Batches for the room's tests.
#pragma once

#include <string>

#include "event/batch.h"
#include "event/process_event.h"

namespace daemoneye::ipc::testing {

// `count` events, encoded as a batcher collects them; the n-th has the time first_ns + n.
inline std::string encoded_events(std::size_t count, std::int64_t first_ns) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    event::ProcessEvent event;
    event.time = Timestamp{first_ns + static_cast<std::int64_t>(i)};
    event.process.collection_time = event.time;
    event.process.key.pid = 42;
    event.process.key.start_ticks = 17;
    event.process.name = "sleep";
    event::encode_event(event, bytes);
  }
  return bytes;
}

}  // namespace daemoneye::ipc::testing
