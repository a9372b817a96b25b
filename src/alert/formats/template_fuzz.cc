// A template, and an alert of the same bytes: whatever is accepted renders to one line as long as the template is one,
// and its JSON variant parses.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "alert/formats/template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye;
  if (size > 4096) return 0;
  const std::string text(reinterpret_cast<const char*>(data), size);
  store::Alert alert;
  alert.title = alert.row_json = text;
  alert.command_line = text;
  const auto made = alert::Template::parse(text);
  if (made) {
    const auto out = made->render(alert);
    if (text.find('\n') == std::string::npos && out.find('\n') != std::string::npos) std::abort();
  }
  const auto quoted = alert::Template::parse(R"({"a": {{json:title}}, "b": {{json:command_line}}, "c": {{json:row}}})");
  if (!quoted || nlohmann::json::parse(quoted->render(alert), nullptr, false).is_discarded()) std::abort();
  return 0;
}
