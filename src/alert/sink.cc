#include "alert/sink.h"

#include "alert/format.h"
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
  static const std::vector<SinkType> types = {stdout_sink_type(), file_sink_type(), syslog_sink_type(),
                                              webhook_sink_type(), email_sink_type()};
  return types;
}

void register_sink_types() {
  for (const auto& type : sink_types()) {
    config::register_sink_type(type.type, type.keys, [&type](const config::SinkSettings& settings) -> Result<void> {
      DE_CHECK(Formatter::make(settings, "json"));
      return type.check ? type.check(settings) : Result<void>();
    });
  }
}

Result<std::unique_ptr<AlertSink>> make_sink(const config::SinkSettings& settings) {
  std::vector<std::string> known;
  for (const auto& type : sink_types()) {
    if (type.type == settings.type) return type.make(settings);
    known.push_back(type.type);
  }
  return fail(Errc::invalid_input,
              "sink " + settings.name + ": type '" + settings.type + "' is not one of " + joined(known));
}

std::vector<NeededPath> needed_paths(const config::SinkSettings& settings) {
  std::vector<NeededPath> needed;
  for (const auto& type : sink_types()) {
    if (type.type != settings.type) continue;
    for (const auto& key : type.keys) {
      const auto given = settings.options.find(key.name);
      if (given == settings.options.end() || key.file == config::SinkKey::File::none) continue;
      if (key.file == config::SinkKey::File::read) {
        needed.push_back({given->second, NeededPath::Use::read});
      } else {
        const auto slash = given->second.rfind('/');
        needed.push_back({slash == 0 ? "/" : given->second.substr(0, slash), NeededPath::Use::write_folder});
      }
    }
  }
  for (const auto& [key, secret] : settings.secrets) {
    if (secret.kind == config::SecretReference::Kind::file) needed.push_back({secret.where, NeededPath::Use::read});
  }
  return needed;
}

}  // namespace daemoneye::alert
