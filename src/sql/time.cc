#include "sql/time.h"

#include "base/text.h"

namespace daemoneye::sql {

Result<Timestamp> parse_time(std::string_view text) {
  constexpr std::size_t min_digits = 16;
  if (text.size() >= min_digits) {
    if (const auto ns = base::parse_integer<std::int64_t>(text)) return Timestamp{*ns};
  }
  if (auto time = base::parse_iso(text)) return time;
  return fail(Errc::invalid_input,
              "not a time: '" + base::printable(text.substr(0, 64)) +
                  "'; expected like '2026-11-21 20:48:23', '2026-11-21T20:48:23.5Z', '2026-11-21', "
                  "datetime('now','-5 minutes') or ago('5m')");
}

std::string to_sqlite_time(Timestamp time) {
  std::string iso = base::to_iso(time);  // 2026-11-21T20:48:23.123456789Z
  iso.resize(23);
  iso[10] = ' ';
  return iso;
}

}  // namespace daemoneye::sql
