// Messages of the process events connector with any bytes, and what becomes of any sequence of them.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "sensor/linux/netlink_events.h"
#include "sensor/linux/netlink_parse.h"

namespace {

using namespace daemoneye::sensor;

constexpr std::size_t kHeaders = 36;  // netlink and connector

void parse(std::string bytes) {
  const auto check = [&] {
    const auto message = parse_proc_message(bytes);
    if (!message) return;
    const bool about_a_process = message->kind == ProcMessageKind::fork || message->kind == ProcMessageKind::exec ||
                                 message->kind == ProcMessageKind::exit;
    if (about_a_process && (message->pid == 0 || message->thread == 0)) std::abort();
    if (message->monotonic_ns < 0) std::abort();
    if (message->wait_status < 0 || message->wait_status > 0xffff) std::abort();
  };
  check();
  // The same with headers that are accepted more often.
  if (bytes.size() < kHeaders || bytes.size() > 65535) return;
  const auto size = static_cast<std::uint32_t>(bytes.size());
  const auto length = static_cast<std::uint16_t>(bytes.size() - kHeaders);
  const std::uint32_t one = 1;
  const std::uint16_t done = 3;
  std::memcpy(bytes.data(), &size, sizeof size);
  std::memcpy(bytes.data() + 4, &done, sizeof done);
  std::memcpy(bytes.data() + 16, &one, sizeof one);
  std::memcpy(bytes.data() + 20, &one, sizeof one);
  std::memcpy(bytes.data() + 32, &length, sizeof length);
  check();
}

// Three bytes a message: kind and threads, process, time. /proc is empty, so that nothing but the messages counts.
void run(const std::uint8_t* data, std::size_t size) {
  auto reader = ProcReader::open("/var/empty");
  if (!reader) reader = ProcReader::open("/tmp");
  if (!reader) return;
  NetlinkEvents events(std::move(*reader), 8);
  std::vector<ProcMessage> messages;
  std::int64_t now = 1'000'000'000'000;
  for (; size >= 3; data += 3, size -= 3) {
    ProcMessage message;
    message.kind = static_cast<ProcMessageKind>(1 + data[0] % 3);
    message.pid = 4'000'000 + data[1] % 16;  // beyond what a pid can be
    message.thread = message.pid + (data[0] >> 6);
    message.parent = 4'000'000 + data[1] / 16;
    now += data[2] % 4 == 3 ? -1'000'000 : data[2] * 1'000'000;
    message.monotonic_ns = now;
    messages.push_back(message);
  }
  std::map<std::pair<daemoneye::event::Pid, std::uint64_t>, int> ends;
  std::size_t forks = 0;
  bool given = false;
  events.handle(
      [&](std::vector<ProcMessage>& into) {
        if (!given) into.insert(into.end(), messages.begin(), messages.end());
        given = true;
        return false;
      },
      SIZE_MAX,
      [&](const RawEvent& seen) {
        const std::pair key{seen.process.pid, seen.process.start_ticks};
        if (seen.kind == RawKind::fork) {
          ++forks;
          ends.erase(key);
        }
        // One end for each that was born; without a birth nothing is known of it.
        if (seen.kind == RawKind::exit && ++ends[key] > 1) std::abort();
      });
  if (events.size() > 8 || events.counters().events + events.counters().lost > messages.size()) std::abort();
  if (forks > messages.size() || events.waiting()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  if (data[0] % 2 == 0)
    parse(std::string(reinterpret_cast<const char*>(data + 1), size - 1));
  else
    run(data + 1, std::min<std::size_t>(size - 1, 3000));
  return 0;
}
