// The texts that come back from the store or a peer: JSON of gaps and completeness, keys, import values.
#include <cstdlib>

#include "event/columns.h"
#include "event/completeness.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye::event;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto key = parse_process_key(text); key && to_string(*key) != text) std::abort();
  if (const auto gap = parse_gap(text)) {
    // Only the reason may change (invalid UTF-8 cannot pass the parser, so not even that).
    const auto again = parse_gap(make_gap_event(*gap, EventSource::scan, {}).detail);
    if (!again || *again != *gap) std::abort();
  }
  if (const auto completeness = parse_completeness(text)) {
    const auto again = parse_completeness(to_json(*completeness, true));
    if (!again || *again != *completeness) std::abort();
  }
  for (const auto& column : columns()) {
    ProcessEvent event;
    if (!set_column(event, column.column, Value(text))) continue;
    const auto value = column_value(event, 1, column.column);
    ProcessEvent again;
    if (!std::holds_alternative<std::monostate>(value) && !set_column(again, column.column, value)) std::abort();
  }
  return 0;
}
