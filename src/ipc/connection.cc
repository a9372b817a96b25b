#include "ipc/connection.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "ipc/codec.h"
#include "ipc/frame.h"

namespace daemoneye::ipc {

namespace {

constexpr std::size_t receive_chunk_bytes = 64 * 1024;
// Read in one turn of the loop before others get theirs.
constexpr int max_chunks_a_turn = 8;
// A buffer that grew beyond this is given back once it is empty.
constexpr std::size_t kept_buffer_bytes = 512 * 1024;

}  // namespace

struct Connection::State {
  EventLoop& loop;
  UniqueFd socket;
  std::shared_ptr<const Handlers> handlers;  // shared with a running handler, which may replace them
  FrameReader reader;
  std::string outgoing;
  std::size_t written = 0;  // of `outgoing`
  std::uint64_t next_sequence = 1;
  bool waiting_for_room = false;  // EPOLLOUT is asked for
  std::string broken;             // why nothing can be written any more

  State(EventLoop& on, UniqueFd taken, Handlers with)
      : loop(on), socket(std::move(taken)), handlers(std::make_shared<const Handlers>(std::move(with))) {}

  [[nodiscard]] std::size_t waiting() const { return outgoing.size() - written; }
  [[nodiscard]] bool open() const { return static_cast<bool>(socket); }

  void shut() {
    if (!socket) return;
    loop.remove(socket.get());
    socket.reset();
    std::string().swap(outgoing);
    written = 0;
  }

  void close(std::string why) {
    if (!open()) return;
    shut();
    const auto current = handlers;
    if (current->on_close) current->on_close(std::move(why));
  }

  // Writes what the socket takes now; false when the peer is gone.
  bool write_some() {
    while (waiting() > 0) {
      const auto sent = ::send(socket.get(), outgoing.data() + written, waiting(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
        broken = fail_errno("send", errno).error().message;
        std::string().swap(outgoing);
        written = 0;
        return false;
      }
      written += static_cast<std::size_t>(sent);
    }
    outgoing.clear();
    written = 0;
    if (outgoing.capacity() > kept_buffer_bytes) std::string().swap(outgoing);
    return true;
  }

  Result<void> wait_for_room(bool wait) {
    if (wait == waiting_for_room) return {};
    DE_CHECK(loop.modify(socket.get(), wait ? EPOLLIN | EPOLLOUT : EPOLLIN));
    waiting_for_room = wait;
    return {};
  }

  void on_writable() {
    const bool alive = write_some();
    // A dead peer is closed by on_readable(), after what it still had to say.
    if (auto set = wait_for_room(alive && waiting() > 0); !set) return close(set.error().message);
    const auto current = handlers;
    if (alive && waiting() == 0 && current->on_drained) current->on_drained();
  }

  void on_readable() {
    // Written by recv() before it is read; to clear it costs more than what most messages do.
    char chunk[receive_chunk_bytes] __attribute__((uninitialized));
    for (int turn = 0; turn < max_chunks_a_turn && open(); ++turn) {
      const auto got = ::recv(socket.get(), chunk, sizeof chunk, MSG_DONTWAIT);
      if (got < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return;
        return close(fail_errno("receive", errno).error().message);
      }
      if (got == 0) return close(reader.mid_frame() ? "the connection ended in the middle of a frame" : broken);
      reader.feed(std::string_view(chunk, static_cast<std::size_t>(got)));
      deliver();
      if (static_cast<std::size_t>(got) < sizeof chunk) return;  // most likely empty now; the loop tells otherwise
    }
  }

  void deliver() {
    std::string_view payload;
    while (open()) {
      auto next = reader.next(payload);
      if (!next) return close(next.error().message);
      if (!*next) return;
      auto message = decode_message(payload);
      if (!message) return close(message.error().message);
      const auto current = handlers;
      if (current->on_message) current->on_message(std::move(*message));
    }
  }
};

Connection::Connection(std::shared_ptr<State> state) : state_(std::move(state)) {}

Connection::~Connection() { state_->shut(); }

void Connection::set_handlers(Handlers handlers) {
  state_->handlers = std::make_shared<const Handlers>(std::move(handlers));
}

Result<std::unique_ptr<Connection>> Connection::adopt(EventLoop& loop, UniqueFd socket, Handlers handlers) {
  const int fd = socket.get();
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return fail_errno("connection: O_NONBLOCK", errno);
  auto state = std::make_shared<State>(loop, std::move(socket), std::move(handlers));
  // The handler's own reference keeps the state while a callback destroys the connection. It is no cycle that
  // lasts: shut() removes the registration.
  DE_CHECK(loop.add(fd, EPOLLIN, [state](std::uint32_t events) {
    if (state->open() && (events & EPOLLOUT) != 0) state->on_writable();
    if (state->open() && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) state->on_readable();
  }));
  return std::unique_ptr<Connection>(new Connection(std::move(state)));
}

Result<void> Connection::send(const Message& message) {
  State& state = *state_;
  if (!state.open()) return fail(Errc::unavailable, "the connection is closed");
  if (!state.broken.empty()) return fail(Errc::unavailable, state.broken);
  DE_CHECK(check_message(message));
  const bool was_waiting = state.waiting() > 0;
  if (state.written > state.outgoing.size() / 2) {  // not each time: moving the rest costs its length
    state.outgoing.erase(0, state.written);
    state.written = 0;
  }
  const std::size_t begin = begin_frame(state.outgoing);
  append_message(state.outgoing, message);
  if (state.waiting() > max_outgoing_bytes) {
    state.outgoing.resize(begin);
    return fail(Errc::limit_exceeded, "connection: " + std::to_string(state.waiting()) +
                                          " bytes wait for a slow peer, at most " + std::to_string(max_outgoing_bytes) +
                                          " may");
  }
  end_frame(state.outgoing, begin, state.next_sequence++);
  if (was_waiting) return {};  // its turn comes when the socket has room
  if (!state.write_some()) {
    // A peer that only stopped reading is not reported by the loop.
    state.loop.post([weak = std::weak_ptr(state_)] {
      if (const auto alive = weak.lock(); alive && alive->open()) {
        alive->on_readable();
        alive->close(alive->broken);
      }
    });
    return fail(Errc::unavailable, state.broken);
  }
  return state.wait_for_room(state.waiting() > 0);
}

std::size_t Connection::outgoing_bytes() const { return state_->waiting(); }
int Connection::fd() const { return state_->socket.get(); }

bool Connection::flush_and_close(Deadline deadline) {
  State& state = *state_;
  bool alive = state.open() && state.broken.empty();
  while (alive && state.waiting() > 0 && !deadline.expired()) {
    pollfd wait{state.socket.get(), POLLOUT, 0};
    if (::poll(&wait, 1, deadline.poll_timeout_ms()) < 0 && errno != EINTR) break;
    alive = state.write_some();
  }
  const bool complete = alive && state.waiting() == 0;
  state.shut();
  return complete;
}

}  // namespace daemoneye::ipc
