// Whatever bytes come in, no markup but our own comes out.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/text.h"
#include "cli/html.h"

namespace {

void check(bool holds) {
  if (!holds) std::abort();
}

bool take(std::string_view& html, std::string_view text) {
  if (!html.starts_with(text)) return false;
  html.remove_prefix(text.size());
  return true;
}

// Reads the page's text back; anything that is neither text, an entity nor a mark of ours is a finding.
std::string text_of(std::string_view html) {
  std::string out;
  while (!html.empty()) {
    if (take(html, "<span class=\"spelled\">") || take(html, "</span>")) continue;
    if (take(html, "&lt;"))
      out += '<';
    else if (take(html, "&gt;"))
      out += '>';
    else if (take(html, "&quot;"))
      out += '"';
    else if (take(html, "&#39;"))
      out += '\'';
    else if (take(html, "&amp;"))
      out += '&';
    else {
      const char c = html.front();
      check(c != '<' && c != '>' && c != '"' && c != '\'' && c != '&');
      check(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
      out += c;
      html.remove_prefix(1);
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using daemoneye::cli::Html;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto shown = daemoneye::base::printable(bytes);
  check(text_of(Html().text(bytes).take()) == shown);
  check(text_of(Html().attribute(bytes).take()) == shown);
  const auto link = Html().link(bytes).take();
  check(!link.starts_with("<a ") || bytes.starts_with("http"));
  return 0;
}
