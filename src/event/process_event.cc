#include "event/process_event.h"

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace daemoneye::event {
namespace {

struct KindName {
  EventKind kind;
  std::string_view name;
};
constexpr KindName kind_names[] = {
    {EventKind::exec, "exec"},     {EventKind::exit, "exit"}, {EventKind::seen, "seen"},
    {EventKind::change, "change"}, {EventKind::gap, "gap"},   {EventKind::fork, "fork"},
};

struct SourceName {
  EventSource source;
  std::string_view name;
};
constexpr SourceName source_names[] = {
    {EventSource::ebpf, "ebpf"},
    {EventSource::netlink, "netlink"},
    {EventSource::scan, "scan"},
    {EventSource::import, "import"},
};

}  // namespace

std::string_view to_string(EventKind kind) {
  for (const auto& entry : kind_names) {
    if (entry.kind == kind) return entry.name;
  }
  return "unknown";
}

std::optional<EventKind> parse_event_kind(std::string_view text) {
  for (const auto& entry : kind_names) {
    if (entry.name == text) return entry.kind;
  }
  return std::nullopt;
}

std::string_view to_string(EventSource source) {
  for (const auto& entry : source_names) {
    if (entry.source == source) return entry.name;
  }
  return "unknown";
}

std::optional<EventSource> parse_event_source(std::string_view text) {
  for (const auto& entry : source_names) {
    if (entry.name == text) return entry.source;
  }
  return std::nullopt;
}

ProcessEvent make_gap_event(const Gap& gap, EventSource source, Timestamp now) {
  const auto [from, to] = std::minmax(gap.from, gap.to);
  ProcessEvent event;
  event.time = now;
  event.kind = EventKind::gap;
  event.source = source;
  event.detail = "{\"reason\":" + base::json_quote(gap.reason) + ",\"from\":" + std::to_string(from.ns) +
                 ",\"to\":" + std::to_string(to.ns);
  if (gap.count) event.detail += ",\"count\":" + std::to_string(*gap.count);
  event.detail += '}';
  event.process.collection_time = now;
  return event;
}

Result<Gap> parse_gap(std::string_view detail_json) {
  const auto json = nlohmann::json::parse(detail_json, nullptr, /*allow_exceptions=*/false);
  const auto bad = [](std::string_view what) { return fail(Errc::invalid_input, "gap detail: " + std::string(what)); };
  if (!json.is_object()) return bad("not a JSON object");
  const auto integer = [&](const char* key) -> std::optional<std::int64_t> {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number_integer()) return std::nullopt;
    if (found->is_number_unsigned() && found->get<std::uint64_t>() > INT64_MAX) return std::nullopt;
    return found->get<std::int64_t>();
  };
  const auto reason = json.find("reason");
  if (reason == json.end() || !reason->is_string()) return bad("'reason' is not a text");
  const auto from = integer("from"), to = integer("to");
  if (!from || !to) return bad("'from' and 'to' are not both integers (Unix nanoseconds)");
  // The clock was set back in between: a gap all the same.
  const auto [first, last] = std::minmax(*from, *to);
  Gap gap{reason->get<std::string>(), Timestamp{first}, Timestamp{last}, std::nullopt};
  if (const auto count = json.find("count"); count != json.end()) {
    if (!count->is_number_unsigned()) return bad("'count' is not a number of events");
    gap.count = count->get<std::uint64_t>();
  }
  return gap;
}

}  // namespace daemoneye::event
