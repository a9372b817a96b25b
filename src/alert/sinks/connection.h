// One outgoing connection: a Unix socket, UDP, TCP or TLS. Every call ends with its deadline and soon after `stop`.
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "base/unique_fd.h"

namespace daemoneye::alert {

struct TlsFiles {
  std::string ca;                // PEM; empty: the system's
  std::string certificate, key;  // PEM; both or none
};

// Verifies peers: chain and name. TLS 1.2 at least.
class TlsContext {
 public:
  static Result<TlsContext> make(const TlsFiles& files);
  [[nodiscard]] SSL_CTX* get() const { return context_.get(); }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const;
  };
  std::unique_ptr<SSL_CTX, Free> context_;
};

struct Target {
  enum class Kind : std::uint8_t { unix_socket, udp, tcp, tls } kind = Kind::unix_socket;
  std::string path;  // unix_socket
  std::string host;  // name or address
  std::uint16_t port = 0;
  std::string server_name;  // that the certificate must have; empty: `host`
};
std::string to_string(const Target& target);

class Connection {
 public:
  // `tls` is needed for Kind::tls and outlives the call. A Unix socket may be one of datagrams or a stream.
  static Result<Connection> open(const Target& target, const TlsContext* tls, Deadline deadline,
                                 const std::stop_token& stop);

  // All of it: one datagram, or bytes of the stream. After an error the connection is of no more use. A datagram that
  // is too long for the socket is limit_exceeded, and the connection stays usable.
  Result<void> write(std::string_view bytes, Deadline deadline, const std::stop_token& stop);
  // Waits until the peer's system has everything that was written; of UDP and Unix sockets nothing can be known.
  Result<void> wait_acknowledged(Deadline deadline, const std::stop_token& stop);
  // Why the peer takes nothing any more, as far as it can be known without waiting; empty while it does.
  std::string peer_closed();
  [[nodiscard]] bool is_datagram() const { return datagram_; }
  [[nodiscard]] bool is_tls() const { return ssl_ != nullptr; }

 private:
  struct FreeSsl {
    void operator()(SSL* ssl) const;
  };
  Result<void> start_tls(const Target& target, const TlsContext& tls, Deadline deadline, const std::stop_token& stop);

  UniqueFd fd_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  bool datagram_ = false, inet_ = false;
};

}  // namespace daemoneye::alert
