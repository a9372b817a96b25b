#include "alert/sinks/connection.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "alert/sinks/resolve.h"
#include "alert/sinks/secrets.h"

namespace daemoneye::alert {
namespace {

// How often a wait looks at its stop token.
constexpr int stop_check_ms = 50;
// In TLS 1.3 a server refuses our certificate after the handshake is over for us: so long we wait for its first word.
constexpr auto tls_first_word = std::chrono::milliseconds(300);
// How a wait for an acknowledgement begins and how long its steps become. A peer on this machine or in the next rack
// needs less than the shortest sleep takes: for so long the processor is only offered to others.
constexpr auto before_sleep = std::chrono::microseconds(100);
constexpr auto first_look = std::chrono::microseconds(20);
constexpr auto longest_look = std::chrono::milliseconds(2);

Result<void> wait_for(int fd, short events, Deadline deadline, const std::stop_token& stop, const char* what) {
  for (;;) {
    if (stop.stop_requested()) return fail(Errc::cancelled, "stopped");
    if (deadline.expired()) return fail(Errc::timeout, std::string(what) + ": timed out");
    pollfd ready{fd, events, 0};
    const int count = ::poll(&ready, 1, std::min(stop_check_ms, std::max(deadline.poll_timeout_ms(), 1)));
    if (count > 0) return {};
    if (count < 0 && errno != EINTR) return fail_errno("poll", errno);
  }
}

Result<void> connect_to(int fd, const sockaddr* address, socklen_t size, Deadline deadline,
                        const std::stop_token& stop) {
  if (::connect(fd, address, size) == 0) return {};
  if (errno == EAGAIN) return fail(Errc::unavailable, "connect: its queue is full");  // a Unix socket's
  if (errno != EINPROGRESS && errno != EINTR) return fail_errno("connect", errno);
  DE_CHECK(wait_for(fd, POLLOUT, deadline, stop, "connect"));
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return fail_errno("connect", errno);
  if (error != 0) return fail_errno("connect", error);
  return {};
}

std::string address_text(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address->sa_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof text);
  } else if (address->sa_family == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text, sizeof text);
  }
  return text;
}

bool is_address(const std::string& host) {
  in6_addr ignored{};
  return ::inet_pton(AF_INET, host.c_str(), &ignored) == 1 || ::inet_pton(AF_INET6, host.c_str(), &ignored) == 1;
}

std::string tls_errors() {
  std::string text;
  for (unsigned long code = 0; (code = ERR_get_error()) != 0;) {
    const char* reason = ERR_reason_error_string(code);
    if (!text.empty()) text += ", ";
    text += reason != nullptr ? reason : "error " + std::to_string(code);
  }
  return text;
}

// The first datagram socket, then a stream, as syslog(3) does.
Result<UniqueFd> open_unix(const std::string& path, bool& datagram, Deadline deadline, const std::stop_token& stop) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(Errc::invalid_input, "the path is too long for a socket");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
    UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return fail_errno("socket", errno);
    errno = 0;
    auto connected = connect_to(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address, deadline, stop);
    if (!connected && errno == EPROTOTYPE && type == SOCK_DGRAM) continue;
    DE_CHECK(std::move(connected));
    datagram = type == SOCK_DGRAM;
    return fd;
  }
  return fail(Errc::unavailable, "connect: neither a datagram nor a stream socket");
}

