// An alert of any bytes in every format: JSON parses, and what is one line stays one. Row and lineage are JSON that we
// wrote ourselves, with values of any bytes; where a damaged store holds something else it still is one line.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "alert/format.h"
#include "alert/formats/formats.h"

namespace {

using namespace daemoneye;

const alert::Formatter& formatter(const std::string& format) {
  static std::map<std::string, alert::Formatter> made;
  auto found = made.find(format);
  if (found == made.end()) {
    config::SinkSettings settings;
    settings.name = settings.type = "fuzz";
    settings.format = format;
    auto one = alert::Formatter::make(settings, "json");
    if (!one) std::abort();
    found = made.emplace(format, *std::move(one)).first;
  }
  return found->second;
}

std::string ours(const nlohmann::json& document) {
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 8192) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto next = [&rest] {
    const auto end = std::min(rest.find('\n'), rest.size());
    std::string text(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return text;
  };
  store::Alert alert;
  alert.alert_id = next();
  alert.rule_id = next();
  alert.title = next();
  alert.tags = {next(), next()};
  alert.name = next();
  alert.executable_path = next();
  const std::string row = next(), lineage = next();
  alert.row_json = ours({{row, lineage}, {"pid", 7}});
  alert.process_json = ours({{"process", {{"name", row}}}, {"ancestors", {{{"name", lineage}, {"pid", 1}}}}});
  alert.command_line = std::string(rest);  // line ends and all
  alert.description = *alert.command_line;
  alert.host = *alert.name;
  for (const char* format : {"json", "ecs", "ocsf"}) {
    const auto text = formatter(format)(alert);
    if (text.find('\n') != std::string::npos) std::abort();
    if (!nlohmann::json::accept(text)) std::abort();
  }
  auto damaged = alert;
  damaged.row_json = row;
  damaged.process_json = lineage;
  for (const char* format : {"json", "ecs", "ocsf", "cef"}) {
    if (formatter(format)(damaged).find('\n') != std::string::npos) std::abort();
  }
  if (formatter("cef")(alert).find_first_of("\r\n") != std::string::npos) std::abort();
  if (formatter("text")(alert).find('\x1b') != std::string::npos) std::abort();
  if (alert::format_html(alert).find("<script") != std::string::npos) std::abort();
  return 0;
}
