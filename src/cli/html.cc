#include "cli/html.h"

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace daemoneye::cli {
namespace {

// Bytes of the UTF-8 sequence that begins here, or 1 when none does.
std::size_t sequence_at(std::string_view bytes) {
  const auto lead = static_cast<unsigned char>(bytes.front());
  const std::size_t length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (length == 1 || length > bytes.size()) return 1;
  const auto sequence = bytes.substr(0, length);
  return base::to_valid_utf8(sequence) == sequence ? length : 1;
}

std::string_view entity(char c) {
  switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return {};
  }
}

bool is_plain(char c) { return c >= 0x20 && c < 0x7f; }

constexpr std::size_t max_address_bytes = 2048;

bool is_web_address(std::string_view text) {
  const bool scheme = text.starts_with("https://") || text.starts_with("http://");
  return scheme && text.size() <= max_address_bytes &&
         std::ranges::all_of(text, [](char c) { return is_plain(c) && c != ' ' && c != '"' && c != '\\'; });
}

}  // namespace

void Html::append(std::string_view untrusted, std::size_t max_bytes, bool marked) {
  std::size_t left = max_bytes;
  while (!untrusted.empty()) {
    // Most of any text is plain: it goes in one piece.
    const auto special = std::ranges::find_if(untrusted, [](char c) { return !is_plain(c) || !entity(c).empty(); });
    const auto run = std::min(static_cast<std::size_t>(special - untrusted.begin()), left);
    out_ += untrusted.substr(0, run);
    untrusted.remove_prefix(run);
    left -= run;
    if (untrusted.empty()) return;
    const std::size_t length = sequence_at(untrusted);
    if (length > left) {
      out_ += marked ? " <span class=\"more\">… " : "… ";
      out_ += std::to_string(untrusted.size()) + (marked ? " bytes more</span>" : " bytes more");
      return;
    }
    left -= length;
    const auto piece = untrusted.substr(0, length);
    untrusted.remove_prefix(length);
    if (is_plain(piece.front())) {
      out_ += entity(piece.front());
      continue;
    }
    const auto shown = base::printable(piece);
    if (shown != piece && marked) {
      out_ += "<span class=\"spelled\">" + shown + "</span>";
    } else {
      out_ += shown;  // spelled out: plain characters, none of which is markup
    }
  }
}

Html& Html::text(std::string_view untrusted, std::size_t max_bytes) {
  append(untrusted, max_bytes, true);
  return *this;
}

Html& Html::lines(std::string_view untrusted, std::size_t max_bytes) {
  std::size_t left = max_bytes;
  bool first = true;
  for (const auto line : base::split(untrusted, '\n')) {
    if (!first) out_ += '\n';
    first = false;
    append(line, left, true);
    if (line.size() >= left) break;
    left -= line.size();
  }
  return *this;
}

Html& Html::attribute(std::string_view untrusted, std::size_t max_bytes) {
  append(untrusted, max_bytes, false);
  return *this;
}

Html& Html::number(std::int64_t value) {
  out_ += std::to_string(value);
  return *this;
}

Html& Html::number(double value) {
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, 2);
  if (error == std::errc{}) out_.append(text, end);
  return *this;
}

Html& Html::link(std::string_view address) {
  if (!is_web_address(address)) return text(address);
  raw("<a rel=\"noopener noreferrer\" href=\"").attribute(address).raw("\">").text(address).raw("</a>");
  return *this;
}

}  // namespace daemoneye::cli
