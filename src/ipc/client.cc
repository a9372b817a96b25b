#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "ipc/codec.h"
#include "ipc/connection.h"
#include "ipc/frame.h"

namespace daemoneye::ipc {

struct Client::State {
  UniqueFd socket;
  FrameReader reader;
  std::uint64_t next_sequence = 1;
  std::uint64_t next_id = 1;
  std::string lost;  // why no further call is possible

  std::unexpected<Error> lose(std::string why) {
    lost = std::move(why);
    socket.reset();
    return fail(Errc::unavailable, lost);
  }

  // False: the deadline passed.
  [[nodiscard]] bool wait(short events, Deadline deadline) const {
    for (;;) {
      pollfd poll{socket.get(), events, 0};
      const int ready = ::poll(&poll, 1, deadline.poll_timeout_ms());
      if (ready > 0) return true;
      if (ready == 0 && deadline.expired()) return false;
      if (ready < 0 && errno != EINTR) return false;
    }
  }

  Result<void> send(const Message& message, Deadline deadline) {
    DE_CHECK(check_message(message));
    std::string bytes;
    append_frame(bytes, next_sequence++, encode_message(message));
    std::size_t written = 0;
    while (written < bytes.size()) {
      const auto sent =
          ::send(socket.get(), bytes.data() + written, bytes.size() - written, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        written += static_cast<std::size_t>(sent);
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        if (wait(POLLOUT, deadline)) continue;
        // Half a frame is out: what follows would not be understood.
        static_cast<void>(lose("the server stopped reading"));
        return fail(Errc::timeout, "the server did not take the request in time");
      } else if (errno != EINTR) {
        return lose("the server closed the connection: " + fail_errno("send", errno).error().message);
      }
    }
    return {};
  }

  Result<Reply> reply_to(std::uint64_t id, Deadline deadline) {
    for (;;) {
      std::string_view payload;
      auto next = reader.next(payload);
      if (!next) return lose(next.error().message);
      if (*next) {
        auto message = decode_message(payload);
        if (!message) return lose(message.error().message);
        auto* reply = std::get_if<Reply>(&*message);
        if (reply == nullptr) return lose("the server sent something that is no reply");
        if (reply->id == id) return std::move(*reply);
        if (reply->id > id) return lose("the server answered a request that was not made");
        continue;  // of an earlier call that gave up
      }
      if (deadline.expired()) return fail(Errc::timeout, "no reply in time");
      char chunk[16 * 1024];
      const auto got = ::recv(socket.get(), chunk, sizeof chunk, MSG_DONTWAIT);
      if (got > 0) {
        reader.feed(std::string_view(chunk, static_cast<std::size_t>(got)));
      } else if (got == 0) {
        return lose(reader.mid_frame() ? "the server died in the middle of a reply"
                                       : "the server closed the connection");
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        if (!wait(POLLIN, deadline)) return fail(Errc::timeout, "no reply in time");
      } else if (errno != EINTR) {
        return lose(fail_errno("receive", errno).error().message);
      }
    }
  }
};

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::connect(const std::string& path, Deadline deadline) {
  auto state = std::make_unique<State>();
  DE_TRY(state->socket, connect_to(path, deadline));
  return std::unique_ptr<Client>(new Client(std::move(state)));
}

Result<std::string> Client::call(RequestKind kind, const std::string& payload_json, Deadline deadline) {
  State& state = *state_;
  if (!state.socket) return fail(Errc::unavailable, state.lost);
  if (deadline.expired()) return fail(Errc::timeout, std::string(to_string(kind)) + ": no time left");
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline.remaining()).count();
  const auto timeout_ms = static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 1, max_request_timeout_ms));
  const std::uint64_t id = state.next_id++;
  DE_CHECK(state.send(Request{id, kind, payload_json, timeout_ms}, deadline));
  auto reply = state.reply_to(id, deadline);
  if (!reply) {
    if (reply.error().code == Errc::timeout && state.socket) {
      // The time is up already: it is sent if the socket takes it now, and otherwise the connection is lost.
      static_cast<void>(state.send(Cancel{id}, Deadline::after(std::chrono::nanoseconds(0))));
    }
    return fail(reply.error().code, std::string(to_string(kind)) + ": " + reply.error().message);
  }
  if (reply->error) return fail(*reply->error, std::move(reply->message));
  return std::move(reply->payload);
}

}  // namespace daemoneye::ipc
