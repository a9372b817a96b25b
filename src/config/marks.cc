#include "config/marks.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <sstream>

#include "base/text.h"

namespace daemoneye::config {
namespace {

// parse_yaml() has bounded size, depth and number of values before this sees the text.
class Marker final : public YAML::EventHandler {
 public:
  Marked root;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add({.begin = place(mark)}); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { add({.begin = place(mark)}); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    add({.kind = Node::Kind::scalar, .begin = place(mark), .text = value, .plain = tag == "?"});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value style) override {
    open({.kind = Node::Kind::list, .flow = style == YAML::EmitterStyle::Flow, .begin = place(mark)});
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value style) override {
    open({.kind = Node::Kind::map, .flow = style == YAML::EmitterStyle::Flow, .begin = place(mark)});
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Marked node;
    bool has_key = false;
    Marked key = {};
  };

  static std::size_t place(const YAML::Mark& mark) { return static_cast<std::size_t>(std::max(mark.pos, 0)); }
  void open(Marked node) { stack_.push_back({.node = std::move(node)}); }
  void close() {
    Marked node = std::move(stack_.back().node);
    stack_.pop_back();
    add(std::move(node));
  }
  void add(Marked node) {
    if (stack_.empty()) {
      root = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind == Node::Kind::list) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      parent.key = std::move(node);
      parent.has_key = true;
    } else {
      parent.node.entries.push_back({parent.key.text, parent.key.begin, std::move(node)});
      parent.has_key = false;
    }
  }

  std::vector<Open> stack_;
};

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_break(char c) { return c == '\n' || c == '\r'; }
bool is_flow_sign(char c) { return c == ',' || c == '[' || c == ']' || c == '{' || c == '}'; }

std::unexpected<Error> not_by_line(std::string_view text, std::size_t at, const std::string& what) {
  return fail(Errc::invalid_input, "line " + std::to_string(line_number(text, at)) + ": " + what +
                                       " is not changed by line; edit it by hand");
}

// Past the closing quote.
Result<std::size_t> quoted_end(std::string_view text, std::size_t begin) {
  const char quote = text[begin];
  for (std::size_t i = begin + 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      if (quote == '"' || i + 1 >= text.size() || text[i + 1] != '\'') return i + 1;
      ++i;  // two single quotes are one
    }
  }
  return not_by_line(text, begin, "a quote that does not end");
}

bool comment_begins(std::string_view text, std::size_t i) {
  return text[i] == '#' && (i == 0 || is_blank(text[i - 1]) || is_break(text[i - 1]));
}

std::size_t plain_end(std::string_view text, std::size_t begin, bool flow) {
  std::size_t i = begin;
  for (; i < text.size() && !is_break(text[i]); ++i) {
    if (comment_begins(text, i) || (flow && is_flow_sign(text[i]))) break;
    const char next = i + 1 < text.size() ? text[i + 1] : '\n';
    if (text[i] == ':' && (is_blank(next) || is_break(next) || (flow && is_flow_sign(next)))) break;
  }
  while (i > begin && is_blank(text[i - 1])) --i;
  return i;
}

std::size_t column_of(std::string_view text, std::size_t at) { return at - line_begin(text, at); }

// Of a scalar that goes on below: past its last line, all of which stand further in than `column`.
std::size_t lines_end(std::string_view text, std::size_t begin, std::size_t column) {
  const bool block = text[begin] == '|' || text[begin] == '>';
  std::size_t end = line_end(text, begin);
  for (std::size_t line = next_line(text, begin); line < text.size(); line = next_line(text, line)) {
    const auto stop = line_end(text, line);
    const auto content = text.find_first_not_of(" \t", line);
    if (content == std::string_view::npos || content >= stop) continue;
    if (content - line <= column || (!block && text[content] == '#')) break;
    end = stop;
  }
  return end;
}

Result<std::size_t> value_end(std::string_view text, const Marked& value, bool flow, std::size_t column) {
  if (value.begin >= text.size()) return not_by_line(text, text.size(), "this");
  if (text[value.begin] == '&' || text[value.begin] == '!') return not_by_line(text, value.begin, "an anchor or tag");
  if (value.kind == Node::Kind::scalar) {
    if (!flow && goes_on_below(text, value)) return lines_end(text, value.begin, column);
    return scalar_end(text, value.begin, flow);
  }
  if (value.flow) {
    DE_TRY(const auto brackets, brackets_end(text, value.begin));
    return brackets.end;
  }
  if (value.kind == Node::Kind::map && !value.entries.empty()) return entry_end(text, value.entries.back(), false);
  if (value.kind == Node::Kind::list && !value.items.empty()) {
    const auto& last = value.items.back();
    return item_end(text, last, column_of(text, value.begin));
  }
  return not_by_line(text, value.begin, "this");
}

}  // namespace

