// The published formats: one function and one file each. All take any bytes and give valid UTF-8.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "store/alert.h"

namespace daemoneye::alert {

std::string format_text(const store::Alert& alert, bool colour);  // lines for people
std::string format_html(const store::Alert& alert);               // a fragment: one table
std::string format_ecs(const store::Alert& alert);                // Elastic Common Schema 8.4
std::string format_ocsf(const store::Alert& alert);               // OCSF 1.3.0, Detection Finding
std::string format_cef(const store::Alert& alert);                // ArcSight Common Event Format

// The alert's process and the nearest of its ancestors, as the columns of `processes`; empty objects when not known.
struct Lineage {
  nlohmann::json process = nlohmann::json::object();
  nlohmann::json parent = nlohmann::json::object();
};
Lineage lineage_of(const store::Alert& alert);
// The column as text; empty when it is absent, NULL or no text or integer.
std::string column_text(const nlohmann::json& row, const char* column);
std::optional<std::int64_t> column_integer(const nlohmann::json& row, const char* column);
// Valid UTF-8 without half a character, at most so many bytes.
std::string shortened(std::string_view text, std::size_t max_bytes);
// One line, whatever strings it holds.
std::string dump_line(const nlohmann::json& json);
// An embedded JSON text; null when it is none.
nlohmann::json parsed(const std::string& text);

}  // namespace daemoneye::alert
