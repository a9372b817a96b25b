#include "alert/format.h"

#include <algorithm>

#include "alert/formats/formats.h"
#include "alert/sink.h"

namespace daemoneye::alert {

const std::vector<std::string>& formats() {
  static const std::vector<std::string> names = {"json", "ecs", "ocsf", "cef", "text", "template"};
  return names;
}

std::string format_alert(const store::Alert& alert, std::string_view format, bool colour) {
  if (format == "text") return format_text(alert, colour);
  if (format == "ecs") return format_ecs(alert);
  if (format == "ocsf") return format_ocsf(alert);
  if (format == "cef") return format_cef(alert);
  return store::to_json(alert);
}

Result<Formatter> Formatter::make(const config::SinkSettings& settings, std::string_view automatic) {
  Formatter formatter;
  formatter.name_ = settings.format.empty() || settings.format == "auto" ? automatic : settings.format;
  const auto problem = [&](const std::string& text) {
    return fail(Errc::invalid_input, "sink " + settings.name + ": " + text);
  };
  if (std::ranges::find(formats(), formatter.name_) == formats().end()) {
    std::string known;
    for (const auto& name : formats()) known += (known.empty() ? "" : ", ") + name;
    return problem("format '" + formatter.name_ + "' is not one of " + known);
  }
  if ((formatter.name_ == "template") != !settings.text_template.empty()) {
    return problem("format: template and the key template go together");
  }
  if (formatter.name_ == "template") {
    auto parsed = Template::parse(settings.text_template);
    if (!parsed) return problem("template: " + parsed.error().message);
    formatter.template_ = *std::move(parsed);
  }
  return formatter;
}

std::string Formatter::operator()(const store::Alert& alert, bool colour) const {
  return name_ == "template" ? template_.render(alert) : format_alert(alert, name_, colour);
}

bool Formatter::is_json() const { return name_ == "json" || name_ == "ecs" || name_ == "ocsf"; }

}  // namespace daemoneye::alert
