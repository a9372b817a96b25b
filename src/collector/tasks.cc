#include "collector/tasks.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/json_depth.h"
#include "base/text.h"
#include "event/columns.h"
#include "event/task.h"
#include "predicate/predicate.h"

namespace daemoneye::collector {
namespace {

using nlohmann::json;

constexpr std::size_t max_recorded = 32;        // in one entry of the ledger; more are counted
constexpr std::size_t max_recorded_text = 200;  // of a filter or path
constexpr std::size_t processes_a_look = 32;    // at the clock
constexpr std::size_t max_request_bytes = 96 * 1024;
constexpr int max_request_depth = 64;  // what parses and prints JSON follows each level on the stack
constexpr std::chrono::minutes held_back_interval{1};

Result<json> parse_object(const std::string& text) {
  if (text.size() > max_request_bytes || base::json_nests_deeper_than(text, max_request_depth)) {
    return fail(Errc::limit_exceeded, "the request's payload has more than " + std::to_string(max_request_bytes) +
                                          " bytes or " + std::to_string(max_request_depth) + " levels");
  }
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

// The columns of `processes` that "fields" names, all of them without it.
Result<std::vector<event::Column>> take_fields(const json& object) {
  std::vector<event::Column> columns;
  const auto found = object.find("fields");
  if (found == object.end()) {
    for (const auto& column : event::columns()) {
      if (column.in_processes) columns.push_back(column.column);
    }
    return columns;
  }
  if (!found->is_array() || found->empty() || found->size() > event::column_count) {
    return fail(Errc::invalid_input,
                "request key 'fields' is not a list of 1 to " + std::to_string(event::column_count) + " column names");
  }
  for (const auto& field : *found) {
    if (!field.is_string()) return fail(Errc::invalid_input, "request key 'fields' holds what is no column name");
    const auto name = field.get<std::string>();
    const auto column = event::find_column(name);
    if (!column || !event::info(*column).in_processes) {
      return fail(Errc::invalid_input,
                  "request key 'fields': '" + base::printable(name.substr(0, 64)) + "' is no column of processes");
    }
    columns.push_back(*column);
  }
  return columns;
}

void append_json(std::string& out, const event::Value& value) {
  char digits[32];
  if (const auto* text = std::get_if<std::string>(&value)) {
    out += base::json_quote(*text);
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    out.append(digits, std::to_chars(digits, digits + sizeof digits, *integer).ptr);
  } else if (const auto* real = std::get_if<double>(&value)) {
    out.append(digits, std::to_chars(digits, digits + sizeof digits, *real).ptr);
  } else {
    out += "null";
  }
}

std::string_view outcome_name(const Result<std::string>& outcome) {
  if (outcome) return "done";
  switch (outcome.error().code) {
    case Errc::cancelled: return "cancelled";
    case Errc::timeout: return "timeout";
    case Errc::limit_exceeded: return "refused";
    default: return "failed";
  }
}

ipc::Reply reply_of(std::uint64_t id, Result<std::string> outcome) {
  ipc::Reply reply;
  reply.id = id;
  if (outcome) {
    reply.payload = std::move(*outcome);
  } else {
    reply.error = outcome.error().code;
    reply.message = std::move(outcome.error().message);
    if (reply.message.size() > ipc::max_reply_message_bytes) reply.message.resize(ipc::max_reply_message_bytes);
  }
  return reply;
}

}  // namespace

// The table may change between two slices: a process that ended meanwhile is left out, one that came is not met.
struct Tasks::Enumeration {
  std::vector<event::Column> columns;
  std::optional<predicate::Predicate> predicate;
  std::size_t bound = max_task_results;
  std::vector<event::Pid> pids;
  std::size_t next = 0, rows = 0;
  std::string json;
  bool truncated = false;

