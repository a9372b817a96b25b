// The head of an HTTP/1 request, as far as a server of a few pages without parameters needs it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace daemoneye::observe {

inline constexpr std::size_t max_http_head_bytes = 8 * 1024;

struct HttpRequest {
  std::string method, path;  // the path without what follows a '?'
};

// Nothing while the head is not whole. invalid_input: this is no HTTP/1 request; limit_exceeded: its head is too long.
Result<std::optional<HttpRequest>> parse_http_request(std::string_view bytes);

}  // namespace daemoneye::observe
