// The parsers of /proc texts take any bytes; what they give points into them.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "sensor/linux/procfs_parse.h"
#include "sensor/linux/procfs_reader.h"

namespace {

bool within(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace sensor = daemoneye::sensor;
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 3) {
    case 0:
      if (const auto stat = sensor::parse_stat(text)) {
        if (!within(stat->comm, text)) std::abort();
        sensor::status_of(stat->state);
        const auto tty = sensor::tty_name(stat->tty_number);
        if (tty && (tty->empty() || tty->size() > 16)) std::abort();
        sensor::RawProcess process;
        sensor::ProcReader::take_stat(*stat, process);
        if (process.pid != stat->pid || process.start_ticks != stat->start_ticks) std::abort();
        // Written again in the kernel's form, it must say the same.
        const auto again_text =
            std::to_string(stat->pid) + " (" + std::string(stat->comm) + ")" + text.substr(text.rfind(')') + 1);
        const auto again = sensor::parse_stat(again_text);
        if (!again || again->start_ticks != stat->start_ticks || again->comm != stat->comm) std::abort();
      }
      break;
    case 1: {
      const auto status = sensor::parse_status(text);
      // Only what stands in lines of its own counts, so a longer name in front changes nothing.
      const auto again = sensor::parse_status("Name:\tUid:\\n\n" + text);
      if (again.uid != status.uid || again.egid != status.egid || again.resident_bytes != status.resident_bytes) {
        std::abort();
      }
      break;
    }
    default:
      if (const auto path = sensor::choose_cgroup(text)) {
        if (!within(*path, text) || path->empty() || path->front() != '/') std::abort();
        if (path->find('\n') != std::string_view::npos) std::abort();
      }
  }
  return 0;
}
