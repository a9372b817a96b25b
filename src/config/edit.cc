#include "config/edit.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/text.h"
#include "config/marks.h"

namespace daemoneye::config {
namespace {

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
constexpr std::size_t step = 2;  // columns a level, in a file that does not show its own

std::unexpected<Error> refused(std::string_view text, std::size_t at, const std::string& why) {
  return fail(Errc::invalid_input, "line " + std::to_string(line_number(text, at)) + ": " + why);
}

// Bytes [begin, end) become `with`.
struct Replacement {
  std::size_t begin = 0, end = 0;
  std::string with;
};

std::string replaced(std::string_view text, std::vector<Replacement> replacements) {
  std::ranges::sort(replacements, {}, [](const Replacement& one) { return std::pair(one.begin, one.end); });
  std::string out;
  std::size_t at = 0;
  for (const auto& one : replacements) {
    out += text.substr(at, one.begin - at);
    out += one.with;
    at = one.end;
  }
  return out += text.substr(at);
}

const Marked::Entry* entry_of(const Marked& map, std::string_view name) {
  const auto found = std::ranges::find(map.entries, name, &Marked::Entry::name);
  return found == map.entries.end() ? nullptr : &*found;
}

bool same_value(const Marked& a, const Node& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Node::Kind::nothing: return true;
    case Node::Kind::scalar:
      return a.text == b.text && scalar_type({.kind = a.kind, .text = a.text, .plain = a.plain}) == scalar_type(b);
    case Node::Kind::list:
      return std::ranges::equal(a.items, b.items, [](const Marked& x, const Node& y) { return same_value(x, y); });
    case Node::Kind::map: break;
  }
  return a.entries.size() == b.entries.size() && std::ranges::all_of(b.entries, [&](const auto& entry) {
           const auto* mine = entry_of(a, entry.first);
           return mine != nullptr && same_value(mine->value, entry.second);
         });
}

// `key: value` for parts [from, …), the levels in braces.
std::string in_one_line(const std::vector<std::string_view>& parts, std::size_t from, const std::string& value,
                        bool quote) {
  std::string out = value;
  for (std::size_t i = parts.size(); i-- > from;) {
    if (i + 1 < parts.size()) out.insert(0, 1, '{').append(1, '}');
    std::string name = quote ? base::json_quote(parts[i]) : std::string(parts[i]);
    out = std::move(name.append(": ").append(out));
  }
  return out;
}

// The state of one change.
class Editor {
 public:
  Editor(std::string_view text, const Marked& root, std::vector<std::string_view> parts)
      : text_(text), root_(root), parts_(std::move(parts)) {
    const auto feed = text.find('\n');
    line_break_ = feed != std::string_view::npos && feed > 0 && text[feed - 1] == '\r' ? "\r\n" : "\n";
  }

  Result<std::string> set(const Node& value) {
    if (root_.kind == Node::Kind::nothing) return append_to_empty(value);
    const Marked* map = &root_;
    for (std::size_t level = 0;; ++level) {
      if (map->kind != Node::Kind::map) return refused(text_, map->begin, "found no map of keys");
      if (text_[map->begin] == '&' || text_[map->begin] == '!') {
        return refused(text_, map->begin, "an anchor or tag is not changed by line; edit it by hand");
      }
      const auto* entry = entry_of(*map, parts_[level]);
      if (entry == nullptr)
        return map->flow ? insert_in_brackets(*map, level, value) : insert_lines(*map, level, value);
      if (level + 1 == parts_.size()) return replace(*entry, map->flow, value);
      if (entry->value.kind == Node::Kind::nothing) return fill_empty(*entry, map->flow, level + 1, value);
      map = &entry->value;
    }
  }

  Result<std::string> remove() {
    std::vector<const Marked*> maps;
    std::vector<const Marked::Entry*> way;
    const Marked* map = &root_;
    for (const auto part : parts_) {
      const auto* entry = map->kind == Node::Kind::map ? entry_of(*map, part) : nullptr;
      if (entry == nullptr) return fail(Errc::not_found, "is not set there");
      maps.push_back(map);
      way.push_back(entry);
      map = &entry->value;
    }
    std::size_t level = way.size() - 1;
    while (level > 0 && maps[level]->entries.size() == 1) {
      // A comment within the level would go, too.
      const auto within = text_.substr(way[level - 1]->key_begin, way[level]->key_begin - way[level - 1]->key_begin);
      if (within.find('#') != std::string_view::npos) break;
      --level;
    }
    return maps[level]->flow ? remove_in_brackets(*maps[level], *way[level]) : remove_lines(*way[level]);
  }

 private:
  [[nodiscard]] std::string indent(std::size_t columns) const { return std::string(columns, ' '); }
  [[nodiscard]] std::size_t column_of(std::size_t at) const { return at - line_begin(text_, at); }

