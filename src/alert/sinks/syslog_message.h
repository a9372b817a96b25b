// RFC 5424: what one alert is on the wire, without a frame.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/alert.h"

namespace daemoneye::alert {

struct SyslogStyle {
  unsigned facility = 3;
  std::string app_name = "daemoneye";
  std::string process_id = {};
  std::uint32_t enterprise_id = 32473;
  bool bom = true;
};

// "kern" … "local7", in the order of their numbers.
const std::vector<std::string>& syslog_facilities();
std::optional<unsigned> syslog_facility(std::string_view name);

// `text` becomes MSG, on one line. With `max_bytes` the message is at most that long, if that is at least
// `min_syslog_bytes`: MSG is cut at a character and ends in "…", and the structured data say how long it was
// (cutFrom, in bytes).
inline constexpr std::size_t min_syslog_bytes = 2048;
std::string syslog_message(const store::Alert& alert, std::string_view text, const SyslogStyle& style,
                           std::optional<std::size_t> max_bytes = {});

}  // namespace daemoneye::alert