Result<Marked> mark_yaml(std::string_view text) {
  Marker marker;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(marker)) {
    }
  } catch (const YAML::Exception& error) {
    return fail(Errc::invalid_input, "not YAML: " + base::printable(error.msg));
  }
  return std::move(marker.root);
}

std::size_t line_begin(std::string_view text, std::size_t at) {
  if (at == 0) return 0;
  const auto before = text.rfind('\n', at - 1);
  return before == std::string_view::npos ? 0 : before + 1;
}

std::size_t line_end(std::string_view text, std::size_t at) {
  const auto feed = text.find('\n', at);
  if (feed == std::string_view::npos) return text.size();
  return feed > at && text[feed - 1] == '\r' ? feed - 1 : feed;
}

std::size_t next_line(std::string_view text, std::size_t at) {
  const auto feed = text.find('\n', at);
  return feed == std::string_view::npos ? text.size() : feed + 1;
}

unsigned line_number(std::string_view text, std::size_t at) {
  return static_cast<unsigned>(std::ranges::count(text.substr(0, at), '\n')) + 1;
}

Result<std::size_t> scalar_end(std::string_view text, std::size_t begin, bool flow) {
  const char first = text[begin];
  if (first == '"' || first == '\'') return quoted_end(text, begin);
  return plain_end(text, begin, flow);
}

bool goes_on_below(std::string_view text, const Marked& scalar) {
  const char first = text[scalar.begin];
  if (first == '"' || first == '\'') return false;
  if (first == '|' || first == '>') return true;
  return text.substr(scalar.begin, plain_end(text, scalar.begin, false) - scalar.begin) != scalar.text;
}

Result<Brackets> brackets_end(std::string_view text, std::size_t begin) {
  Brackets found;
  std::string open;
  bool at_start = true;  // of a value: a quote within a plain text is none
  for (std::size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    if (is_blank(c) || is_break(c)) continue;
    if (comment_begins(text, i)) {
      found.comment = true;
      i = text.find('\n', i);
      if (i == std::string_view::npos) break;
      continue;
    }
    if ((c == '"' || c == '\'') && at_start) {
      DE_TRY(i, quoted_end(text, i));
      --i;
      at_start = false;
      continue;
    }
    if (c == '[' || c == '{') open += c;
    if (c == ']' || c == '}') {
      if (open.empty() || (open.back() == '[') != (c == ']')) break;
      open.pop_back();
      if (open.empty()) {
        found.end = i + 1;
        return found;
      }
    }
    at_start = c == '[' || c == '{' || c == ',' || c == ':';
  }
  return not_by_line(text, begin, "this list or map");
}

Result<std::size_t> colon_end(std::string_view text, const Marked::Entry& entry, bool flow) {
  DE_TRY(auto at, scalar_end(text, entry.key_begin, flow));
  while (at < text.size() && is_blank(text[at])) ++at;
  if (at >= text.size() || text[at] != ':')
    return not_by_line(text, entry.key_begin, "a key without a colon behind it");
  return at + 1;
}

Result<std::size_t> entry_end(std::string_view text, const Marked::Entry& entry, bool flow) {
  DE_TRY(const auto colon, colon_end(text, entry, flow));
  if (entry.value.kind != Node::Kind::nothing) {
    return value_end(text, entry.value, flow, column_of(text, entry.key_begin));
  }
  // "~", "null", or nothing at all.
  auto at = colon;
  while (at < text.size() && is_blank(text[at])) ++at;
  if (at >= text.size() || is_break(text[at]) || text[at] == '#' || (flow && is_flow_sign(text[at]))) return colon;
  return scalar_end(text, at, flow);
}

Result<std::size_t> item_end(std::string_view text, const Marked& item, std::size_t column) {
  if (item.kind == Node::Kind::nothing) return not_by_line(text, item.begin, "an empty item");
  return value_end(text, item, false, column);
}

}  // namespace daemoneye::config
