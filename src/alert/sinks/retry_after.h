// The Retry-After header of HTTP (RFC 9110, 10.2.3).
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "base/time.h"

namespace daemoneye::alert {

inline constexpr std::chrono::hours longest_retry_after{24};

// Seconds, or a date in one of HTTP's three forms (a past one is zero); at most a day. Anything else is nothing.
std::optional<std::chrono::milliseconds> parse_retry_after(std::string_view text, Timestamp now);

}  // namespace daemoneye::alert
