#include "event/completeness.h"

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace daemoneye::event {
namespace {

using Json = nlohmann::json;

std::string time_json(Timestamp time, bool raw) {
  return raw ? std::to_string(time.ns) : base::json_quote(base::to_iso(time));
}

Result<std::optional<Timestamp>> parse_time(const Json& reason, const char* key) {
  const auto found = reason.find(key);
  if (found == reason.end()) return std::nullopt;
  if (found->is_string()) {
    DE_TRY(const auto time, base::parse_iso(found->get_ref<const std::string&>()));
    return time;
  }
  if (found->is_number_integer() && !(found->is_number_unsigned() && found->get<std::uint64_t>() > INT64_MAX)) {
    return Timestamp{found->get<std::int64_t>()};
  }
  return fail(Errc::invalid_input, std::string("completeness: '") + key + "' is neither a time nor nanoseconds");
}

}  // namespace

std::string to_json(const Completeness& completeness, bool raw) {
  if (completeness.complete()) return R"({"status":"complete"})";
  std::string text = R"({"status":"degraded","reasons":[)";
  bool first = true;
  for (const auto& reason : completeness.reasons) {
    if (!first) text += ',';
    first = false;
    text += "{\"reason\":" + base::json_quote(reason.reason);
    if (reason.count) text += ",\"count\":" + std::to_string(*reason.count);
    if (reason.from) text += ",\"from\":" + time_json(*reason.from, raw);
    if (reason.to) text += ",\"to\":" + time_json(*reason.to, raw);
    text += '}';
  }
  return text + "]}";
}

Result<Completeness> parse_completeness(std::string_view text) {
  const auto bad = [](std::string_view what) {
    return fail(Errc::invalid_input, "completeness: " + std::string(what));
  };
  const auto json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return bad("not a JSON object");
  const auto status = json.find("status");
  if (status == json.end() || !status->is_string()) return bad("'status' is missing");
  const auto reasons = json.find("reasons");
  Completeness completeness;
  if (*status == "complete") {
    if (reasons != json.end() && !(reasons->is_array() && reasons->empty())) return bad("complete, but with reasons");
    return completeness;
  }
  if (*status != "degraded") return bad("'status' is neither complete nor degraded");
  if (reasons == json.end() || !reasons->is_array() || reasons->empty()) return bad("degraded, but without reasons");
  for (const auto& item : *reasons) {
    if (!item.is_object()) return bad("a reason is not an object");
    const auto reason = item.find("reason");
    if (reason == item.end() || !reason->is_string()) return bad("a reason without its name");
    Incompleteness entry;
    entry.reason = reason->get<std::string>();
    if (const auto count = item.find("count"); count != item.end()) {
      if (!count->is_number_unsigned()) return bad("'count' is not a number of events");
      entry.count = count->get<std::uint64_t>();
    }
    DE_TRY(entry.from, parse_time(item, "from"));
    DE_TRY(entry.to, parse_time(item, "to"));
    completeness.reasons.push_back(std::move(entry));
  }
  return completeness;
}

}  // namespace daemoneye::event
