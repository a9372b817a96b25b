// The way from SQL values back to an event: import, and the store's rebuilding of rows.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "event/batch.h"
#include "event/columns.h"

namespace daemoneye::event {
namespace {

using Json = nlohmann::json;

bool is_null(const Value& value) { return std::holds_alternative<std::monostate>(value); }

std::unexpected<Error> misfit(Column column, std::string_view wanted) {
  return fail(Errc::invalid_input, std::string(info(column).name) + ": wanted " + std::string(wanted));
}

template <class T>
Result<T> integer(Column column, const Value& value) {
  const auto* number = std::get_if<std::int64_t>(&value);
  const bool fits = number != nullptr && (std::is_unsigned_v<T> ? *number >= 0 : true) &&
                    static_cast<std::int64_t>(static_cast<T>(*number)) == *number;
  if (fits) return static_cast<T>(*number);
  return misfit(column, "an integer from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
                            (sizeof(T) < 8 ? std::to_string(std::numeric_limits<T>::max())
                                           : std::to_string(std::numeric_limits<std::int64_t>::max())));
}

Result<std::string> text(Column column, const Value& value) {
  const auto* held = std::get_if<std::string>(&value);
  if (held == nullptr || held->size() > max_text_bytes) {
    return misfit(column, "a text of at most " + std::to_string(max_text_bytes) + " bytes");
  }
  return *held;
}

// Nanoseconds, or ISO 8601 as import files have it.
Result<Timestamp> time(Column column, const Value& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return Timestamp{*number};
  if (const auto* held = std::get_if<std::string>(&value)) {
    if (const auto parsed = base::parse_iso(*held)) return *parsed;
  }
  return misfit(column, "Unix nanoseconds or an ISO 8601 time");
}

Result<ProcessKey> key(Column column, const Value& value) {
  if (const auto* held = std::get_if<std::string>(&value)) {
    if (const auto parsed = parse_process_key(*held)) return *parsed;
  }
  return misfit(column, "a process key (BOOT-PID-TICKS)");
}

template <class E>
Result<E> enumerator(Column column, const Value& value, std::optional<E> (*parse)(std::string_view),
                     std::string_view all) {
  if (const auto* held = std::get_if<std::string>(&value)) {
    if (const auto parsed = parse(*held)) return *parsed;
  }
  return misfit(column, "one of " + std::string(all));
}

Result<double> real(Column column, const Value& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return static_cast<double>(*number);
  const auto* number = std::get_if<double>(&value);
  if (number == nullptr || !std::isfinite(*number)) return misfit(column, "a finite number");
  return *number;
}

Result<std::string> digest(Column column, const Value& value) {
  const auto* held = std::get_if<std::string>(&value);
  if (held == nullptr || held->size() != 64 || held->find_first_not_of("0123456789abcdef") != std::string::npos) {
    return misfit(column, "64 lower-case hex digits");
  }
  return *held;
}

Result<Arguments> argument_list(Column column, const Value& value) {
  constexpr std::string_view wanted = "a JSON list of texts without NUL";
  DE_TRY(const auto json_text, text(column, value));
  const auto json = Json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) return misfit(column, wanted);
  std::vector<std::string> list;
  for (const auto& item : json) {
    if (!item.is_string() || item.get_ref<const std::string&>().find('\0') != std::string::npos) {
      return misfit(column, wanted);
    }
    list.push_back(item.get<std::string>());
  }
  return Arguments::from_list(list);
}

Result<std::string> detail(Column column, const Value& value) {
  DE_TRY(auto held, text(column, value));
  if (held.empty() || Json::parse(held, nullptr, /*allow_exceptions=*/false).is_object()) return held;
  return misfit(column, "a JSON object");
}

// Of an optional column NULL is "unknown".
template <class T, class Parse>
Result<void> set_optional(std::optional<T>& target, const Value& value, Parse parse) {
  if (is_null(value)) {
    target.reset();
    return {};
  }
  DE_TRY(target, parse(value));
  return {};
}

}  // namespace

