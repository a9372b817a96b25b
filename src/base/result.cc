#include "base/result.h"

#include <cerrno>
#include <cstring>

namespace daemoneye::base {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::invalid_input: return "invalid input";
    case Errc::not_found: return "not found";
    case Errc::permission_denied: return "permission denied";
    case Errc::unavailable: return "unavailable";
    case Errc::corrupt: return "corrupt";
    case Errc::timeout: return "timeout";
    case Errc::limit_exceeded: return "limit exceeded";
    case Errc::cancelled: return "cancelled";
    case Errc::io: return "input/output error";
    case Errc::internal: return "internal error";
  }
  return "unknown error";
}

std::unexpected<Error> fail_errno(std::string_view what, int error) {
  Errc code = Errc::io;
  if (error == EACCES || error == EPERM) code = Errc::permission_denied;
  if (error == ENOENT || error == ESRCH) code = Errc::not_found;
  if (error == ETIMEDOUT) code = Errc::timeout;
  char buffer[128];
  // GNU strerror_r: thread-safe, may return a static string instead of the buffer.
  const char* text = ::strerror_r(error, buffer, sizeof buffer);
  return fail(code, std::string(what) + ": " + text);
}

}  // namespace daemoneye::base
