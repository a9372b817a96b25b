// Secrets within one text, whatever program it is an argument of.
#pragma once

#include <string>
#include <string_view>

namespace daemoneye::sensor {

inline constexpr std::string_view kMask = "***";

// Masks assignments (TOKEN=…, ?token=…&, password='…'), JSON members ("token": "…"), headers (Authorization: …) and
// the credentials of URLs. Linear in the text. Returns true when something changed.
bool mask_text(std::string& text);

}  // namespace daemoneye::sensor
