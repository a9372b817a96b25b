// Records with any lengths: nothing is read beyond them, and nothing that is given is longer than what came in.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "sensor/linux/record.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace sensor = daemoneye::sensor;
  // An exact heap copy, so that the sanitizer sees the first byte too far.
  std::string bytes(reinterpret_cast<const char*>(data), size);
  sensor::RawProcess process;
  const auto check = [&] {
    const auto declared = sensor::record_size(bytes);
    const auto info = sensor::decode_record(bytes, process);
    if (!info) return;
    if (!declared || *declared == 0 || *declared > bytes.size()) std::abort();
    if (info->kind < DE_EXEC || info->kind > DE_COUNTERS) std::abort();
    if (process.counters_only != (info->kind == DE_COUNTERS)) std::abort();
    if (process.links.has_value() != process.executable_state.has_value() && !process.kernel_thread) std::abort();
    std::size_t total = process.comm.size();
    for (const auto* text : {&process.arguments, &process.executable_path, &process.cwd, &process.cgroup,
                             &process.filename, &process.tty}) {
      if (*text) total += (*text)->size();
    }
    if (total > bytes.size() + 32) std::abort();  // "/" and "..." are added
  };
  check();
  // The same with a fixed part that is accepted more often.
  daemoneye_record record;
  if (bytes.size() < sizeof record) return 0;
  std::memcpy(&record, bytes.data(), sizeof record);
  record.magic = DE_RECORD_MAGIC;
  record.size = static_cast<unsigned>(bytes.size());
  record.kind = static_cast<unsigned char>(DE_EXEC + record.kind % 5);
  unsigned rest = record.size - static_cast<unsigned>(sizeof record);
  for (int part = 0; part < DE_PARTS; ++part) {
    if (part + 1 == DE_PARTS || record.lengths[part] > rest) record.lengths[part] = rest;
    rest -= record.lengths[part];
  }
  std::memcpy(bytes.data(), &record, sizeof record);
  check();
  if (bytes.size() <= DE_MAX_RECORD && !sensor::decode_record(bytes, process)) std::abort();
  return 0;
}