  void add(const event::ProcessEvent& process) {
    if (predicate && !predicate->matches(process)) return;
    const std::size_t before = json.size();
    json += rows == 0 ? "{" : ",{";
    bool first = true;
    for (const auto column : columns) {
      json += first ? "\"" : ",\"";
      first = false;
      json += event::info(column).name;
      json += "\":";
      append_json(json, event::column_value(process, 0, column));
    }
    json += '}';
    if (rows >= bound || json.size() > max_reply_bytes) {
      json.resize(before);
      truncated = true;
      return;
    }
    ++rows;
  }
};

Tasks::Tasks(EventLoop& loop, Tracker& tracker, ledger::Ledger& ledger, Options options, Capabilities capabilities,
             HashPath hash_path)
    : loop_(loop),
      tracker_(tracker),
      ledger_(ledger),
      options_(options),
      capabilities_(std::move(capabilities)),
      hash_path_(std::move(hash_path)) {}

Tasks::~Tasks() {
  *alive_ = false;
  cancel_all();
}

void Tasks::handle(const ipc::Request& request, Answer reply) {
  const auto at_once = [&](Result<std::string> outcome) {
    // What is appended to the ledger is its own record.
    if (request.kind != ipc::RequestKind::append_audit) {
      count(outcome);
      note(request.id, request.kind, outcome, 0, "");
    }
    reply(reply_of(request.id, std::move(outcome)));
  };
  switch (request.kind) {
    case ipc::RequestKind::append_audit: return at_once(append_audit(request.payload));
    case ipc::RequestKind::capabilities: return at_once(json(capabilities_()).dump());
    case ipc::RequestKind::rotate_key: return at_once(rotate_key(request.payload));
    case ipc::RequestKind::reload_configuration: return at_once(reload_configuration());
    case ipc::RequestKind::enumerate:
    case ipc::RequestKind::hash_path: break;
    default: return at_once(fail(Errc::invalid_input, "the collector does not answer this kind of request"));
  }
  if (running_.contains(request.id)) {
    return at_once(fail(Errc::invalid_input, "request " + std::to_string(request.id) + " is already running"));
  }
  if (running_.size() >= options_.max_concurrent) {
    ++counters_.refused;  // and not failed: it was never begun
    const Result<std::string> refusal =
        fail(Errc::limit_exceeded, std::to_string(running_.size()) +
                                       " tasks are running, and ipc.max_concurrent_tasks allows " +
                                       std::to_string(options_.max_concurrent));
    note(request.id, request.kind, refusal, 0, "");
    return reply(reply_of(request.id, refusal));
  }
  running_.emplace(request.id, Running{.kind = request.kind,
                                       .reply = std::move(reply),
                                       .deadline = Deadline::after(std::chrono::milliseconds(request.timeout_ms)),
                                       .begun = base::SteadyClock::now(),
                                       .what = {},
                                       .timer = {},
                                       .enumeration = {}});
  if (request.kind == ipc::RequestKind::enumerate)
    start_enumeration(request.id, request.payload);
  else
    start_hash(request.id, request.payload);
}

void Tasks::cancel(std::uint64_t id) { finish(id, fail(Errc::cancelled, "the task was cancelled")); }

void Tasks::cancel_all() {
  // The record names them as well: they were begun in an operator's name.
  const Result<std::string> outcome = fail(Errc::cancelled, "nobody is left to answer");
  for (const auto& [id, task] : running_) end(id, task, outcome);
  running_.clear();
}

void Tasks::finish(std::uint64_t id, Result<std::string> outcome) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;
  Running task = std::move(found->second);
  running_.erase(found);
  end(id, task, outcome);
  task.reply(reply_of(id, std::move(outcome)));
}

void Tasks::end(std::uint64_t id, const Running& task, const Result<std::string>& outcome) {
  if (task.timer) loop_.remove_timer(*task.timer);
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(base::SteadyClock::now() - task.begun);
  count(outcome);
  note(id, task.kind, outcome, took.count(), task.what);
}

bool Tasks::Allowance::take(double amount) {
  const auto now = base::SteadyClock::now();
  left = std::min(most, left + a_second * std::chrono::duration<double>(now - since).count());
  since = now;
  if (left < amount) return false;
  left -= amount;
  return true;
}

// unavailable: to be asked again later.
Result<void> Tasks::allow(Allowance& kind, double amount, std::uint64_t& held_back) {
  if (kind.take(amount)) return {};
  ++held_back;
  return fail(Errc::unavailable, "too many requests at once: the ledger takes them by and by");
}

Result<std::string> Tasks::reload_configuration() {
  DE_CHECK(allow(reloads_, 1, reloads_held_back_));
  if (!options_.reload_configuration) return fail(Errc::invalid_input, "the configuration is not read again here");
  DE_CHECK(options_.reload_configuration());
  return "{}";
}

Result<std::string> Tasks::append_audit(const std::string& payload) {
  DE_CHECK(allow(audit_entries_, 1, audit_held_back_));
  DE_CHECK(allow(audit_bytes_, static_cast<double>(payload.size()), audit_held_back_));
  DE_TRY(const json object, parse_object(payload));
  DE_TRY(const std::string actor, take_text(object, "actor", "agent"));
  DE_TRY(const std::string action, take_text(object, "action", ""));
  if (!is_agent_actor(actor))
    return fail(Errc::invalid_input, "actor '" + base::printable(actor) + "' is not the agent's to name");
  const auto found = object.find("payload");
  if (found != object.end() && !found->is_object()) {
    return fail(Errc::invalid_input, "request key 'payload' is not an object");
  }
  const std::string body = found == object.end() ? "{}" : found->dump(-1, ' ', false, json::error_handler_t::replace);
  // The collector's own words in the ledger cannot be spoken by the agent.
  DE_TRY(const std::uint64_t sequence, ledger_.append(actor, "agent." + action, body));
  return json{{"seq", sequence}}.dump();
}

Result<std::string> Tasks::rotate_key(const std::string& payload) {
  DE_TRY(const json object, parse_object(payload));
  DE_TRY(const std::string actor, take_text(object, "actor", "agent"));
  if (!is_agent_actor(actor))
    return fail(Errc::invalid_input, "actor '" + base::printable(actor) + "' is not the agent's to name");
  DE_CHECK(allow(rotations_, 1, rotations_held_back_));
  // Who asked stands in the log before what was asked for.
  DE_CHECK(ledger_.append(actor, "agent.rotate_key", "{}"));
  DE_TRY(const auto key, ledger_.rotate_key());
  return json{{"key", key}}.dump();
}

Result<std::unique_ptr<Tasks::Enumeration>> Tasks::prepare(const std::string& payload) const {
  DE_TRY(const json object, parse_object(payload));
  auto enumeration = std::make_unique<Enumeration>();
  DE_TRY(enumeration->columns, take_fields(object));
  DE_TRY(const std::string filter, take_text(object, "filter", ""));
  const auto threshold = object.value("threshold", json(0U));
  if (!threshold.is_number_unsigned()) return fail(Errc::invalid_input, "request key 'threshold' is not a count");
  if (const auto asked = threshold.get<std::uint64_t>(); asked != 0) {
    enumeration->bound = std::min<std::uint64_t>(asked, max_task_results);
  }
  if (!filter.empty()) {
    DE_TRY(enumeration->predicate, predicate::Predicate::parse(filter));
  }
  enumeration->pids = tracker_.pids();
  return enumeration;
}

void Tasks::start_enumeration(std::uint64_t id, const std::string& payload) {
  auto prepared = prepare(payload);
  if (!prepared) return finish(id, std::unexpected(prepared.error()));
  auto& task = running_.at(id);
  task.enumeration = std::move(*prepared);
  if (task.enumeration->predicate) task.what = task.enumeration->predicate->text();
  step(id);
}

void Tasks::step(std::uint64_t id) {
  const auto found = running_.find(id);
  if (found == running_.end()) return;  // cancelled
  auto& work = *found->second.enumeration;
  const auto begun_at = work.next;
  const auto end_of_slice = base::SteadyClock::now() + options_.slice;
  while (work.next < work.pids.size() && !work.truncated) {
    if (work.next % processes_a_look == 0) {
      if (found->second.deadline.expired()) {
        return finish(id, fail(Errc::timeout, "the enumeration did not end within its time-out"));
      }
      if (work.next != begun_at && base::SteadyClock::now() >= end_of_slice) {
        loop_.post([this, alive = alive_, id, begun = found->second.begun] {
          if (!*alive) return;
          // The id may be another request's by now, of another kind perhaps.
          const auto still = running_.find(id);
          if (still != running_.end() && still->second.begun == begun) step(id);
        });
        return;
      }
    }
    if (const auto* process = tracker_.look_up(work.pids[work.next++])) work.add(*process);
  }
  finish(id,
         R"({"errors":[],"processes":[)" + work.json + R"(],"truncated":)" + (work.truncated ? "true" : "false") + "}");
}

void Tasks::start_hash(std::uint64_t id, const std::string& payload) {
  auto path = [&]() -> Result<std::string> {
    DE_TRY(const json object, parse_object(payload));
    DE_TRY(std::string text, take_text(object, "path", ""));
    if (!text.starts_with('/') || text.find('\0') != std::string::npos) {
      return fail(Errc::invalid_input, "request key 'path' is not an absolute path");
    }
    return text;
  }();
  if (!path) return finish(id, std::unexpected(path.error()));
  if (!hash_path_) return finish(id, fail(Errc::unavailable, "executables are not hashed here"));
  auto& task = running_.at(id);
  task.what = *path;
  auto timer = loop_.add_timer(task.deadline.remaining(), std::chrono::nanoseconds(0), [this, id] {
    if (const auto found = running_.find(id); found != running_.end()) found->second.timer.reset();
    finish(id, fail(Errc::timeout, "the file was not hashed within the time-out"));
  });
  if (!timer) return finish(id, std::unexpected(timer.error()));
  task.timer = *timer;
  hash_path_(*path, task.deadline, [this, alive = alive_, id, begun = task.begun](Result<std::string> outcome) {
    if (!*alive) return;
    // The id may be another request's by now.
    const auto found = running_.find(id);
    if (found != running_.end() && found->second.begun == begun) finish(id, std::move(outcome));
  });
}

void Tasks::count(const Result<std::string>& outcome) {
  if (outcome)
    ++counters_.done;
  else if (outcome.error().code == Errc::cancelled)
    ++counters_.cancelled;
  else if (outcome.error().code == Errc::timeout)
    ++counters_.late;
  else
    ++counters_.failed;
}

void Tasks::note(std::uint64_t id, ipc::RequestKind kind, const Result<std::string>& outcome, std::int64_t ms,
                 const std::string& what) {
  if (recorded_ >= max_recorded) {
    ++unrecorded_;
    return;
  }
  if (recorded_++ > 0) record_ += ',';
  record_ += "{\"id\":" + std::to_string(id) + ",\"kind\":" + base::json_quote(ipc::to_string(kind)) +
             ",\"ms\":" + std::to_string(ms) + ",\"outcome\":" + base::json_quote(outcome_name(outcome));
  if (!what.empty()) record_ += ",\"what\":" + base::json_quote(what.substr(0, max_recorded_text));
  record_ += '}';
}

std::optional<std::string> Tasks::take_record() {
  const auto now = base::SteadyClock::now();
  const bool tell = audit_held_back_ + rotations_held_back_ > 0 && now - held_back_told_ >= held_back_interval;
  if (recorded_ == 0 && !tell) return std::nullopt;
  std::string record = "{\"tasks\":[" + std::exchange(record_, {}) + "]";
  if (unrecorded_ > 0) record += ",\"more\":" + std::to_string(unrecorded_);
  if (tell) {
    held_back_told_ = now;
    record += ",\"held_back\":{\"append_audit\":" + std::to_string(std::exchange(audit_held_back_, 0)) +
              ",\"rotate_key\":" + std::to_string(std::exchange(rotations_held_back_, 0)) + "}";
  }
  recorded_ = unrecorded_ = 0;
  return record + "}";
}

}  // namespace daemoneye::collector
