#include "base/time.h"

#include <climits>
#include <ctime>

#include "base/text.h"

namespace daemoneye::base {
namespace {

constexpr std::int64_t ns_per_second = 1'000'000'000;

// Days from 1970-01-01 of a proleptic Gregorian date (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
std::int64_t days_from_civil(std::int64_t year, unsigned month, unsigned day) {
  year -= month <= 2;
  const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  const auto year_of_era = static_cast<unsigned>(year - era * 400);
  const unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  const unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + static_cast<std::int64_t>(day_of_era) - 719468;
}

unsigned days_in_month(std::int64_t year, unsigned month) {
  constexpr unsigned lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : lengths[month - 1];
}

// Takes exactly `digits` decimal digits off the front.
bool take_number(std::string_view& text, std::size_t digits, unsigned& value) {
  if (text.size() < digits) return false;
  const auto parsed = parse_integer<unsigned>(text.substr(0, digits));
  if (!parsed) return false;
  value = *parsed;
  text.remove_prefix(digits);
  return true;
}

bool take_char(std::string_view& text, char wanted) {
  if (text.empty() || text.front() != wanted) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

Timestamp wall_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return Timestamp{static_cast<std::int64_t>(now.tv_sec) * ns_per_second + now.tv_nsec};
}

std::string to_iso(Timestamp time) {
  std::int64_t seconds = time.ns / ns_per_second;
  std::int64_t fraction = time.ns % ns_per_second;
  if (fraction < 0) {
    fraction += ns_per_second;
    --seconds;
  }
  const auto clock_seconds = static_cast<std::time_t>(seconds);
  std::tm parts{};
  ::gmtime_r(&clock_seconds, &parts);
  char buffer[64];
  const std::size_t length = std::strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%S", &parts);
  std::string text(buffer, length);
  std::string digits = std::to_string(fraction);
  text += '.';
  text.append(9 - digits.size(), '0');
  text += digits;
  text += 'Z';
  return text;
}

Result<Timestamp> parse_iso(std::string_view text) {
  const auto whole = text;
  const auto bad = [&] {
    return fail(Errc::invalid_input,
                "not an ISO 8601 time: '" + printable(whole.substr(0, 64)) + "' (wanted like 2026-11-21T20:48:23Z)");
  };
  unsigned year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (!take_number(text, 4, year) || !take_char(text, '-') || !take_number(text, 2, month) || !take_char(text, '-') ||
      !take_number(text, 2, day)) {
    return bad();
  }
  // Years outside do not fit 64-bit nanoseconds; of these two only a part does.
  if (year < 1677 || year > 2262 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
    return bad();
  std::int64_t fraction = 0;
  std::int64_t offset = 0;
  if (!text.empty()) {
    if (!take_char(text, 'T') && !take_char(text, ' ')) return bad();
    if (!take_number(text, 2, hour) || !take_char(text, ':') || !take_number(text, 2, minute)) return bad();
    const bool has_seconds = take_char(text, ':');
    if (has_seconds && !take_number(text, 2, second)) return bad();
    if (hour > 23 || minute > 59 || second > 59) return bad();
    if (has_seconds && take_char(text, '.')) {
      std::int64_t scale = ns_per_second / 10;
      std::size_t digits = 0;
      while (!text.empty() && text.front() >= '0' && text.front() <= '9' && digits < 9) {
        fraction += (text.front() - '0') * scale;
        scale /= 10;
        ++digits;
        text.remove_prefix(1);
      }
      if (digits == 0) return bad();
    }
    if (!text.empty() && (text.front() == '+' || text.front() == '-')) {
      const int sign = text.front() == '-' ? -1 : 1;
      text.remove_prefix(1);
      unsigned offset_hours = 0, offset_minutes = 0;
      if (!take_number(text, 2, offset_hours)) return bad();
      take_char(text, ':');
      if (!take_number(text, 2, offset_minutes) || offset_hours > 23 || offset_minutes > 59) return bad();
      offset = sign * static_cast<std::int64_t>(offset_hours * 3600 + offset_minutes * 60);
    } else {
      take_char(text, 'Z');
    }
  }
  if (!text.empty()) return bad();
  std::int64_t seconds = days_from_civil(year, month, day) * 86400 +
                         static_cast<std::int64_t>(hour * 3600 + minute * 60 + second) - offset;
  if (seconds < 0) {
    // The lowest times fit only as a sum whose parts have one sign.
    ++seconds;
    fraction -= ns_per_second;
  }
  Timestamp time;
  if (__builtin_mul_overflow(seconds, ns_per_second, &time.ns) || __builtin_add_overflow(time.ns, fraction, &time.ns)) {
    return bad();
  }
  return time;
}

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  const auto bad = [&] {
    return fail(Errc::invalid_input,
                "not a duration: '" + printable(text.substr(0, 64)) + "' (wanted like 250ms, 30s, 5m, 2h, 7d)");
  };
  const auto unit_at = text.find_first_not_of("0123456789");
  if (unit_at == 0 || unit_at == std::string_view::npos) return bad();
  const auto count = parse_integer<std::int64_t>(text.substr(0, unit_at));
  if (!count) return bad();
  const auto unit = text.substr(unit_at);
  std::int64_t scale = 0;
  if (unit == "ns")
    scale = 1;
  else if (unit == "us")
    scale = 1'000;
  else if (unit == "ms")
    scale = 1'000'000;
  else if (unit == "s")
    scale = ns_per_second;
  else if (unit == "m")
    scale = 60 * ns_per_second;
  else if (unit == "h")
    scale = 3600 * ns_per_second;
  else if (unit == "d")
    scale = 86400 * ns_per_second;
  else
    return bad();
  // A century: sums with a clock's time stay within 64 bits.
  constexpr std::int64_t longest = std::int64_t{36'500} * 86'400 * ns_per_second;
  std::int64_t result = 0;
  if (__builtin_mul_overflow(*count, scale, &result) || result > longest) return bad();
  return std::chrono::nanoseconds(result);
}

std::chrono::nanoseconds Deadline::remaining() const {
  if (!point_) return std::chrono::nanoseconds::max();
  const auto now = SteadyClock::now();
  return now >= *point_ ? std::chrono::nanoseconds(0) : *point_ - now;
}

int Deadline::poll_timeout_ms() const {
  if (!point_) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(remaining()).count();
  return left > INT_MAX ? INT_MAX : static_cast<int>(left);
}

SteadyClock::time_point Deadline::point() const {
  return point_ ? *point_ : SteadyClock::now() + std::chrono::hours(24 * 365);
}

}  // namespace daemoneye::base