Result<UniqueFd> open_inet(const Target& target, Deadline deadline, const std::stop_token& stop) {
  const bool udp = target.kind == Target::Kind::udp;
  const int type = udp ? SOCK_DGRAM : SOCK_STREAM;
  DE_TRY(const auto addresses, resolve(target.host, target.port, type, deadline, stop));
  std::string errors;
  for (const addrinfo* one = addresses.get(); one != nullptr; one = one->ai_next) {
    UniqueFd fd(::socket(one->ai_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
      errors += (errors.empty() ? "" : "; ") + fail_errno("socket", errno).error().message;
      continue;
    }
    if (auto connected = connect_to(fd.get(), one->ai_addr, one->ai_addrlen, deadline, stop); !connected) {
      if (connected.error().code == Errc::cancelled) return std::unexpected(std::move(connected).error());
      errors += (errors.empty() ? "" : "; ") + address_text(one->ai_addr) + ": " + connected.error().message;
      continue;
    }
    if (!udp) {
      const int on = 1;
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    return fd;
  }
  return fail(deadline.expired() ? Errc::timeout : Errc::unavailable, errors);
}

}  // namespace

void TlsContext::Free::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
void Connection::FreeSsl::operator()(SSL* ssl) const { SSL_free(ssl); }

Result<TlsContext> TlsContext::make(const TlsFiles& files) {
  TlsContext made;
  ERR_clear_error();
  made.context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* context = made.get();
  if (context == nullptr) return fail(Errc::internal, "TLS: " + tls_errors());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (files.ca.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) != 1) return fail(Errc::io, "the system's CAs: " + tls_errors());
  } else if (SSL_CTX_load_verify_file(context, files.ca.c_str()) != 1) {
    return fail(Errc::invalid_input, "CA file " + files.ca + ": " + tls_errors());
  }
  if (!files.certificate.empty()) {
    if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
      return fail(Errc::invalid_input, "client certificate " + files.certificate + ": " + tls_errors());
    }
    DE_CHECK(check_private(files.key));
    if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
      return fail(Errc::invalid_input, "client key " + files.key + ": " + tls_errors());
    }
  }
  return made;
}

std::string to_string(const Target& target) {
  if (target.kind == Target::Kind::unix_socket) return target.path;
  const char* kind = target.kind == Target::Kind::udp ? "udp" : target.kind == Target::Kind::tcp ? "tcp" : "tls";
  const bool v6 = target.host.contains(':');
  return std::string(kind) + "://" + (v6 ? '[' + target.host + ']' : target.host) + ':' + std::to_string(target.port);
}

Result<Connection> Connection::open(const Target& target, const TlsContext* tls, Deadline deadline,
                                    const std::stop_token& stop) {
  Connection made;
  if (target.kind == Target::Kind::unix_socket) {
    DE_TRY(made.fd_, open_unix(target.path, made.datagram_, deadline, stop));
    return made;
  }
  DE_TRY(made.fd_, open_inet(target, deadline, stop));
  made.inet_ = true;
  made.datagram_ = target.kind == Target::Kind::udp;
  if (target.kind == Target::Kind::tls) DE_CHECK(made.start_tls(target, *tls, deadline, stop));
  return made;
}

Result<void> Connection::start_tls(const Target& target, const TlsContext& tls, Deadline deadline,
                                   const std::stop_token& stop) {
  ERR_clear_error();
  ssl_.reset(SSL_new(tls.get()));
  if (!ssl_) return fail(Errc::internal, "TLS: " + tls_errors());
  const std::string& name = target.server_name.empty() ? target.host : target.server_name;
  if (is_address(name)) {
    // Without it the chain alone would be verified, and any name pass.
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), name.c_str()) != 1) {
      return fail(Errc::invalid_input, "TLS: " + name + " is no address of a server");
    }
  } else {
    SSL_set_hostflags(ssl_.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set1_host(ssl_.get(), name.c_str()) != 1 || SSL_set_tlsext_host_name(ssl_.get(), name.c_str()) != 1) {
      return fail(Errc::invalid_input, "TLS: " + name + " is no server name");
    }
  }
  SSL_set_fd(ssl_.get(), fd_.get());
  for (;;) {
    ERR_clear_error();
    const int done = SSL_connect(ssl_.get());
    if (done == 1) break;
    const int error = SSL_get_error(ssl_.get(), done);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
      DE_CHECK(wait_for(fd_.get(), error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline, stop, "TLS handshake"));
      continue;
    }
    const long verified = SSL_get_verify_result(ssl_.get());
    if (verified != X509_V_OK) {
      return fail(Errc::unavailable,
                  "TLS: the certificate of " + name + " is not accepted: " + X509_verify_cert_error_string(verified));
    }
    const auto text = tls_errors();
    return fail(Errc::unavailable, "TLS handshake: " + (text.empty() ? "the peer closed the connection" : text));
  }
  if (SSL_version(ssl_.get()) < TLS1_3_VERSION) return {};
  // The server's first word: session tickets when it took us, an alert when it did not. Some say nothing.
  const auto until = Deadline::after(tls_first_word);
  auto heard = wait_for(fd_.get(), POLLIN, until, stop, "TLS");
  if (!heard && heard.error().code == Errc::cancelled) return heard;
  if (auto closed = peer_closed(); !closed.empty()) {
    return fail(Errc::unavailable, "TLS: the server ended the connection after the handshake (" + closed + ")");
  }
  return {};
}

