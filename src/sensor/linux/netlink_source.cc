// The real-time source without eBPF: the process events connector tells who forked, executed something or ended, and
// /proc, read at once, the rest. Opened in the initial network namespace; the socket then goes on wherever we go.
#include <fcntl.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <optional>
#include <random>

#include "base/time.h"
#include "sensor/linux/netlink_events.h"
#include "sensor/source.h"

namespace daemoneye::sensor {
namespace {

constexpr std::size_t kMessagesAtOnce = 32;
// Handed over before the loop gets its turn again.
constexpr std::size_t kMaxMessagesAtOnce = 4096;
constexpr std::size_t kMaxMessagesByPoll = 1 << 20;
constexpr int kNice = -5;
constexpr std::chrono::milliseconds kAcknowledgement{2000};

// The subscribed socket.
class Connector {
 public:
  static Result<Connector> open(std::size_t buffer_bytes) {
    UniqueFd socket(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR));
    if (!socket) return fail_errno("opening a process events socket", errno);
    // Without the privilege for more, what the system allows everyone.
    const int bytes = static_cast<int>(std::min<std::size_t>(buffer_bytes, INT_MAX / 2));
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0 &&
        ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) != 0) {
      return fail_errno("sizing the buffer of process events", errno);
    }
    // With it a full buffer loses only what does not fit; else all until it was read empty. Losses are counted by the
    // kernel either way.
    const int on = 1;
    if (::setsockopt(socket.get(), SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on) != 0) {
      return fail_errno("setting up the process events socket", errno);
    }
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = CN_IDX_PROC;
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return fail_errno("joining the process events", errno);
    }
    Connector connector(std::move(socket));
    DE_CHECK(connector.subscribe());
    return connector;
  }

  // Appends what is there, at most kMessagesAtOnce; false: that was all.
  Result<bool> receive(std::vector<ProcMessage>& into) {
    std::array<std::array<char, kMaxProcMessage>, kMessagesAtOnce> buffers;
    std::array<sockaddr_nl, kMessagesAtOnce> senders{};
    std::array<iovec, kMessagesAtOnce> parts;
    std::array<mmsghdr, kMessagesAtOnce> headers{};
    for (std::size_t i = 0; i < headers.size(); ++i) {
      parts[i] = {buffers[i].data(), buffers[i].size()};
      headers[i].msg_hdr.msg_iov = &parts[i];
      headers[i].msg_hdr.msg_iovlen = 1;
      headers[i].msg_hdr.msg_name = &senders[i];
      headers[i].msg_hdr.msg_namelen = sizeof senders[i];
    }
    int count = -1;
    do {
      count = ::recvmmsg(socket_.get(), headers.data(), kMessagesAtOnce, MSG_DONTWAIT, nullptr);
    } while (count < 0 && (errno == EINTR || errno == ENOBUFS));  // losses: see dropped()
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (count < 0) return fail_errno("receiving process events", errno);
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      if (senders[i].nl_pid != 0) continue;  // not the kernel
      if (const auto message = parse_proc_message({buffers[i].data(), headers[i].msg_len})) into.push_back(*message);
    }
    return static_cast<std::size_t>(count) == kMessagesAtOnce;
  }

  // How many messages the kernel could not queue, modulo 2^32.
  [[nodiscard]] Result<std::uint32_t> dropped() const {
    std::array<std::uint32_t, SK_MEMINFO_VARS> info{};
    socklen_t size = sizeof info;
    if (::getsockopt(socket_.get(), SOL_SOCKET, SO_MEMINFO, info.data(), &size) != 0) {
      return fail_errno("asking for lost process events", errno);
    }
    return info[SK_MEMINFO_DROPS];
  }
  [[nodiscard]] std::size_t buffer_bytes() const {
    int bytes = 0;
    socklen_t size = sizeof bytes;
    if (::getsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &bytes, &size) != 0) return 0;
    return static_cast<std::size_t>(bytes) / 2;  // the kernel doubles what it is told, for its own needs
  }
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  explicit Connector(UniqueFd socket) : socket_(std::move(socket)) {}

  Result<void> send(const std::string& request) {
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    const auto sent = ::sendto(socket_.get(), request.data(), request.size(), 0,
                               reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
    if (sent < 0) return fail_errno("asking for process events", errno);
    return {};
  }

  // The kernel refuses in silence where it has nothing to tell: outside the initial user and pid namespaces. So only
  // its acknowledgement counts.
  Result<void> subscribe() {
    const auto ack = std::random_device{}();
    DE_CHECK(send(make_subscription(ack)));
    const auto deadline = base::SteadyClock::now() + kAcknowledgement;
    for (;;) {
      std::vector<ProcMessage> messages;
      DE_TRY(const bool more, receive(messages));
      for (const auto& message : messages) {
        if (message.kind != ProcMessageKind::acknowledgement || message.reply_to != ack + 1) continue;
        if (message.error != 0) return fail_errno("asking for process events", static_cast<int>(message.error));
        // Best effort: an older kernel goes on telling of everything.
        return send(make_narrow_subscription(ack));
      }
      if (more) continue;
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - base::SteadyClock::now());
      if (left.count() <= 0) {
        return fail(Errc::unavailable,
                    "the kernel does not tell process events here: not in the initial user and pid namespaces");
      }
      pollfd waiting{socket_.get(), POLLIN, 0};
      ::poll(&waiting, 1, static_cast<int>(left.count()) + 1);
    }
  }

  UniqueFd socket_;
};

