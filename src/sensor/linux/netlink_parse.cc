#include "sensor/linux/netlink_parse.h"

// The kernel's headers in this order: one needs the types of the other.
#include <linux/netlink.h>
//
#include <linux/cn_proc.h>
#include <linux/connector.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace daemoneye::sensor {
namespace {

constexpr std::size_t kHeaders = NLMSG_HDRLEN + sizeof(cn_msg);
constexpr std::size_t kEventHeader = offsetof(proc_event, event_data);

// Copies a field out of the event when it was sent whole: older kernels send shorter events.
template <class Field>
std::optional<Field> field_of(std::string_view event, std::size_t offset) {
  Field field;
  if (event.size() < offset + sizeof field) return std::nullopt;
  std::memcpy(&field, event.data() + offset, sizeof field);
  return field;
}

std::optional<event::Pid> id_at(std::string_view event, std::size_t offset) {
  const auto id = field_of<__kernel_pid_t>(event, offset);
  if (!id || *id < 0) return std::nullopt;
  return static_cast<event::Pid>(*id);
}

template <class Operation>
std::string request(const Operation& operation, std::uint32_t ack) {
  std::string bytes(NLMSG_ALIGN(kHeaders + sizeof operation), '\0');
  nlmsghdr outer{};
  outer.nlmsg_len = static_cast<__u32>(kHeaders + sizeof operation);
  outer.nlmsg_type = NLMSG_DONE;
  cn_msg inner{};
  inner.id = {CN_IDX_PROC, CN_VAL_PROC};
  inner.ack = ack;
  inner.len = sizeof operation;
  std::memcpy(bytes.data(), &outer, sizeof outer);
  std::memcpy(bytes.data() + NLMSG_HDRLEN, &inner, sizeof inner);
  std::memcpy(bytes.data() + kHeaders, &operation, sizeof operation);
  return bytes;
}

}  // namespace

std::optional<ProcMessage> parse_proc_message(std::string_view datagram) {
  nlmsghdr outer;
  cn_msg inner;
  if (datagram.size() < kHeaders) return std::nullopt;
  std::memcpy(&outer, datagram.data(), sizeof outer);
  std::memcpy(&inner, datagram.data() + NLMSG_HDRLEN, sizeof inner);
  if (outer.nlmsg_len < kHeaders || outer.nlmsg_len > datagram.size()) return std::nullopt;
  if (outer.nlmsg_type != NLMSG_DONE || inner.id.idx != CN_IDX_PROC || inner.id.val != CN_VAL_PROC) return std::nullopt;
  if (inner.len < kEventHeader || inner.len > outer.nlmsg_len - kHeaders) return std::nullopt;
  const auto event = datagram.substr(kHeaders, inner.len);

  ProcMessage message;
  __u32 what = 0;
  std::memcpy(&what, event.data() + offsetof(proc_event, what), sizeof what);
  __u64 stamp = 0;
  std::memcpy(&stamp, event.data() + offsetof(proc_event, timestamp_ns), sizeof stamp);
  message.monotonic_ns = static_cast<std::int64_t>(std::min<__u64>(stamp, INT64_MAX / 2));  // sums must not overflow
  switch (what) {
    case proc_event::PROC_EVENT_NONE: {
      const auto error = field_of<__u32>(event, offsetof(proc_event, event_data.ack.err));
      if (!error) return std::nullopt;
      message.kind = ProcMessageKind::acknowledgement;
      message.error = *error;
      message.reply_to = inner.ack;
      return message;
    }
    case proc_event::PROC_EVENT_FORK: {
      const auto process = id_at(event, offsetof(proc_event, event_data.fork.child_tgid));
      const auto thread = id_at(event, offsetof(proc_event, event_data.fork.child_pid));
      const auto parent = id_at(event, offsetof(proc_event, event_data.fork.parent_tgid));
      if (!process || !thread || !parent) return std::nullopt;
      message.kind = ProcMessageKind::fork;
      message.pid = *process;
      message.thread = *thread;
      message.parent = *parent;
      break;
    }
    case proc_event::PROC_EVENT_EXEC: {
      const auto process = id_at(event, offsetof(proc_event, event_data.exec.process_tgid));
      const auto thread = id_at(event, offsetof(proc_event, event_data.exec.process_pid));
      if (!process || !thread) return std::nullopt;
      message.kind = ProcMessageKind::exec;
      message.pid = *process;
      message.thread = *thread;
      break;
    }
    case proc_event::PROC_EVENT_EXIT: {
      // The parent's ids, which came with Linux 4.18, are not asked for.
      const auto process = id_at(event, offsetof(proc_event, event_data.exit.process_tgid));
      const auto thread = id_at(event, offsetof(proc_event, event_data.exit.process_pid));
      const auto status = field_of<__u32>(event, offsetof(proc_event, event_data.exit.exit_code));
      if (!process || !thread || !status) return std::nullopt;
      message.kind = ProcMessageKind::exit;
      message.pid = *process;
      message.thread = *thread;
      message.wait_status = static_cast<int>(*status & 0xffff);
      break;
    }
    default: return message;
  }
  if (message.pid == 0 || message.thread == 0) return std::nullopt;
  return message;
}

std::string make_subscription(std::uint32_t ack) {
  const __u32 operation = PROC_CN_MCAST_LISTEN;
  return request(operation, ack);
}

std::string make_narrow_subscription(std::uint32_t ack) {
  // struct proc_input of Linux 6.6; the headers of older distributions do not have it.
  struct {
    __u32 operation, kinds;
  } const input{PROC_CN_MCAST_LISTEN, static_cast<__u32>(proc_event::PROC_EVENT_FORK) |
                                          static_cast<__u32>(proc_event::PROC_EVENT_EXEC) |
                                          static_cast<__u32>(proc_event::PROC_EVENT_EXIT)};
  return request(input, ack);
}

}  // namespace daemoneye::sensor
