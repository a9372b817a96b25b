#include <sys/stat.h>
#include <time.h>

#include <string>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "sensor/linux/clocks.h"
#include "sensor/source.h"

namespace daemoneye::sensor {
namespace {

std::int64_t now_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

std::int64_t wall_minus_boot_ns() {
  // The tightest of three brackets: being interrupted between the readings would shift the answer.
  std::int64_t best_width = -1, best = 0;
  for (int i = 0; i < 3; ++i) {
    const auto before = now_ns(CLOCK_BOOTTIME);
    const auto wall = now_ns(CLOCK_REALTIME);
    const auto after = now_ns(CLOCK_BOOTTIME);
    if (best_width >= 0 && after - before >= best_width) continue;
    best_width = after - before;
    best = wall - (before + best_width / 2);
  }
  return best;
}

Namespaces own_namespaces() {
  const auto number = [](const char* name) -> std::uint32_t {
    struct stat info{};
    const auto path = std::string("/proc/self/ns/") + name;
    return ::stat(path.c_str(), &info) == 0 ? static_cast<std::uint32_t>(info.st_ino) : 0;
  };
  return {.mnt = number("mnt"),
          .pid = number("pid"),
          .net = number("net"),
          .user = number("user"),
          .uts = number("uts"),
          .ipc = number("ipc"),
          .cgroup = number("cgroup")};
}

Result<event::BootId> read_boot_id() {
  DE_TRY(auto text, base::read_file("/proc/sys/kernel/random/boot_id", 64));
  std::string digits;
  for (const char c : base::trim(text)) {
    if (c != '-') digits.push_back(c);
  }
  DE_TRY(const auto bytes, base::from_hex(digits));
  event::BootId id{};
  if (bytes.size() != id.size()) return fail(Errc::corrupt, "/proc/sys/kernel/random/boot_id: not a UUID");
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::uint8_t>(bytes[i]);
  return id;
}

Result<Timestamp> read_boot_time() { return Timestamp{wall_minus_boot_ns()}; }

}  // namespace daemoneye::sensor