  // The lines of parts [from, …), each level further in.
  [[nodiscard]] std::string lines(std::size_t from, std::size_t column, const Node& value) const {
    std::string out;
    for (std::size_t level = from; level < parts_.size(); ++level) {
      if (!out.empty()) out += line_break_;
      out += indent(column + (level - from) * own_step()) + std::string(parts_[level]) + ':';
    }
    return out + ' ' + write_node(value);
  }

  // How far this file indents.
  [[nodiscard]] std::size_t own_step() const {
    for (const auto& entry : root_.entries) {
      if (entry.value.kind != Node::Kind::map || entry.value.flow || entry.value.entries.empty()) continue;
      const auto outer = column_of(entry.key_begin), inner = column_of(entry.value.entries.front().key_begin);
      if (inner > outer) return inner - outer;
    }
    return step;
  }

  // A line of its own after the line of `at`.
  [[nodiscard]] std::string insert_after_line(std::size_t at, const std::string& added) const {
    const auto next = next_line(text_, at);
    const bool complete = next > 0 && text_[next - 1] == '\n' && next > at;
    return replaced(text_, {{next, next, complete ? added + line_break_ : line_break_ + added}});
  }

  [[nodiscard]] Result<std::string> append_to_empty(const Node& value) const {
    if (text_.empty()) return lines(0, 0, value) + line_break_;
    // Nothing but comments, or `---`; a document's end would hide what follows it.
    const bool complete = text_.ends_with('\n');
    return std::string(text_) + (complete ? "" : line_break_) + lines(0, 0, value) + line_break_;
  }

  [[nodiscard]] Result<std::string> insert_lines(const Marked& map, std::size_t level, const Node& value) const {
    const auto& first = map.entries.front();
    DE_TRY(const auto end, entry_end(text_, map.entries.back(), false));
    return insert_after_line(end, lines(level, column_of(first.key_begin), value));
  }

  [[nodiscard]] Result<std::string> insert_in_brackets(const Marked& map, std::size_t level, const Node& value) const {
    if (map.entries.empty()) {
      DE_TRY(const auto brackets, brackets_end(text_, map.begin));
      if (brackets.comment) return refused(text_, map.begin, "there is a comment in these brackets; edit them by hand");
      return replaced(text_,
                      {{map.begin, brackets.end, '{' + in_one_line(parts_, level, write_node(value), false) + '}'}});
    }
    const auto& last = map.entries.back();
    DE_TRY(const auto end, entry_end(text_, last, true));
    const auto begin = line_begin(text_, last.key_begin);
    const auto before = text_.substr(begin, last.key_begin - begin);
    const bool own_line = before.find_first_not_of(" \t") == std::string_view::npos && begin > map.begin;
    const auto added = in_one_line(parts_, level, write_node(value), text_[last.key_begin] == '"');
    return replaced(text_, {{end, end, own_line ? "," + line_break_ + std::string(before) + added : ", " + added}});
  }

  // A level that is there and holds nothing: `app:`.
  [[nodiscard]] Result<std::string> fill_empty(const Marked::Entry& entry, bool flow, std::size_t level,
                                               const Node& value) const {
    DE_TRY(const auto colon, colon_end(text_, entry, flow));
    DE_TRY(const auto end, entry_end(text_, entry, flow));
    if (!flow && end == colon) {
      return insert_after_line(colon, lines(level, column_of(entry.key_begin) + own_step(), value));
    }
    const bool quote = flow && text_[entry.key_begin] == '"';
    return replaced(text_, {{colon, end, " {" + in_one_line(parts_, level, write_node(value), quote) + '}'}});
  }

  [[nodiscard]] Result<std::string> replace(const Marked::Entry& entry, bool flow, const Node& value) const {
    const Marked& old = entry.value;
    DE_TRY(const auto colon, colon_end(text_, entry, flow));
    DE_TRY(const auto end, entry_end(text_, entry, flow));
    if (old.kind == Node::Kind::nothing) return replaced(text_, {{colon, end, ' ' + write_node(value)}});
    if (old.kind == Node::Kind::scalar) {
      if (!flow && goes_on_below(text_, old)) {
        return refused(text_, old.begin, "a text of several lines is not changed by line; edit it by hand");
      }
      return replaced(text_, {{old.begin, end, write_node(value)}});
    }
    if (old.flow) {
      DE_TRY(const auto brackets, brackets_end(text_, old.begin));
      if (brackets.comment) return refused(text_, old.begin, "there is a comment in these brackets; edit them by hand");
      return replaced(text_, {{old.begin, brackets.end, write_node(value)}});
    }
    if (old.kind == Node::Kind::list && value.kind == Node::Kind::list) return replace_items(old, colon, value);
    return refused(text_, entry.key_begin, "what stands here is not changed by line; edit it by hand");
  }

