// One peer on a stream socket: frames in, frames out. Passive; belongs to the event loop's thread.
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
    // Once, when the peer is gone or a frame was bad; `why` is empty for an orderly end. The connection may be
    // destroyed from inside this call.
    std::function<void(std::string why)> on_close;
    std::function<void()> on_drained;  // the outgoing buffer became empty
  };
  // Takes the socket, makes it non-blocking.
  static Result<std::unique_ptr<Connection>> adopt(EventLoop& loop, UniqueFd socket, Handlers handlers);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Queues the message and writes what the socket takes. limit_exceeded when more than max_outgoing_bytes wait.
  Result<void> send(const Message& message);
  [[nodiscard]] std::size_t outgoing_bytes() const;
  [[nodiscard]] int fd() const;
  // Writes what is queued until `deadline`, then closes. Used at shutdown only; blocks.
  void flush_and_close(Deadline deadline);

  static constexpr std::size_t max_outgoing_bytes = 32 * 1024 * 1024;

 private:
  struct State;
  explicit Connection(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A listening Unix socket. The folder must exist; a stale socket file of a dead server is replaced, a live one is
// an error. Mode 0660, group `group` when given.
class Listener {
 public:
  using OnAccept = std::function<void(UniqueFd socket, PeerCredentials peer)>;
  static Result<std::unique_ptr<Listener>> open(EventLoop& loop, const std::string& path, const std::string& group,
                                                OnAccept on_accept);
  ~Listener();  // removes the socket file
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

 private:
  struct State;
  explicit Listener(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

Result<UniqueFd> connect_to(const std::string& path, Deadline deadline);

// A blocking request-reply client for the command line.
class Client {
 public:
  static Result<std::unique_ptr<Client>> connect(const std::string& path, Deadline deadline);
  ~Client();
  // The reply's payload, or its error.
  Result<std::string> call(RequestKind kind, const std::string& payload_json, Deadline deadline);

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace daemoneye::ipc
