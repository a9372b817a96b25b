// One peer on a stream socket: frames in, frames out. Passive; belongs to the event loop's thread.
// Every handler may destroy the object that calls it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "ipc/messages.h"

namespace daemoneye::ipc {

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
// SO_PEERCRED. Meaningless on an inherited socket pair (it names who made the pair).
Result<PeerCredentials> peer_credentials(int fd);
// True when the peer's uid has `group` as primary or supplementary group (SO_PEERGROUPS).
bool peer_in_group(int fd, const PeerCredentials& peer, const std::string& group);

class Connection {
 public:
  struct Handlers {
    std::function<void(Message)> on_message;
    // Once, when the peer is gone or sent a bad frame or message; `why` is empty for an orderly end. Not called for
    // a connection that its owner destroys or closes.
    std::function<void(std::string why)> on_close;
    std::function<void()> on_drained;  // the outgoing buffer became empty
  };
  // Takes the socket, makes it non-blocking.
  static Result<std::unique_ptr<Connection>> adopt(EventLoop& loop, UniqueFd socket, Handlers handlers);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Hands the connection to another owner, from the next message on; also from inside one of its own handlers.
  void set_handlers(Handlers handlers);

  // Queues the message and writes what the socket takes. Never calls a handler. Nothing is queued on an error:
  // limit_exceeded when more than max_outgoing_bytes would wait, invalid_input for a field out of its bounds,
  // unavailable when the peer is gone (on_close follows from the loop).
  Result<void> send(const Message& message);
  [[nodiscard]] std::size_t outgoing_bytes() const;
  [[nodiscard]] int fd() const;
  // Writes what is queued until `deadline`, then closes. Used at shutdown only; blocks. False: some was not written.
  bool flush_and_close(Deadline deadline);

  static constexpr std::size_t max_outgoing_bytes = 32 * 1024 * 1024;

 private:
  struct State;
  explicit Connection(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared with a running handler, which may destroy this object
};

// A listening Unix socket. The folder must exist; a stale socket file of a dead server is replaced; a live one
// (unavailable) or anything that is no socket (invalid_input) is left alone. Mode 0660, group `group` when given.
class Listener {
 public:
  using OnAccept = std::function<void(UniqueFd socket, PeerCredentials peer)>;
  static Result<std::unique_ptr<Listener>> open(EventLoop& loop, const std::string& path, const std::string& group,
                                                OnAccept on_accept);
  ~Listener();  // removes the socket file
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  // Peers turned away because the process had no descriptor left for them.
  [[nodiscard]] std::uint64_t refused() const;

  static constexpr int backlog = 64;
  static constexpr std::size_t max_path_bytes = 107;  // sun_path less its NUL

 private:
  struct State;
  explicit Listener(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;  // shared with a running handler, which may destroy this object
};

// A connected, non-blocking socket. unavailable when nobody listens there.
Result<UniqueFd> connect_to(const std::string& path, Deadline deadline);

// A blocking request-reply client for the command line. One thread at a time.
class Client {
 public:
  static Result<std::unique_ptr<Client>> connect(const std::string& path, Deadline deadline);
  ~Client();
  // The reply's payload, or its error. timeout: the server was told to cancel; unavailable: the server is gone, and
  // every later call says so too. A reply that comes after its call's deadline is skipped by the next call.
  Result<std::string> call(RequestKind kind, const std::string& payload_json, Deadline deadline);

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace daemoneye::ipc