  // Items that stay keep their lines; the others' go, and new ones get lines of their own.
  [[nodiscard]] Result<std::string> replace_items(const Marked& old, std::size_t colon, const Node& value) const {
    const auto kept = common(old, value);
    std::vector<Replacement> changes;
    std::size_t next_new = 0;
    const auto dash = indent(column_of(old.begin)) + "- ";
    const auto add_until = [&](std::size_t until, std::size_t at) {
      std::string added;
      for (; next_new < until; ++next_new) added += dash + write_node(value.items[next_new]) + line_break_;
      if (!added.empty()) changes.push_back({at, at, added});
    };
    std::size_t after = 0;
    for (std::size_t i = 0; i < old.items.size(); ++i) {
      DE_TRY(const auto end, item_end(text_, old.items[i], column_of(old.begin)));
      const auto begin = line_begin(text_, old.items[i].begin);
      const auto lead = text_.substr(begin, old.items[i].begin - begin);
      if (lead.find_first_not_of(" -\t") != std::string_view::npos || std::ranges::count(lead, '-') != 1) {
        return refused(text_, old.items[i].begin, "this item is not changed by line; edit it by hand");
      }
      after = next_line(text_, end);
      if (kept[i]) {
        add_until(*kept[i], begin);
        next_new = *kept[i] + 1;
      } else {
        changes.push_back({begin, after, ""});
      }
    }
    if (value.items.empty()) changes.push_back({colon, colon, " []"});
    const bool complete = after > 0 && text_[after - 1] == '\n';
    const bool appended = next_new < value.items.size();
    add_until(value.items.size(), after);
    if (appended && !complete) {
      // The last line has no end: the new ones have none, too.
      auto& with = changes.back().with;
      with = (kept.back() ? line_break_ : "") + with.substr(0, with.size() - line_break_.size());
    }
    return replaced(text_, std::move(changes));
  }

  // For each old item the place of the same one in the new list, in a longest common sequence.
  static std::vector<std::optional<std::size_t>> common(const Marked& old, const Node& value) {
    const auto n = old.items.size(), m = value.items.size();
    std::vector<std::vector<std::uint16_t>> length(n + 1, std::vector<std::uint16_t>(m + 1, 0));
    for (std::size_t i = n; i-- > 0;) {
      for (std::size_t j = m; j-- > 0;) {
        length[i][j] = same_value(old.items[i], value.items[j]) ? static_cast<std::uint16_t>(length[i + 1][j + 1] + 1)
                                                                : std::max(length[i + 1][j], length[i][j + 1]);
      }
    }
    std::vector<std::optional<std::size_t>> kept(n);
    for (std::size_t i = 0, j = 0; i < n && j < m;) {
      if (same_value(old.items[i], value.items[j]))
        kept[i++] = j++;
      else if (length[i + 1][j] >= length[i][j + 1])
        ++i;
      else
        ++j;
    }
    return kept;
  }

  [[nodiscard]] Result<std::string> remove_lines(const Marked::Entry& entry) const {
    DE_TRY(const auto end, entry_end(text_, entry, false));
    const auto begin = line_begin(text_, entry.key_begin);
    if (text_.substr(begin, entry.key_begin - begin).find_first_not_of(" \t") != std::string_view::npos) {
      return refused(text_, entry.key_begin, "this key shares its line; edit it by hand");
    }
    return replaced(text_, {{begin, next_line(text_, end), ""}});
  }

  [[nodiscard]] Result<std::string> remove_in_brackets(const Marked& map, const Marked::Entry& entry) const {
    DE_TRY(const auto brackets, brackets_end(text_, map.begin));
    if (brackets.comment) return refused(text_, map.begin, "there is a comment in these brackets; edit them by hand");
    const auto place = static_cast<std::size_t>(&entry - map.entries.data());
    if (place + 1 < map.entries.size()) {
      return replaced(text_, {{entry.key_begin, map.entries[place + 1].key_begin, ""}});
    }
    DE_TRY(const auto end, entry_end(text_, entry, true));
    if (place == 0) return replaced(text_, {{entry.key_begin, end, ""}});
    DE_TRY(const auto before, entry_end(text_, map.entries[place - 1], true));
    return replaced(text_, {{before, end, ""}});
  }