class NetlinkSource final : public Source {
 public:
  NetlinkSource(Connector connector, NetlinkEvents events, std::size_t wanted_bytes)
      : connector_(std::move(connector)), events_(std::move(events)), wanted_bytes_(wanted_bytes) {}
  ~NetlinkSource() override { stop(); }

  Result<void> prime() { return events_.prime(); }

  [[nodiscard]] event::EventSource kind() const override { return event::EventSource::netlink; }
  [[nodiscard]] std::string_view name() const override { return "netlink"; }

  [[nodiscard]] std::string limits() const override {
    std::string text =
        "process events without eBPF: of a process that ends at once its arguments are often missed, and without "
        "privileges the executables and folders of other users' processes; the file name as passed is not told, "
        "changes of credentials only by scans";
    if (::access("/proc/1/stat", R_OK) != 0) {
      text += "; /proc hides other users' processes (hidepid): of them only that they start and end is seen";
    }
    if (const auto bytes = connector_.buffer_bytes(); bytes < wanted_bytes_) {
      text += "; the buffer holds " + std::to_string(bytes) + " bytes of " + std::to_string(wanted_bytes_) +
              " (CAP_NET_ADMIN was missing)";
    }
    return text;
  }

  Result<void> start(EventLoop& loop, std::function<void(const RawEvent&)> on_event,
                     std::function<void(const Error&)> on_failure) override {
    if (loop_ != nullptr) return fail(Errc::internal, "the netlink source was started twice");
    on_event_ = std::move(on_event);
    on_failure_ = std::move(on_failure);
    DE_CHECK(loop.add(connector_.fd(), EPOLLIN, [this](std::uint32_t) { drain(kMaxMessagesAtOnce); }));
    loop_ = &loop;
    return {};
  }

  void poll() override { drain(kMaxMessagesByPoll); }
  [[nodiscard]] bool failed() const override { return failed_; }

  [[nodiscard]] SourceCounters counters() const override {
    auto counters = events_.counters();
    counters.lost += dropped_;
    return counters;
  }

  void stop() override {
    if (loop_ == nullptr) return;
    loop_->remove(connector_.fd());
    if (rest_) loop_->remove_timer(*rest_);
    rest_.reset();
    loop_ = nullptr;
  }

 private:
  void drain(std::size_t limit) {
    if (!on_event_ || failed_) return;
    std::optional<Error> error;
    const auto receive = [&](std::vector<ProcMessage>& into) {
      auto received = connector_.receive(into);
      if (!received) error = received.error();
      return received && *received;
    };
    events_.handle(receive, limit, on_event_);
    if (auto dropped = connector_.dropped(); !dropped) {
      error = dropped.error();
    } else if (const std::uint32_t fresh = *dropped - dropped_before_; fresh != 0) {
      dropped_before_ = *dropped;
      dropped_ += fresh;
      events_.on_loss();
    }
    if (error) return fail_with(*error);
    // What was received already wakes nobody.
    if (events_.waiting() && loop_ != nullptr && !rest_) {
      auto timer = loop_->add_timer(std::chrono::nanoseconds(1), std::chrono::nanoseconds(0), [this] {
        rest_.reset();
        drain(kMaxMessagesAtOnce);
      });
      if (!timer) return fail_with(timer.error());
      rest_ = *timer;
    }
  }

  void fail_with(const Error& error) {
    failed_ = true;
    stop();
    if (on_failure_) on_failure_(error);
  }

  Connector connector_;
  NetlinkEvents events_;
  std::size_t wanted_bytes_;
  EventLoop* loop_ = nullptr;
  std::optional<EventLoop::TimerId> rest_;
  std::function<void(const RawEvent&)> on_event_;
  std::function<void(const Error&)> on_failure_;
  std::uint32_t dropped_before_ = 0;
  std::uint64_t dropped_ = 0;
  bool failed_ = false;
};

// The sooner this thread gets its turn the more processes are still there to be read: of some that end at once 60 %
// were without, 80 % with a short slice, 90 % with the priority too (two busy cores). A slice costs others nothing, as
// the share stays the same, and everyone may ask for it; the priority, a boost as auditd takes it, only with
// CAP_SYS_NICE. What is done in other processes is not hurried.
void ask_for_prompt_turns() {
  // struct sched_attr and SCHED_FLAG_RESET_ON_FORK: the kernel's header and that of this libc do not go together.
  struct {
    std::uint32_t size = 48, policy = SCHED_OTHER;
    std::uint64_t flags = 1;
    std::int32_t nice = kNice;
    std::uint32_t priority = 0;
    std::uint64_t runtime_ns = 100'000, deadline = 0, period = 0;  // the slice; passed over before Linux 6.12
  } attributes;
  static_assert(sizeof attributes == 48);
  if (::syscall(SYS_sched_setattr, 0, &attributes, 0) == 0) return;
  attributes.nice = ::getpriority(PRIO_PROCESS, 0);
  ::syscall(SYS_sched_setattr, 0, &attributes, 0);  // it works without, too
}

}  // namespace

Result<std::unique_ptr<Source>> open_netlink_source(std::size_t buffer_bytes) {
  DE_TRY(auto reader, ProcReader::open("/proc"));
  DE_TRY(auto connector, Connector::open(buffer_bytes));
  auto source = std::make_unique<NetlinkSource>(std::move(connector), NetlinkEvents(std::move(reader)), buffer_bytes);
  DE_CHECK(source->prime());
  ask_for_prompt_turns();
  return source;
}

}  // namespace daemoneye::sensor
