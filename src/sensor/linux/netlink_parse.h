// Messages of the kernel's process events connector (linux/cn_proc.h), parsed. Pure: bytes in, fields out; nothing is
// trusted to be there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "event/process.h"

namespace daemoneye::sensor {

enum class ProcMessageKind : std::uint8_t {
  acknowledgement,  // of a subscription: anyone's
  fork,
  exec,
  exit,
  other,  // credentials, sessions, names, traces, dumps: not used
};

struct ProcMessage {
  ProcMessageKind kind = ProcMessageKind::other;
  std::int64_t monotonic_ns = 0;  // CLOCK_MONOTONIC, taken shortly after what it tells of
  event::Pid pid = 0;             // the process (thread group) that it is about; of a fork: the child's
  event::Pid thread = 0;          // the thread itself; `pid` when it is the group's first
  event::Pid parent = 0;          // of a fork: the process that forked
  int wait_status = 0;            // of an exit, as wait(2) gives it
  std::uint32_t error = 0;        // of an acknowledgement: an errno, 0 for success
  std::uint32_t reply_to = 0;     // of an acknowledgement: the request's `ack` + 1

  [[nodiscard]] bool first_thread() const { return pid == thread; }
};

// One datagram as the connector's socket gives it. Nothing when it is not a whole message of this connector.
std::optional<ProcMessage> parse_proc_message(std::string_view datagram);

// The datagram that asks for events. `ack` comes back in the acknowledgement, one higher.
std::string make_subscription(std::uint32_t ack);
// The same for exactly these kinds; understood since Linux 6.6, passed over in silence before.
std::string make_narrow_subscription(std::uint32_t ack);

// The largest message that the kernel sends, with room for fields to come.
inline constexpr std::size_t kMaxProcMessage = 256;

}  // namespace daemoneye::sensor
