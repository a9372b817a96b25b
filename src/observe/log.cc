#include "observe/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <charconv>
#include <cmath>
#include <memory>
#include <string>

#include "base/text.h"
#include "base/time.h"
#include "observe/log_level.h"

namespace daemoneye::observe {
namespace {

constexpr std::size_t max_field_bytes = 4096;
constexpr std::size_t max_fields = 64;

struct Log {
  std::string program = "daemoneye";
  std::atomic<Level> level = Level::info;
  std::atomic<bool> json = true;
  std::shared_ptr<spdlog::logger> out;  // shared: spdlog's own interface

  Log() {
    out = std::make_shared<spdlog::logger>("daemoneye", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    out->set_pattern("%v");
    out->set_level(spdlog::level::trace);  // the level is checked here, before any text is made
    out->flush_on(spdlog::level::trace);
  }
};

// Never destroyed: whoever logs last is still served.
Log& the_log() {
  static auto* const instance = new Log;
  return *instance;
}

std::string_view to_string(Level level) {
  switch (level) {
    case Level::trace: return "trace";
    case Level::debug: return "debug";
    case Level::info: return "info";
    case Level::warn: return "warn";
    case Level::error: return "error";
  }
  return "error";
}

// C1 control characters are valid in JSON, but some terminals obey them.
std::string quoted(std::string_view text) {
  const std::string json = base::json_quote(text);
  std::string out;
  out.reserve(json.size());
  for (std::size_t i = 0; i < json.size(); ++i) {
    const auto next = i + 1 < json.size() ? static_cast<unsigned char>(json[i + 1]) : 0U;
    if (static_cast<unsigned char>(json[i]) == 0xc2 && next >= 0x80 && next < 0xa0) {
      constexpr char digits[] = "0123456789abcdef";
      out += "\\u00";
      out += digits[next >> 4];
      out += digits[next & 15];
      ++i;
    } else {
      out += json[i];
    }
  }
  return out;
}

std::string bounded(std::string_view text) {
  if (text.size() <= max_field_bytes) return std::string(text);
  std::size_t end = max_field_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return std::string(text.substr(0, end)) + "… (" + std::to_string(text.size()) + " bytes)";
}

template <class Number>
std::string number(Number value) {
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end};
}

std::string json_value(const Field& field) {
  if (const auto* text = std::get_if<std::string_view>(&field.value)) return quoted(bounded(*text));
  if (const auto* signed_number = std::get_if<std::int64_t>(&field.value)) return number(*signed_number);
  if (const auto* unsigned_number = std::get_if<std::uint64_t>(&field.value)) return number(*unsigned_number);
  if (const auto* real = std::get_if<double>(&field.value)) return std::isfinite(*real) ? number(*real) : "null";
  return std::get<bool>(field.value) ? "true" : "false";
}

std::string text_value(const Field& field) {
  const auto* text = std::get_if<std::string_view>(&field.value);
  if (text == nullptr) return json_value(field);
  const std::string shown = base::printable(bounded(*text));
  const bool plain = !shown.empty() && shown.find_first_of(" =\"\\") == std::string::npos;
  if (plain) return shown;
  std::string out = "\"";
  for (const char c : shown) {
    if (c == '"') out += '\\';
    out += c;
  }
  return out + '"';
}

using Fields = std::initializer_list<Field>;

std::string json_line(const Log& log, Level level, std::string_view component, std::string_view message,
                      Fields fields) {
  std::string line = "{\"time\":\"" + base::to_iso(base::wall_now()) + "\",\"level\":\"";
  line += to_string(level);
  line += "\",\"program\":" + quoted(log.program) + ",\"component\":" + quoted(component) +
          ",\"message\":" + quoted(bounded(message));
  if (fields.size() > 0) {
    line += ",\"fields\":{";
    std::size_t count = 0;
    for (const auto& field : fields) {
      if (count == max_fields) break;
      if (count++ > 0) line += ',';
      line += quoted(bounded(field.key)) + ':' + json_value(field);
    }
    line += '}';
  }
  return line + '}';
}

std::string text_line(const Log& log, Level level, std::string_view component, std::string_view message,
                      Fields fields) {
  constexpr std::size_t to_milliseconds = 23;  // of "2026-11-21T20:48:23.123456789Z"
  std::string line = base::to_iso(base::wall_now()).substr(0, to_milliseconds) + "Z ";
  std::string name(to_string(level));
  for (char& c : name) c = static_cast<char>(c - 'a' + 'A');
  line += name + std::string(name.size() < 5 ? 2 : 1, ' ');
  line += base::printable(log.program) + '/' + base::printable(component) + ": " + base::printable(bounded(message));
  std::size_t count = 0;
  for (const auto& field : fields) {
    if (count++ == max_fields) break;
    line += ' ' + base::printable(bounded(field.key)) + '=' + text_value(field);
  }
  return line;
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::trace: return spdlog::level::trace;
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warn: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

void start_log(std::string_view program, std::string_view level, std::string_view format) {
  the_log().program = program;
  set_log(level, format);
}

void set_log(std::string_view level, std::string_view format) {
  Log& log = the_log();
  log.json = format != "text";
  for (const auto known : {Level::trace, Level::debug, Level::info, Level::warn, Level::error}) {
    if (to_string(known) == level) log.level = known;
  }
}

bool log_enabled(Level level) { return level >= the_log().level; }

void log(Level level, std::string_view component, std::string_view message, Fields fields) {
  if (!log_enabled(level)) return;
  try {
    const Log& log = the_log();
    const std::string line = log.json ? json_line(log, level, component, message, fields)
                                      : text_line(log, level, component, message, fields);
    log.out->log(spdlog_level(level), spdlog::string_view_t(line.data(), line.size()));
  } catch (...) {  // NOLINT(bugprone-empty-catch): no memory or no stderr; there is nowhere left to say so
  }
}

}  // namespace daemoneye::observe
