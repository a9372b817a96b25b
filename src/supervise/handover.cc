// Descriptors over a Unix socket.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "observe/log.h"
#include "supervise/supervise.h"

namespace daemoneye::supervise {
namespace {

constexpr char handover_byte = 's';

// All descriptors of the message are taken over before anything is judged: none may leak.
struct Received {
  std::vector<UniqueFd> descriptors;
  ssize_t bytes = 0;
  char byte = 0;
  bool truncated = false;
};

Result<Received> receive(int socket, int flags) {
  Received received;
  iovec part{&received.byte, 1};
  // Room for one descriptor more than is allowed, so that a second one is seen.
  alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  do {
    received.bytes = ::recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (received.bytes < 0 && errno == EINTR);
  if (received.bytes < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return fail(Errc::timeout, "no descriptor has arrived");
    if (errno == ECONNRESET) return fail(Errc::unavailable, "the other side is gone");
    return fail_errno("receiving a descriptor", errno);
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      received.descriptors.emplace_back(fd);
    }
  }
  received.truncated = (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0;
  return received;
}

Result<UniqueFd> receive_fd_with(int socket, int flags) {
  DE_TRY(auto received, receive(socket, flags));
  if (received.bytes == 0) return fail(Errc::unavailable, "the other side is gone");
  if (received.truncated || received.descriptors.size() != 1 || received.byte != handover_byte) {
    return fail(Errc::corrupt, "a message with " + std::to_string(received.descriptors.size()) +
                                   " descriptors where exactly one was expected");
  }
  return std::move(received.descriptors.front());
}

}  // namespace

Result<void> send_fd(int socket, int fd) {
  char byte = handover_byte;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent == 1) return {};
  if (sent >= 0) return fail(Errc::internal, "sending a descriptor: nothing was sent");
  // ETOOMANYREFS: the kernel's bound on descriptors in flight.
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETOOMANYREFS) {
    return fail(Errc::limit_exceeded, "the other side leaves descriptors unread");
  }
  if (errno == EPIPE || errno == ECONNRESET) return fail(Errc::unavailable, "the other side is gone");
  return fail_errno("sending a descriptor", errno);
}

Result<UniqueFd> receive_fd(int socket) { return receive_fd_with(socket, 0); }

Result<void> receive_sockets(EventLoop& loop, int control, std::function<void(UniqueFd)> on_socket,
                             std::function<void()> on_end) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(control, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) {
    return fail(Errc::unavailable, "descriptor " + std::to_string(control) +
                                       " is not the supervisor's socket; daemoneye-agent starts this program");
  }
  if (::fcntl(control, F_SETFD, FD_CLOEXEC) != 0) return fail_errno("fcntl(FD_CLOEXEC)", errno);
  return loop.add(control, EPOLLIN,
                  [&loop, control, on_socket = std::move(on_socket), on_end = std::move(on_end)](std::uint32_t) {
                    auto received = receive_fd_with(control, MSG_DONTWAIT);
                    if (received) return on_socket(std::move(*received));
                    if (received.error().code == Errc::timeout) return;
                    if (received.error().code != Errc::unavailable) {
                      observe::log(observe::Level::error, "supervise", "the supervisor's socket is unusable",
                                   {{"error", std::string_view(received.error().message)}});
                    }
                    loop.remove(control);
                    on_end();
                  });
}

}  // namespace daemoneye::supervise
