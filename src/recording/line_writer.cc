#include "recording/line_writer.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "event/batch.h"

namespace daemoneye::recording {
namespace {

using event::Column;
using event::max_text_bytes;

// Bytes that a JSON text holds as they are, wherever they stand.
constexpr auto plain = [] {
  std::array<bool, 256> table{};
  for (unsigned c = 0x20; c < 0x7f; ++c) table[c] = c != '"' && c != '\\';
  return table;
}();

std::string_view cut(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80) --most;
  return text.substr(0, most);
}

void append_text(std::string_view text, std::string& out) {
  std::size_t length = 0;
  while (length < text.size() && plain[static_cast<unsigned char>(text[length])]) ++length;
  if (length == text.size() && length <= max_text_bytes) {
    (out += '"').append(text) += '"';
    return;
  }
  const auto valid = base::to_valid_utf8(text);
  out += base::json_quote(cut(valid, max_text_bytes));
}

// The arguments as they can be given back: a list whose texts grew beyond the bound loses its end.
void append_arguments(std::string_view json, std::string& out) {
  // Escapes and U+FFFD only ever shorten when they are read.
  if (json.size() <= max_text_bytes) return append_text(json, out);
  const auto list = nlohmann::json::parse(base::to_valid_utf8(json), nullptr, false);
  auto kept = nlohmann::json::array();
  std::size_t bytes = 0;
  for (const auto& item : list) {
    const auto text = cut(item.get_ref<const std::string&>(), max_text_bytes - bytes - 1);
    kept.push_back(text);
    bytes += text.size() + 1;
    if (text.size() < item.get_ref<const std::string&>().size() || bytes >= max_text_bytes) break;
  }
  out += base::json_quote(kept.dump());
}

template <class Number>
void append_number(Number number, std::string& out) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, number).ptr;
  out.append(buffer, end);
}

}  // namespace

store::ColumnSet line_columns() { return store::ColumnSet().set(); }

void append_line(const store::EventScan& row, const LineFormat& format, std::string& out) {
  char separator = '{';
  for (const auto& column : event::columns()) {
    const auto value = row.value(column.column);
    if (std::holds_alternative<std::monostate>(value)) continue;
    const auto* text = std::get_if<std::string_view>(&value);
    if (column.column == Column::command_line && text->size() > max_text_bytes / 3) continue;  // arguments say it
    ((out += separator) += '"').append(column.name) += "\":";
    separator = ',';
    if (text != nullptr) {
      if (column.column == Column::arguments)
        append_arguments(*text, out);
      else
        append_text(*text, out);
    } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
      if (column.is_time && !format.raw_times)
        ((out += '"') += base::to_iso(Timestamp{*integer})) += '"';
      else
        append_number(*integer, out);
    } else if (const auto* real = std::get_if<double>(&value)) {
      append_number(*real, out);
    }
  }
  out += "}\n";
}

}  // namespace daemoneye::recording
