// Decodes the eBPF programs' records (record_layout.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "sensor/linux/record_layout.h"
#include "sensor/source.h"

namespace daemoneye::sensor {

struct RecordInfo {
  daemoneye_record_kind kind = DE_EXEC;
  std::uint64_t boot_ns = 0;     // CLOCK_BOOTTIME when it happened
  std::int32_t exit_status = 0;  // as wait(2) gives it
  bool cut = false;              // arguments or a path were longer than their bound
};

// The size of the record that begins here: nothing when there are not yet enough bytes for its fixed part, 0 when it
// is not a record.
std::optional<std::size_t> record_size(std::string_view bytes);

// One whole record; `out` is overwritten. Nothing when it contradicts itself.
std::optional<RecordInfo> decode_record(std::string_view bytes, RawProcess& out);

}  // namespace daemoneye::sensor
