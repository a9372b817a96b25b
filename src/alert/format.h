// What a sink sends of an alert.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "alert/formats/template.h"
#include "base/result.h"
#include "config/settings.h"
#include "store/alert.h"

namespace daemoneye::alert {

// A sink's format, made once from its settings. Immutable: any thread.
class Formatter {
 public:
  // `automatic` is the format that `auto` means for the sink. The error names the sink.
  static Result<Formatter> make(const config::SinkSettings& settings, std::string_view automatic);

  // Without a line end. Only "text" is more than one line, and only "template" may be: as the template says.
  [[nodiscard]] std::string operator()(const store::Alert& alert, bool colour = false) const;
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool is_json() const;

 private:
  std::string name_;
  Template template_;
};

}  // namespace daemoneye::alert
