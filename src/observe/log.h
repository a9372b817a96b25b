// Structured log lines on stderr: JSON, or text for people.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

namespace daemoneye::observe {

enum class Level : std::uint8_t { trace, debug, info, warn, error };

struct Field {
  std::string_view key;
  std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool> value;
};

// Once, before other threads. `program` is a field of every line. Level and format as in logging.level/.format.
void start_log(std::string_view program, std::string_view level, std::string_view format);
// `message` is constant text; what varies goes into fields (bounded to 4 KiB each, control characters escaped).
void log(Level level, std::string_view component, std::string_view message, std::initializer_list<Field> fields = {});
bool log_enabled(Level level);

}  // namespace daemoneye::observe
