#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "ipc/connection.h"
#include "ipc/group.h"

namespace daemoneye::ipc {

namespace {

// Accepted in one turn of the loop before others get theirs.
constexpr int max_accepts_a_turn = 16;
// A full backlog is not reported by poll(2); it is tried again this often.
constexpr std::chrono::milliseconds full_backlog_pause(5);

Result<sockaddr_un> address_of(const std::string& path) {
  if (path.empty()) return fail(Errc::invalid_input, "socket path: empty");
  if (path.size() > Listener::max_path_bytes || path.find('\0') != std::string::npos) {
    return fail(Errc::invalid_input, "socket path " + path + ": " + std::to_string(path.size()) + " bytes, at most " +
                                         std::to_string(Listener::max_path_bytes) + " are possible");
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<UniqueFd> unix_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno("socket", errno);
  return fd;
}

int connect_once(int fd, const sockaddr_un& address) {
  for (;;) {
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return 0;
    if (errno != EINTR) return errno;
  }
}

// Removes the socket file of a server that is gone; an error when it is anything else.
Result<void> clear_stale(const std::string& path, const sockaddr_un& address) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(path, errno);
  }
  if (!S_ISSOCK(found.st_mode)) {
    return fail(Errc::invalid_input, path + " exists and is no socket; it is left alone");
  }
  DE_TRY(const UniqueFd probe, unix_socket());
  const int error = connect_once(probe.get(), address);
  // EAGAIN: alive, only its backlog is full.
  if (error == 0 || error == EAGAIN) return fail(Errc::unavailable, path + ": another server is listening there");
  if (error != ECONNREFUSED) return fail_errno(path + ": is a server listening there?", error);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno("remove stale socket " + path, errno);
  return {};
}

}  // namespace

struct Listener::State {
  EventLoop& loop;
  std::string path;
  UniqueFd socket;
  UniqueFd reserve;  // given up for a moment to turn a peer away when no descriptor is left
  OnAccept on_accept;
  struct stat file{};
  std::uint64_t refused = 0;

  State(EventLoop& on, std::string at, OnAccept with) : loop(on), path(std::move(at)), on_accept(std::move(with)) {}

  void close() {
    if (!socket) return;
    loop.remove(socket.get());
    socket.reset();
    struct stat now{};
    // Only our own file: another server may have taken the place.
    if (::lstat(path.c_str(), &now) == 0 && now.st_dev == file.st_dev && now.st_ino == file.st_ino) {
      ::unlink(path.c_str());
    }
  }

  bool turn_away() {
    reserve.reset();
    const UniqueFd peer(::accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!peer) return false;
    ++refused;
    return true;
  }

  void accept_some() {
    for (int turn = 0; turn < max_accepts_a_turn && socket; ++turn) {
      if (!reserve) reserve.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      UniqueFd peer(::accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!peer) {
        // Left in the backlog it would wake the loop again and again.
        if (errno == EMFILE || errno == ENFILE) {
          if (!turn_away()) return;
          continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        return;
      }
      const auto credentials = peer_credentials(peer.get());
      if (!credentials) {
        ++refused;
        continue;
      }
      on_accept(std::move(peer), *credentials);
    }
  }
};

Listener::Listener(std::shared_ptr<State> state) : state_(std::move(state)) {}
Listener::~Listener() { state_->close(); }
std::uint64_t Listener::refused() const { return state_->refused; }

Result<std::unique_ptr<Listener>> Listener::open(EventLoop& loop, const std::string& path, const std::string& group,
                                                 OnAccept on_accept) {
  DE_TRY(const auto address, address_of(path));
  DE_CHECK(clear_stale(path, address));
  auto state = std::make_shared<State>(loop, path, std::move(on_accept));
  DE_TRY(UniqueFd socket, unix_socket());
  const int fd = socket.get();
  // The mode before bind() becomes the file's (less the umask), so it is never more open than this.
  if (::fchmod(fd, 0660) != 0) return fail_errno("socket mode", errno);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno("bind " + path, errno);
  }
  if (::lstat(path.c_str(), &state->file) != 0) return fail_errno(path, errno);
  state->socket = std::move(socket);  // from here on the file is removed with it
  auto listener = std::unique_ptr<Listener>(new Listener(state));
  if (!group.empty()) {
    DE_TRY(const gid_t gid, group_id(group));
    // A service manager may have started us in that group, and let us change no owner.
    if (state->file.st_gid != gid && ::lchown(path.c_str(), static_cast<uid_t>(-1), gid) != 0) {
      return fail_errno("give " + path + " to group " + group, errno);
    }
  }
  if (::chmod(path.c_str(), 0660) != 0) return fail_errno("mode of " + path, errno);
  // Last, so that nobody is let in before the file is as it should be.
  if (::listen(fd, backlog) != 0) return fail_errno("listen on " + path, errno);
  DE_CHECK(loop.add(fd, EPOLLIN, [state](std::uint32_t) { state->accept_some(); }));
  return listener;
}

Result<UniqueFd> connect_to(const std::string& path, Deadline deadline) {
  DE_TRY(const auto address, address_of(path));
  DE_TRY(UniqueFd fd, unix_socket());
  for (;;) {
    const int error = connect_once(fd.get(), address);
    if (error == 0) return fd;
    if (error == ENOENT || error == ECONNREFUSED) {
      return fail(Errc::unavailable, path + ": no server is listening there");
    }
    if (error != EAGAIN) return fail_errno("connect to " + path, error);
    if (deadline.expired()) return fail(Errc::timeout, path + ": the server does not take new connections");
    const auto pause =
        std::min<std::int64_t>(full_backlog_pause.count(), deadline.poll_timeout_ms() < 0 ? full_backlog_pause.count()
                                                                                          : deadline.poll_timeout_ms());
    ::poll(nullptr, 0, static_cast<int>(pause));
  }
}

}  // namespace daemoneye::ipc
