#include "collector/tasks.h"

#include <nlohmann/json.hpp>

#include "base/text.h"
#include "event/columns.h"
#include "event/task.h"
#include "predicate/predicate.h"

namespace daemoneye::collector {
namespace {

using nlohmann::json;

Result<json> parse_object(const std::string& text) {
  auto value = json::parse(text, nullptr, false);
  if (!value.is_object()) return fail(Errc::invalid_input, "the request's payload is not a JSON object");
  return value;
}

Result<std::string> take_text(const json& object, const char* key, const std::string& absent) {
  const auto found = object.find(key);
  if (found == object.end()) return absent;
  if (!found->is_string()) return fail(Errc::invalid_input, std::string("request key '") + key + "' is not a text");
  return found->get<std::string>();
}

// The agent speaks for itself and for operators it has checked; never in the collector's own name.
bool is_agent_actor(std::string_view actor) {
  if (actor == "agent") return true;
  constexpr std::string_view prefix = "uid:", suffix = " (asserted by agent)";
  if (!actor.starts_with(prefix) || !actor.ends_with(suffix) || actor.size() <= prefix.size() + suffix.size()) {
    return false;
  }
  return base::parse_integer<std::uint32_t>(actor.substr(prefix.size(), actor.size() - prefix.size() - suffix.size()))
      .has_value();
}

json to_json(const event::ProcessEvent& process) {
  json row = json::object();
  for (const auto& column : event::columns()) {
    if (!column.in_processes) continue;
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          const std::string key(column.name);
          if constexpr (std::is_same_v<T, std::monostate>)
            row[key] = nullptr;
          else if constexpr (std::is_same_v<T, std::string>)
            row[key] = base::to_valid_utf8(value);
          else
            row[key] = value;
        },
        event::column_value(process, 0, column.column));
  }
  return row;
}

}  // namespace

Tasks::Tasks(const Tracker& tracker, ledger::Ledger& ledger, Capabilities capabilities)
    : tracker_(tracker), ledger_(ledger), capabilities_(std::move(capabilities)) {}

ipc::Reply Tasks::handle(const ipc::Request& request) {
  const auto answer = [&]() -> Result<std::string> {
    switch (request.kind) {
      case ipc::RequestKind::append_audit: return append_audit(request.payload);
      case ipc::RequestKind::enumerate: return enumerate(request);
      case ipc::RequestKind::capabilities: return capabilities();
      case ipc::RequestKind::hash_path:
        return fail(Errc::unavailable, "executables are not hashed: this build has no hashing helper");
      default: return fail(Errc::invalid_input, "the collector does not answer this kind of request");
    }
  }();
  ipc::Reply reply;
  reply.id = request.id;
  if (answer) {
    reply.payload = *answer;
  } else {
    reply.error = answer.error().code;
    reply.message = answer.error().message;
  }
  return reply;
}

Result<std::string> Tasks::append_audit(const std::string& payload) {
  DE_TRY(const json object, parse_object(payload));
  DE_TRY(const std::string actor, take_text(object, "actor", "agent"));
  DE_TRY(const std::string action, take_text(object, "action", ""));
  if (!is_agent_actor(actor))
    return fail(Errc::invalid_input, "actor '" + base::printable(actor) + "' is not the agent's to name");
  const auto body = object.value("payload", json::object());
  if (!body.is_object()) return fail(Errc::invalid_input, "request key 'payload' is not an object");
  // The collector's own words in the ledger cannot be spoken by the agent.
  DE_TRY(const std::uint64_t sequence,
         ledger_.append(actor, "agent." + action, body.dump(-1, ' ', false, json::error_handler_t::replace)));
  return json{{"seq", sequence}}.dump();
}

Result<std::string> Tasks::enumerate(const ipc::Request& request) const {
  DE_TRY(const json object, parse_object(request.payload));
  DE_TRY(const std::string filter, take_text(object, "filter", ""));
  const auto threshold_field = object.value("threshold", json(0U));
  if (!threshold_field.is_number_unsigned()) return fail(Errc::invalid_input, "request key 'threshold' is not a count");
  const std::size_t asked = threshold_field.get<std::size_t>();
  const std::size_t bound = asked == 0 ? max_task_results : std::min(asked, max_task_results);
  std::optional<predicate::Predicate> predicate;
  if (!filter.empty()) {
    DE_TRY(predicate, predicate::Predicate::parse(filter));
  }
  const auto deadline = Deadline::after(std::chrono::milliseconds(request.timeout_ms));
  json rows = json::array();
  std::size_t bytes = 0;
  bool truncated = false, late = false;
  tracker_.for_each([&](const event::ProcessEvent& process) {
    if (truncated || late) return;
    late = deadline.expired();
    if (late || (predicate && !predicate->matches(process))) return;
    auto row = to_json(process);
    bytes += row.dump(-1, ' ', false, json::error_handler_t::replace).size();
    if (rows.size() >= bound || bytes > max_reply_bytes) {
      truncated = true;
      return;
    }
    rows.push_back(std::move(row));
  });
  if (late) return fail(Errc::timeout, "the enumeration did not end within its time-out");
  return json{{"processes", std::move(rows)}, {"errors", json::array()}, {"truncated", truncated}}.dump(
      -1, ' ', false, json::error_handler_t::replace);
}

std::string Tasks::capabilities() const { return json(capabilities_()).dump(); }

}  // namespace daemoneye::collector
