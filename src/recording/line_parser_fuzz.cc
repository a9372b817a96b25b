// A line from anywhere: never read past, never accepted into an event that the store could not hold and give back.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "event/batch.h"
#include "event/columns.h"
#include "recording/line_parser.h"

using namespace daemoneye;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static recording::LineParser parser;  // the lines of a file go through one
  std::string text(reinterpret_cast<const char*>(data), size);
  text.append(recording::line_padding, '"');
  const auto parsed = parser.parse(std::string_view(text).substr(0, size));
  const auto alone = recording::LineParser().parse(std::string_view(text).substr(0, size)).has_value();
  if (parsed.has_value() != alone) abort();  // what came before must not matter
  if (!parsed) {
    if (parsed.error().code != Errc::invalid_input || parsed.error().message.empty()) abort();
    return 0;
  }
  event::Batch batch;
  batch.id.source = "import";
  batch.id.sequence = 1;
  batch.events.push_back(**parsed);
  const auto bytes = event::encode_batch(batch);
  if (!bytes) abort();
  const auto again = event::decode_batch(*bytes);
  if (!again) abort();
  for (const auto& column : event::columns()) {
    if (event::column_value(again->events[0], 1, column.column) !=
        event::column_value(batch.events[0], 1, column.column))
      abort();
  }
  return 0;
}
