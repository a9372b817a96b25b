// Whatever decodes has exactly one encoding, and it is the one that was read.
#include <cstdlib>

#include "event/batch.h"
#include "event/columns.h"
#include "event/event_view.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye::event;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  BatchView view;
  const auto viewed = decode_batch(bytes, view);
  const auto batch = decode_batch(bytes);
  if (viewed.has_value() != batch.has_value()) std::abort();
  if (batch) {
    if (view.id != batch->id || view.events.size() != batch->events.size()) std::abort();
    const auto again = encode_batch(*batch);
    if (!again || *again != bytes) std::abort();
    for (const auto& event : batch->events) {
      for (const auto& column : columns()) column_value(event, 1, column.column);
    }
  }
  if (const auto scan = decode_scan(bytes)) {
    if (encode_scan(*scan) != bytes) std::abort();
  }
  return 0;
}
