#include "recording/line_parser.h"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/text.h"
#include "event/batch.h"
#include "event/columns.h"

namespace daemoneye::recording {
namespace {

namespace dom = simdjson::dom;
using event::Column;
using event::EventKind;
using event::max_text_bytes;

static_assert(line_padding >= simdjson::SIMDJSON_PADDING);

constexpr std::size_t usual_line_bytes = 64 * 1024;
constexpr std::size_t deepest = 64;               // nesting of a line, and of the JSON within its texts
constexpr std::int64_t ns_per_tick = 10'000'000;  // of ProcessKey::start_ticks

constexpr std::uint64_t bit(Column column) { return std::uint64_t{1} << static_cast<unsigned>(column); }
static_assert(event::column_count <= 64);

// A gap concerns no process, and its line may have these only.
constexpr std::uint64_t gap_columns = bit(Column::event_id) | bit(Column::time) | bit(Column::kind) |
                                      bit(Column::source) | bit(Column::detail) | bit(Column::collection_time);

std::string shown(std::string_view text) {
  constexpr std::size_t most = 48;
  return base::printable(text.substr(0, most)) + (text.size() > most ? "…" : "");
}

std::unexpected<Error> misfit(Column column, std::string_view wanted, std::string_view found) {
  return fail(Errc::invalid_input,
              std::string(event::info(column).name) + ": wanted " + std::string(wanted) + ", found " + shown(found));
}

std::unexpected<Error> misfit(Column column, std::string_view wanted, const dom::element& found) {
  switch (found.type()) {
    case dom::element_type::ARRAY: return misfit(column, wanted, "a list");
    case dom::element_type::OBJECT: return misfit(column, wanted, "an object");
    default: return misfit(column, wanted, simdjson::minify(found));
  }
}

std::unexpected<Error> unknown_key(std::string_view key) {
  std::vector<std::string_view> names;
  for (const auto& column : event::columns()) names.push_back(column.name);
  const auto near = base::nearest(key, names);
  return fail(Errc::invalid_input,
              "unknown key '" + shown(key) + '\'' + (near.empty() ? "" : "; did you mean " + std::string(near) + "?"));
}

void assign(std::string& field, std::string_view text) { field.assign(text); }
// Keeps the memory of the line before.
void assign(std::optional<std::string>& field, std::string_view text) {
  if (field)
    field->assign(text);
  else
    field.emplace(text);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool is_digest(std::string_view text) {
  if (text.size() != 64) return false;
  bool digits = true;
  for (const char c : text) digits &= hex_digit(c) >= 0;
  return digits;
}

// A decimal without leading zeros, up to `end`.
template <class T>
bool take_decimal(std::string_view& text, T& value) {
  if (text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9') return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || text.empty() || text[0] == '-') return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

std::string one_of(std::string_view names) { return "one of " + std::string(names); }

}  // namespace

struct LineParser::Impl {
  dom::parser parser{max_line_bytes}, inner{max_line_bytes};
  event::ProcessEvent event;
  std::uint64_t set = 0;  // columns of `event` that may hold something
  // The boot id that was met last, as text and as bytes.
  std::string boot_text;
  event::BootId boot{};
  // The minute that was met last, as text ("2026-11-22T01:02:") and as time.
  std::string minute_text;
  std::int64_t minute_ns = 0;
  event::Pid pid = 0;
  std::string_view command_line;
  std::string argument_bytes;

  Impl() {
    for (auto* each : {&parser, &inner}) {
      // Without memory for this, the first line says so.
      [[maybe_unused]] const auto error = each->allocate(usual_line_bytes, deepest);
    }
  }

  Result<Column> find(std::string_view key, std::size_t& next);
  Result<void> assign_value(Column column, const dom::element& value);
  Result<void> finish(std::uint64_t given);
  void clear(Column column);

  bool parse_key(std::string_view text, event::ProcessKey& key);
  Result<void> take_arguments(const dom::element& value);
  Result<void> take_detail(const dom::element& value);
  void take_command_line();
  Result<std::string_view> text(Column column, const dom::element& value) const;
  template <class Field>
  Result<void> set_text(Column column, Field& field, const dom::element& value) const;
  template <class T>
  Result<void> set_integer(Column column, std::optional<T>& field, const dom::element& value) const;
  template <class Field>
  Result<void> set_time(Column column, Field& field, const dom::element& value);
  std::optional<Timestamp> parse_time(std::string_view text);
  Result<void> set_key(Column column, event::ProcessKey& key, const dom::element& value);
  template <class Field, class Parse>
  Result<void> set_name(Column column, Field& field, const dom::element& value, Parse parse,
                        std::string_view names) const;
};

// Keys mostly come in the order of the columns, with some left out.
Result<Column> LineParser::Impl::find(std::string_view key, std::size_t& next) {
  for (std::size_t at = next; at < event::column_count; ++at) {
    if (event::columns()[at].name != key) continue;
    next = at + 1;
    return static_cast<Column>(at);
  }
  const auto column = event::find_column(key);
  if (!column) return unknown_key(key);
  next = static_cast<std::size_t>(*column) + 1;
  return *column;
}

Result<std::string_view> LineParser::Impl::text(Column column, const dom::element& value) const {
  std::string_view held;
  if (value.get_string().get(held) != simdjson::SUCCESS) return misfit(column, "a text", value);
  if (held.size() > max_text_bytes) {
    return misfit(column, "a text of at most " + std::to_string(max_text_bytes) + " bytes",
                  std::to_string(held.size()) + " bytes");
  }
  return held;
}

template <class Field>
Result<void> LineParser::Impl::set_text(Column column, Field& field, const dom::element& value) const {
  DE_TRY(const auto held, text(column, value));
  assign(field, held);
  return {};
}

template <class T>
Result<void> LineParser::Impl::set_integer(Column column, std::optional<T>& field, const dom::element& value) const {
  std::int64_t number = 0;
  const bool is_integer = value.is<std::int64_t>() && value.get_int64().get(number) == simdjson::SUCCESS;
  if (is_integer && (!std::is_unsigned_v<T> || number >= 0) &&
      static_cast<std::int64_t>(static_cast<T>(number)) == number) {
    field = static_cast<T>(number);
    return {};
  }
  const auto most = sizeof(T) < 8 ? static_cast<std::int64_t>(std::numeric_limits<T>::max()) : INT64_MAX;
  return misfit(column,
                "an integer from " + std::to_string(std::numeric_limits<T>::min()) + " to " + std::to_string(most),
                value);
}

// Times of one recording lie close together, and nearly all have the form that `export` writes.
std::optional<Timestamp> LineParser::Impl::parse_time(std::string_view text) {
  constexpr std::string_view form = "2026-11-22T01:02:03.123456789Z";
  constexpr std::size_t minute_bytes = 17, fraction = 20;
  const auto digit = [&](std::size_t at) { return static_cast<unsigned>(text[at] - '0'); };
  if (text.size() == form.size() && text.substr(0, minute_bytes) == minute_text && text[19] == '.' &&
      text.back() == 'Z') {
    std::int64_t number = digit(17) * 10 + digit(18);
    bool good = digit(17) <= 5 && digit(18) <= 9;
    for (std::size_t at = fraction; at + 1 < form.size(); ++at) {
      good &= digit(at) <= 9;
      number = number * 10 + digit(at);
    }
    if (good) return Timestamp{minute_ns + number};
  }
  const auto parsed = base::parse_iso(text);
  if (!parsed) return std::nullopt;
  if (text.size() == form.size() && text.back() == 'Z' && parsed->ns >= 0) {
    minute_text = text.substr(0, minute_bytes);
    constexpr std::int64_t ns_per_minute = 60'000'000'000;
    minute_ns = parsed->ns / ns_per_minute * ns_per_minute;
  }
  return *parsed;
}

// Nanoseconds or ISO 8601.
template <class Field>
Result<void> LineParser::Impl::set_time(Column column, Field& field, const dom::element& value) {
  std::int64_t number = 0;
  std::string_view held;
  if (value.get_int64().get(number) == simdjson::SUCCESS) {
    field = Timestamp{number};
    return {};
  }
  if (value.get_string().get(held) == simdjson::SUCCESS) {
    if (const auto parsed = parse_time(held)) {
      field = *parsed;
      return {};
    }
  }
  return misfit(column, "Unix nanoseconds or an ISO 8601 time", value);
}

bool LineParser::Impl::parse_key(std::string_view text, event::ProcessKey& key) {
  constexpr std::size_t hex_bytes = 32;
  if (text.size() < hex_bytes + 4) return false;
  const auto hex = text.substr(0, hex_bytes);
  if (hex != boot_text) {
    event::BootId read{};
    for (std::size_t i = 0; i < read.size(); ++i) {
      const int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
      if (high < 0 || low < 0) return false;
      read[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    boot = read;
    boot_text = hex;
  }
  text.remove_prefix(hex_bytes);
  const auto dash = [&] {
    if (text.empty() || text[0] != '-') return false;
    text.remove_prefix(1);
    return true;
  };
  key.boot = boot;
  return dash() && take_decimal(text, key.pid) && dash() && take_decimal(text, key.start_ticks) && text.empty();
}

Result<void> LineParser::Impl::set_key(Column column, event::ProcessKey& key, const dom::element& value) {
  std::string_view held;
  if (value.get_string().get(held) == simdjson::SUCCESS && parse_key(held, key)) return {};
  return misfit(column, "a process key (BOOT-PID-TICKS: 32 lower-case hex digits, decimal, decimal)", value);
}

template <class Field, class Parse>
Result<void> LineParser::Impl::set_name(Column column, Field& field, const dom::element& value, Parse parse,
                                        std::string_view names) const {
  std::string_view held;
  if (value.get_string().get(held) == simdjson::SUCCESS) {
    if (const auto parsed = parse(held)) {
      field = *parsed;
      return {};
    }
  }
  return misfit(column, one_of(names), value);
}

// A list, or a text that is one in JSON, as SQL shows it.
Result<void> LineParser::Impl::take_arguments(const dom::element& value) {
  constexpr std::string_view wanted = "a list of texts without NUL, or such a list as JSON text";
  dom::array list;
  if (value.is_string()) {
    std::string_view held;
    if (value.get_string().get(held) != simdjson::SUCCESS ||
        inner.parse(held.data(), held.size()).get_array().get(list) != simdjson::SUCCESS) {
      return misfit(Column::arguments, wanted, value);
    }
  } else if (value.get_array().get(list) != simdjson::SUCCESS) {
    return misfit(Column::arguments, wanted, value);
  }
  argument_bytes.clear();
  for (const auto item : list) {
    std::string_view argument;
    if (item.get_string().get(argument) != simdjson::SUCCESS || argument.find('\0') != std::string_view::npos) {
      return misfit(Column::arguments, wanted, item);
    }
    argument_bytes.append(argument).push_back('\0');
  }
  if (argument_bytes.size() > max_text_bytes) {
    return misfit(Column::arguments, "at most " + std::to_string(max_text_bytes) + " bytes in all",
                  std::to_string(argument_bytes.size()) + " bytes");
  }
  event.process.arguments = event::Arguments::adopt(argument_bytes);
  return {};
}

Result<void> LineParser::Impl::take_detail(const dom::element& value) {
  constexpr std::string_view wanted = "an object, or one as JSON text";
  if (value.is_object()) {
    event.detail = simdjson::minify(value);
  } else {
    std::string_view held;
    if (value.get_string().get(held) != simdjson::SUCCESS || !inner.parse(held.data(), held.size()).is_object()) {
      return misfit(Column::detail, wanted, value);
    }
    event.detail.assign(held);
  }
  if (event.detail.size() <= max_text_bytes) return {};
  return misfit(Column::detail, "at most " + std::to_string(max_text_bytes) + " bytes",
                std::to_string(event.detail.size()) + " bytes");
}

Result<void> LineParser::Impl::assign_value(Column column, const dom::element& value) {
  auto& process = event.process;
  switch (column) {
    case Column::event_id: {  // the store gives its own
      std::optional<std::int64_t> ignored;
      return set_integer(column, ignored, value);
    }
    case Column::time: return set_time(column, event.time, value);
    case Column::kind:
      return set_name(column, event.kind, value, event::parse_event_kind, "exec, exit, seen, change, gap, fork");
    case Column::source:
      return set_name(column, event.source, value, event::parse_event_source, "ebpf, netlink, scan, import");
    case Column::detail: return take_detail(value);
    case Column::process_key: return set_key(column, process.key, value);
    case Column::pid: {
      std::optional<event::Pid> number;
      DE_CHECK(set_integer(column, number, value));
      pid = *number;
      return {};
    }
    case Column::ppid: return set_integer(column, process.ppid, value);
    case Column::parent_key: {
      event::ProcessKey key;
      DE_CHECK(set_key(column, key, value));
      process.parent_key = key;
      return {};
    }
    case Column::name: return set_text(column, process.name, value);
    case Column::comm: return set_text(column, process.comm, value);
    case Column::executable_path: return set_text(column, process.executable_path, value);
    case Column::command_line: {
      DE_TRY(command_line, text(column, value));
      if (command_line.find('\0') == std::string_view::npos) return {};
      return misfit(column, "a text without NUL", value);
    }
    case Column::arguments: return take_arguments(value);
    case Column::cwd: return set_text(column, process.cwd, value);
    case Column::uid: return set_integer(column, process.uid, value);
    case Column::gid: return set_integer(column, process.gid, value);
    case Column::euid: return set_integer(column, process.euid, value);
    case Column::loginuid: return set_integer(column, process.loginuid, value);
    case Column::user: return set_text(column, process.user, value);
    case Column::session_id: return set_integer(column, process.session_id, value);
    case Column::tty: return set_text(column, process.tty, value);
    case Column::start_time: return set_time(column, process.start_time, value);
    case Column::exit_time: return set_time(column, process.exit_time, value);
    case Column::exit_code: return set_integer(column, process.exit_code, value);
    case Column::exit_signal: return set_integer(column, process.exit_signal, value);
    case Column::cpu_usage: {
      double number = 0;
      if (value.get_double().get(number) != simdjson::SUCCESS) return misfit(column, "a number", value);
      process.cpu_usage = number;
      return {};
    }
    case Column::memory_usage: return set_integer(column, process.memory_usage, value);
    case Column::status:
      return set_name(column, process.status, value, event::parse_process_status,
                      "running, sleeping, stopped, zombie, exited");
    case Column::executable_hash: {
      DE_TRY(const auto held, text(column, value));
      if (!is_digest(held)) return misfit(column, "64 lower-case hex digits", value);
      assign(process.executable_hash, held);
      return {};
    }
    case Column::executable_state:
      return set_name(column, process.executable_state, value, event::parse_executable_state,
                      "ok, deleted, replaced, memfd, unreadable, kernel");
    case Column::cgroup: return set_text(column, process.cgroup, value);
    case Column::container_id: return set_text(column, process.container_id, value);
    case Column::collection_time: return set_time(column, process.collection_time, value);
    case Column::scan_id: return set_integer(column, process.scan_id, value);
    case Column::parent_name: return set_text(column, event.parent_name, value);
    case Column::parent_executable_path: return set_text(column, event.parent_executable_path, value);
    case Column::parent_command_line: return set_text(column, event.parent_command_line, value);
  }
  return fail(Errc::internal, "no such column");
}

void LineParser::Impl::clear(Column column) {
  auto& process = event.process;
  switch (column) {
    case Column::event_id:
    case Column::time:
    case Column::kind:
    case Column::source:
    case Column::process_key:
    case Column::pid:
    case Column::status:
    case Column::collection_time: return;  // finish() says what they are
    case Column::detail: return event.detail.clear();
    case Column::ppid: return process.ppid.reset();
    case Column::parent_key: return process.parent_key.reset();
    case Column::name: return process.name.clear();
    case Column::comm: return process.comm.reset();
    case Column::executable_path: return process.executable_path.reset();
    case Column::command_line:
    case Column::arguments: return process.arguments.reset();
    case Column::cwd: return process.cwd.reset();
    case Column::uid: return process.uid.reset();
    case Column::gid: return process.gid.reset();
    case Column::euid: return process.euid.reset();
    case Column::loginuid: return process.loginuid.reset();
    case Column::user: return process.user.reset();
    case Column::session_id: return process.session_id.reset();
    case Column::tty: return process.tty.reset();
    case Column::start_time: return process.start_time.reset();
    case Column::exit_time: return process.exit_time.reset();
    case Column::exit_code: return process.exit_code.reset();
    case Column::exit_signal: return process.exit_signal.reset();
    case Column::cpu_usage: return process.cpu_usage.reset();
    case Column::memory_usage: return process.memory_usage.reset();
    case Column::executable_hash: return process.executable_hash.reset();
    case Column::executable_state: return process.executable_state.reset();
    case Column::cgroup: return process.cgroup.reset();
    case Column::container_id: return process.container_id.reset();
    case Column::scan_id: return process.scan_id.reset();
    case Column::parent_name: return event.parent_name.reset();
    case Column::parent_executable_path: return event.parent_executable_path.reset();
    case Column::parent_command_line: return event.parent_command_line.reset();
  }
}

// Without arguments they are its words: joined again they give exactly this text.
void LineParser::Impl::take_command_line() {
  argument_bytes.assign(command_line);
  for (char& c : argument_bytes) c = c == ' ' ? '\0' : c;
  if (!argument_bytes.empty()) argument_bytes.push_back('\0');
  event.process.arguments = event::Arguments::adopt(argument_bytes);
}

// What one line says must agree, and what it leaves out follows from the rest.
Result<void> LineParser::Impl::finish(std::uint64_t given) {
  const auto has = [&](Column column) { return (given & bit(column)) != 0; };
  auto& process = event.process;
  if (!has(Column::time)) return fail(Errc::invalid_input, "time: missing");
  if (!has(Column::kind)) return fail(Errc::invalid_input, "kind: missing");
  if (!has(Column::source)) event.source = event::EventSource::import;
  if (!has(Column::collection_time)) process.collection_time = event.time;
  if (event.kind == EventKind::gap) {
    process.key = {};
    process.status = event::ProcessStatus::running;
    if (const auto others = given & ~gap_columns; others != 0) {
      const auto column = static_cast<Column>(std::countr_zero(others));
      return fail(Errc::invalid_input, std::string(event::info(column).name) + ": a gap concerns no process");
    }
    if (!event::parse_gap(event.detail)) {
      return misfit(Column::detail, R"(what a gap spans: {"reason":TEXT,"from":NS,"to":NS,"count":N})", event.detail);
    }
    return {};
  }
  if (!has(Column::process_key)) {
    if (!has(Column::pid)) return fail(Errc::invalid_input, "process_key and pid: missing, one is needed");
    const auto start = has(Column::start_time) ? process.start_time->ns : 0;
    process.key = {{}, pid, static_cast<std::uint64_t>(std::max<std::int64_t>(0, start / ns_per_tick))};
  } else if (has(Column::pid) && pid != process.key.pid) {
    return misfit(Column::pid, "that of process_key, " + std::to_string(process.key.pid), std::to_string(pid));
  }
  if (!has(Column::status)) {
    process.status = event.kind == EventKind::exit ? event::ProcessStatus::exited : event::ProcessStatus::running;
  }
  if (!has(Column::command_line)) return {};
  if (!has(Column::arguments)) {
    take_command_line();
    return process.arguments->nul_terminated().size() <= max_text_bytes
               ? Result<void>()
               : misfit(Column::command_line, "a text of at most " + std::to_string(max_text_bytes - 1) + " bytes",
                        std::to_string(command_line.size()) + " bytes");
  }
  const std::string_view bytes = process.arguments->nul_terminated();
  const auto same = [](char argument, char written) {
    return argument == (written == ' ' ? '\0' : written) || argument == written;
  };
  const auto joined = bytes.empty() ? bytes : bytes.substr(0, bytes.size() - 1);
  if (joined.size() == command_line.size() && std::equal(joined.begin(), joined.end(), command_line.begin(), same)) {
    return {};
  }
  return misfit(Column::command_line, "the arguments joined by spaces", command_line);
}

LineParser::LineParser() : impl_(std::make_unique<Impl>()) {}
LineParser::~LineParser() = default;

Result<const event::ProcessEvent*> LineParser::parse(std::string_view line) {
  auto& impl = *impl_;
  dom::object object;
  dom::element whole;
  if (const auto error = impl.parser.parse(line.data(), line.size(), /*realloc_if_needed=*/false).get(whole);
      error != simdjson::SUCCESS) {
    return fail(Errc::invalid_input, "not JSON: " + std::string(simdjson::error_message(error)));
  }
  if (whole.get_object().get(object) != simdjson::SUCCESS) return fail(Errc::invalid_input, "not an object");
  std::uint64_t met = 0, given = 0;
  const auto walked = [&]() -> Result<void> {
    std::size_t next = 0;  // column
    for (const auto field : object) {
      DE_TRY(const auto column, impl.find(field.key, next));
      if ((met & bit(column)) != 0) return fail(Errc::invalid_input, std::string(field.key) + ": given twice");
      met |= bit(column);
      if (field.value.is_null()) continue;
      given |= bit(column);
      DE_CHECK(impl.assign_value(column, field.value));
    }
    return {};
  }();
  for (auto stale = impl.set & ~given; stale != 0; stale &= stale - 1) {
    const auto column = static_cast<Column>(std::countr_zero(stale));
    // Both stand for the same.
    if (column == Column::command_line && (given & bit(Column::arguments)) != 0) continue;
    impl.clear(column);
  }
  impl.set = given;
  DE_CHECK(walked);
  DE_CHECK(impl.finish(given));
  return &impl.event;
}

}  // namespace daemoneye::recording
