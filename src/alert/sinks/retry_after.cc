#include "alert/sinks/retry_after.h"

#include <time.h>

#include <algorithm>
#include <string>

#include "base/text.h"

namespace daemoneye::alert {
namespace {

constexpr std::size_t max_bytes = 64;

std::optional<std::int64_t> parse_date(const std::string& text) {
  // IMF-fixdate, RFC 850, asctime. The programs stay in the C locale, in which the names are English.
  for (const char* form : {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    tm parts{};
    const char* end = ::strptime(text.c_str(), form, &parts);
    if (end == nullptr || *end != '\0') continue;
    return ::timegm(&parts);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text, Timestamp now) {
  using std::chrono::milliseconds;
  constexpr milliseconds longest = longest_retry_after;
  text = base::trim(text);
  if (text.empty() || text.size() > max_bytes) return std::nullopt;
  if (text.find_first_not_of("0123456789") == std::string_view::npos) {
    const auto seconds = base::parse_integer<std::uint64_t>(text).value_or(~std::uint64_t{0});
    const std::uint64_t bound = std::chrono::seconds(longest_retry_after).count();
    return milliseconds(std::chrono::seconds(std::min(seconds, bound)));
  }
  const auto date = parse_date(std::string(text));
  if (!date) return std::nullopt;
  const std::int64_t now_ms = now.ns / 1'000'000;
  if (*date <= now_ms / 1000) return milliseconds(0);
  if (*date - now_ms / 1000 > std::chrono::seconds(longest_retry_after).count()) return longest;
  return std::min(longest, milliseconds(*date * 1000 - now_ms));
}

}  // namespace daemoneye::alert
