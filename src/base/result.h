// Result<T>: the value, or an Error that says what failed and where. Crosses room borders; exceptions do not.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace daemoneye::base {

enum class Errc {
  invalid_input,  // what the caller gave is wrong; trying again unchanged cannot help
  not_found,
  permission_denied,
  unavailable,  // a peer, file or service is not there now; trying again later may help
  corrupt,      // stored or received data fails its own checks
  timeout,
  limit_exceeded,  // a named bound was reached
  cancelled,
  io,        // the operating system refused; the message holds errno's text
  internal,  // a broken assumption of ours
};

std::string_view to_string(Errc code);

struct Error {
  Errc code = Errc::internal;
  std::string message;  // one line for people; names the place
};

template <class T>
using Result = std::expected<T, Error>;

[[nodiscard]] inline std::unexpected<Error> fail(Errc code, std::string message) {
  return std::unexpected<Error>(Error{code, std::move(message)});
}

// "what: strerror(error)"; EACCES/EPERM, ENOENT and ETIMEDOUT map to their own codes, the rest to io.
[[nodiscard]] std::unexpected<Error> fail_errno(std::string_view what, int error);

}  // namespace daemoneye::base

namespace daemoneye {
using base::Errc;
using base::Error;
using base::fail;
using base::fail_errno;
using base::Result;
}  // namespace daemoneye

#define DE_CONCAT_INNER(a, b) a##b
#define DE_CONCAT(a, b) DE_CONCAT_INNER(a, b)

// Returns the error of a Result<...> expression to the caller.
#define DE_CHECK(expression)                                                           \
  do {                                                                                 \
    if (auto de_checked = (expression); !de_checked)                                   \
      return std::unexpected<::daemoneye::base::Error>(std::move(de_checked).error()); \
  } while (false)

// `DE_TRY(auto value, expression);` binds the value or returns the error to the caller.
#define DE_TRY(declaration, expression) DE_TRY_NAMED(DE_CONCAT(de_result_, __LINE__), declaration, expression)
#define DE_TRY_NAMED(name, declaration, expression)                                     \
  auto name = (expression);                                                             \
  if (!name) return std::unexpected<::daemoneye::base::Error>(std::move(name).error()); \
  declaration = *std::move(name)