Result<void> Connection::write(std::string_view bytes, Deadline deadline, const std::stop_token& stop) {
  if (datagram_) {
    for (;;) {
      if (::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) >= 0) return {};
      if (errno == EINTR) continue;
      if (errno == EMSGSIZE) return fail(Errc::limit_exceeded, "the message is too long for the socket");
      if (errno != EAGAIN && errno != ENOBUFS) return fail_errno("send", errno);
      DE_CHECK(wait_for(fd_.get(), POLLOUT, deadline, stop, "send"));
    }
  }
  while (!bytes.empty()) {
    if (stop.stop_requested()) return fail(Errc::cancelled, "stopped");
    std::size_t written = 0;
    short wanted = POLLOUT;
    if (ssl_) {
      ERR_clear_error();
      const int done = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &written);
      if (done != 1) {
        const int error = SSL_get_error(ssl_.get(), done);
        if (error == SSL_ERROR_WANT_READ) {
          wanted = POLLIN;
        } else if (error != SSL_ERROR_WANT_WRITE) {
          const auto text = tls_errors();
          return fail(Errc::unavailable, "TLS write: " + (text.empty() ? "the peer closed the connection" : text));
        }
      }
    } else {
      const auto count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno != EAGAIN) return fail_errno("write", errno);
      if (count > 0) written = static_cast<std::size_t>(count);
    }
    bytes.remove_prefix(written);
    if (written == 0) DE_CHECK(wait_for(fd_.get(), wanted, deadline, stop, "write"));
  }
  return {};
}

Result<void> Connection::wait_acknowledged(Deadline deadline, const std::stop_token& stop) {
  if (!inet_ || datagram_) return {};
  const auto sleep_from = base::SteadyClock::now() + before_sleep;
  std::chrono::nanoseconds pause = first_look;
  for (;;) {
    int waiting = 0;
    if (::ioctl(fd_.get(), SIOCOUTQ, &waiting) != 0) return fail_errno("SIOCOUTQ", errno);
    if (waiting == 0) return {};
    if (base::SteadyClock::now() < sleep_from) {
      std::this_thread::yield();
      continue;
    }
    if (auto closed = peer_closed(); !closed.empty()) return fail(Errc::unavailable, closed);
    if (stop.stop_requested()) return fail(Errc::cancelled, "stopped");
    if (deadline.expired()) return fail(Errc::timeout, "the peer does not acknowledge: timed out");
    std::this_thread::sleep_for(pause);
    pause = std::min<std::chrono::nanoseconds>(pause * 2, longest_look);
  }
}

std::string Connection::peer_closed() {
  char ignored[512];
  if (datagram_) {
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error != 0) return std::strerror(error);
    return {};
  }
  // Nothing is expected from it; what it says is thrown away, boundedly.
  for (int i = 0; i < 16; ++i) {
    if (ssl_) {
      ERR_clear_error();
      std::size_t size = 0;
      const int done = SSL_read_ex(ssl_.get(), ignored, sizeof ignored, &size);
      if (done == 1) continue;
      const int error = SSL_get_error(ssl_.get(), done);
      if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return {};
      const auto text = tls_errors();
      return text.empty() ? "the peer closed the connection" : text;
    }
    const auto size = ::recv(fd_.get(), ignored, sizeof ignored, MSG_DONTWAIT);
    if (size > 0) continue;
    if (size == 0) return "the peer closed the connection";
    if (errno == EINTR) continue;
    return errno == EAGAIN ? std::string() : std::string(std::strerror(errno));
  }
  return {};
}

}  // namespace daemoneye::alert
