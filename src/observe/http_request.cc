#include "observe/http_request.h"

#include <algorithm>

namespace daemoneye::observe {
namespace {

bool is_token(std::string_view text) {
  const auto letter = [](char c) { return c >= 'A' && c <= 'Z'; };
  return !text.empty() && std::ranges::all_of(text, letter);
}

bool is_target(std::string_view text) {
  const auto visible = [](char c) { return c > ' ' && c < '\x7f'; };
  return !text.empty() && std::ranges::all_of(text, visible);
}

// "/path?query", or with "http://host" before it, as proxies are asked.
std::optional<std::string_view> path_of(std::string_view target) {
  constexpr std::string_view scheme = "http://";
  if (target.starts_with(scheme)) {
    const auto slash = target.find('/', scheme.size());
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  if (!target.starts_with('/')) return std::nullopt;
  return target.substr(0, target.find('?'));
}

}  // namespace

Result<std::optional<HttpRequest>> parse_http_request(std::string_view bytes) {
  const auto head = bytes.substr(0, max_http_head_bytes);
  const auto line_end = head.find('\n');
  if (line_end != std::string_view::npos) {
    auto line = head.substr(0, line_end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto first = line.find(' '), last = line.rfind(' ');
    if (first == std::string_view::npos || first == last) return fail(Errc::invalid_input, "no HTTP/1 request line");
    const auto method = line.substr(0, first), target = line.substr(first + 1, last - first - 1);
    const auto version = line.substr(last + 1);
    const auto path = path_of(target);
    if (!is_token(method) || !is_target(target) || !path || (version != "HTTP/1.1" && version != "HTTP/1.0")) {
      return fail(Errc::invalid_input, "no HTTP/1 request line");
    }
    if (head.find("\r\n\r\n") != std::string_view::npos || head.find("\n\n") != std::string_view::npos) {
      return HttpRequest{std::string(method), std::string(*path)};
    }
  }
  if (bytes.size() >= max_http_head_bytes) {
    return fail(Errc::limit_exceeded, "a request head of more than " + std::to_string(max_http_head_bytes) + " bytes");
  }
  return std::nullopt;
}

}  // namespace daemoneye::observe