Result<void> set_column(ProcessEvent& event, Column column, const Value& value) {
  auto& process = event.process;
  const auto as_text = [column](const Value& v) { return text(column, v); };
  const auto as_time = [column](const Value& v) { return time(column, v); };
  const auto as_u32 = [column](const Value& v) { return integer<std::uint32_t>(column, v); };
  const auto as_u64 = [column](const Value& v) { return integer<std::uint64_t>(column, v); };
  const auto as_i32 = [column](const Value& v) { return integer<std::int32_t>(column, v); };
  const auto as_key = [column](const Value& v) { return key(column, v); };
  switch (column) {
    case Column::event_id: return {};
    case Column::time: {
      DE_TRY(event.time, as_time(value));
      return {};
    }
    case Column::kind: {
      DE_TRY(event.kind, enumerator(column, value, parse_event_kind, "exec, exit, seen, change, gap, fork"));
      return {};
    }
    case Column::source: {
      DE_TRY(event.source, enumerator(column, value, parse_event_source, "ebpf, netlink, scan, import"));
      return {};
    }
    case Column::detail: {
      if (is_null(value))
        event.detail.clear();
      else {
        DE_TRY(event.detail, detail(column, value));
      }
      return {};
    }
    case Column::process_key: {
      if (event.kind == EventKind::gap && is_null(value)) return {};
      DE_TRY(process.key, as_key(value));
      return {};
    }
    case Column::pid: {
      if (event.kind == EventKind::gap && is_null(value)) return {};
      DE_TRY(process.key.pid, as_u32(value));
      return {};
    }
    case Column::status: {
      if (event.kind == EventKind::gap && is_null(value)) return {};
      DE_TRY(process.status,
             enumerator(column, value, parse_process_status, "running, sleeping, stopped, zombie, exited"));
      return {};
    }
    case Column::collection_time: {
      DE_TRY(process.collection_time, as_time(value));
      return {};
    }
    case Column::name: {
      if (is_null(value))
        process.name.clear();
      else {
        DE_TRY(process.name, as_text(value));
      }
      return {};
    }
    case Column::command_line: return fail(Errc::invalid_input, "command_line: derived from arguments, cannot be set");
    case Column::ppid: return set_optional(process.ppid, value, as_u32);
    case Column::parent_key: return set_optional(process.parent_key, value, as_key);
    case Column::comm: return set_optional(process.comm, value, as_text);
    case Column::executable_path: return set_optional(process.executable_path, value, as_text);
    case Column::arguments:
      return set_optional(process.arguments, value, [column](const Value& v) { return argument_list(column, v); });
    case Column::cwd: return set_optional(process.cwd, value, as_text);
    case Column::uid: return set_optional(process.uid, value, as_u32);
    case Column::gid: return set_optional(process.gid, value, as_u32);
    case Column::euid: return set_optional(process.euid, value, as_u32);
    case Column::loginuid: return set_optional(process.loginuid, value, as_u32);
    case Column::user: return set_optional(process.user, value, as_text);
    case Column::session_id: return set_optional(process.session_id, value, as_u32);
    case Column::tty: return set_optional(process.tty, value, as_text);
    case Column::start_time: return set_optional(process.start_time, value, as_time);
    case Column::exit_time: return set_optional(process.exit_time, value, as_time);
    case Column::exit_code: return set_optional(process.exit_code, value, as_i32);
    case Column::exit_signal: return set_optional(process.exit_signal, value, as_i32);
    case Column::cpu_usage:
      return set_optional(process.cpu_usage, value, [column](const Value& v) { return real(column, v); });
    case Column::memory_usage: return set_optional(process.memory_usage, value, as_u64);
    case Column::executable_hash:
      return set_optional(process.executable_hash, value, [column](const Value& v) { return digest(column, v); });
    case Column::executable_state:
      return set_optional(process.executable_state, value, [column](const Value& v) {
        return enumerator(column, v, parse_executable_state, "ok, deleted, replaced, memfd, unreadable, kernel");
      });
    case Column::cgroup: return set_optional(process.cgroup, value, as_text);
    case Column::container_id: return set_optional(process.container_id, value, as_text);
    case Column::scan_id: return set_optional(process.scan_id, value, as_u64);
    case Column::parent_name: return set_optional(event.parent_name, value, as_text);
    case Column::parent_executable_path: return set_optional(event.parent_executable_path, value, as_text);
    case Column::parent_command_line: return set_optional(event.parent_command_line, value, as_text);
  }
  return fail(Errc::internal, "set_column: no such column");
}

}  // namespace daemoneye::event
