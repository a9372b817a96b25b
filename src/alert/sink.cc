#include "alert/sink.h"

#include "alert/sinks/sinks.h"

namespace daemoneye::alert {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) {
    if (!out.empty()) out += ", ";
    out += word;
  }
  return out;
}

}  // namespace

// The one table of what exists. A new sink: its file in sinks/, its line here.
const std::vector<SinkType>& sink_types() {
  static const std::vector<SinkType> types = {stdout_sink_type(), file_sink_type()};
  return types;
}

const std::vector<std::string>& formats() {
  static const std::vector<std::string> names = {"json", "text"};
  return names;
}

void register_sink_types() {
  for (const auto& type : sink_types()) config::register_sink_type(type.type, type.keys);
}

Result<std::unique_ptr<AlertSink>> make_sink(const config::SinkSettings& wanted) {
  config::SinkSettings settings = wanted;
  if (settings.format == "auto") settings.format.clear();
  std::vector<std::string> known;
  for (const auto& type : sink_types()) {
    known.push_back(type.type);
    if (type.type != settings.type) continue;
    bool format_known = settings.format.empty();
    for (const auto& name : formats()) format_known = format_known || name == settings.format;
    if (!format_known) {
      return fail(Errc::invalid_input, "sink " + settings.name + ": format '" + settings.format +
                                           "' is not available in this version; available: " + joined(formats()));
    }
    return type.make(settings);
  }
  return fail(Errc::invalid_input, "sink " + settings.name + ": type '" + settings.type +
                                       "' is not available in this version; available: " + joined(known));
}

}  // namespace daemoneye::alert