  std::string_view text_;
  const Marked& root_;
  const std::vector<std::string_view> parts_;
  std::string line_break_;
};

Node* find_child(Node& map, std::string_view name) {
  const auto found = std::ranges::find(map.entries, name, [](const auto& entry) { return entry.first; });
  return found == map.entries.end() ? nullptr : &found->second;
}

// Levels that hold nothing count as not there.
void drop_empty(Node& node) {
  if (node.kind != Node::Kind::map) return;
  for (auto& [name, value] : node.entries) drop_empty(value);
  std::erase_if(node.entries, [](const auto& entry) {
    return entry.second.kind == Node::Kind::nothing ||
           (entry.second.kind == Node::Kind::map && entry.second.entries.empty());
  });
}

void put(Node& root, const std::vector<std::string_view>& parts, const Node* value) {
  Node* at = &root;
  for (std::size_t level = 0; level < parts.size(); ++level) {
    at->kind = Node::Kind::map;
    Node* child = find_child(*at, parts[level]);
    if (level + 1 == parts.size()) {
      if (value == nullptr)
        std::erase_if(at->entries, [&](const auto& entry) { return entry.first == parts[level]; });
      else if (child != nullptr)
        *child = *value;
      else
        at->entries.emplace_back(std::string(parts[level]), *value);
      return;
    }
    if (child == nullptr) {
      if (value == nullptr) return;
      at->entries.emplace_back(std::string(parts[level]), Node{});
      child = &at->entries.back().second;
    }
    at = child;
  }
}

std::string first_problem(const std::vector<YamlProblem>& problems) {
  return "line " + std::to_string(problems.front().line) + ": " + problems.front().message;
}

// Whatever the editor did: the new text must say what was wanted, and nothing else.
Result<std::string> changed(std::string_view whole, std::string_view key, const Node* value) {
  const bool marked = whole.starts_with(byte_order_mark);
  const auto text = marked ? whole.substr(byte_order_mark.size()) : whole;
  auto before = parse_yaml(text);
  if (!before) return fail(Errc::invalid_input, first_problem(before.error()));
  const auto lone = text.find('\r');
  if (lone != std::string_view::npos && (lone + 1 >= text.size() || text[lone + 1] != '\n')) {
    return refused(text, lone, "a carriage return alone ends no line here; edit it by hand");
  }
  DE_TRY(const auto marks, mark_yaml(text));
  const auto parts = base::split(key, '.');
  Editor editor(text, marks, parts);
  DE_TRY(auto edited, value != nullptr ? editor.set(*value) : editor.remove());
  auto after = parse_yaml(edited);
  put(*before, parts, value);
  const auto by_hand = [&](const std::string& why) {
    return fail(Errc::invalid_input,
                std::string(key) + " cannot be changed by line in this file (" + why + "); edit it by hand");
  };
  if (!after) return by_hand(first_problem(after.error()));
  drop_empty(*before);
  drop_empty(*after);
  const bool empty_both = before->entries.empty() && after->entries.empty();
  if (!empty_both && !same_value(*before, *after)) return by_hand("it would change more than that");
  return marked ? std::string(byte_order_mark) + edited : edited;
}

}  // namespace

Result<std::string> with_key_set(std::string_view text, std::string_view key, const Node& value) {
  return changed(text, key, &value);
}

Result<std::string> with_key_removed(std::string_view text, std::string_view key) {
  return changed(text, key, nullptr);
}

bool same_value(const Node& a, const Node& b) {
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Node::Kind::nothing: return true;
    case Node::Kind::scalar: return a.text == b.text && scalar_type(a) == scalar_type(b);
    case Node::Kind::list:
      return std::ranges::equal(a.items, b.items, [](const Node& x, const Node& y) { return same_value(x, y); });
    case Node::Kind::map: break;
  }
  return a.entries.size() == b.entries.size() && std::ranges::all_of(a.entries, [&](const auto& entry) {
           const auto mine = std::ranges::find(b.entries, entry.first, [](const auto& other) { return other.first; });
           return mine != b.entries.end() && same_value(entry.second, mine->second);
         });
}

std::string write_node(const Node& node) {
  std::string out;
  switch (node.kind) {
    case Node::Kind::nothing: return "~";
    case Node::Kind::scalar: {
      const auto type = scalar_type(node);
      const bool literal = type == ScalarType::boolean || type == ScalarType::integer || type == ScalarType::real ||
                           type == ScalarType::nothing;
      return literal ? (node.text.empty() ? "~" : node.text) : quote_yaml(node.text);
    }
    case Node::Kind::list:
      for (const auto& item : node.items) out += (out.empty() ? "" : ", ") + write_node(item);
      return '[' + out + ']';
    case Node::Kind::map: break;
  }
  for (const auto& [name, value] : node.entries) {
    out += (out.empty() ? "" : ", ") + quote_yaml(name) + ": " + write_node(value);
  }
  return '{' + out + '}';
}

const Node* find_node(const Node& root, std::string_view key) {
  const Node* at = &root;
  for (const auto part : base::split(key, '.')) {
    const auto found = std::ranges::find(at->entries, part, [](const auto& entry) { return entry.first; });
    if (found == at->entries.end()) return nullptr;
    at = &found->second;
  }
  return at;
}

}  // namespace daemoneye::config
