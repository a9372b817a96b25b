#include "config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <sstream>

#include "base/text.h"

namespace daemoneye::config {
namespace {

// Thrown to leave the parser early; caught in parse_yaml().
struct TooMuch {
  YamlProblem problem;
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  std::vector<YamlProblem> problems;
  Node root;
  std::size_t documents = 0;

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents > 1) throw TooMuch{{line(mark), "a second YAML document; one is allowed"}};
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add({.line = line(mark)}); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    problems.push_back({line(mark), "YAML aliases are not accepted; write the value out"});
    add({.line = line(mark)});
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    check_tag(mark, tag);
    if (value.size() > max_text_bytes) {
      problems.push_back({line(mark), "a text of " + std::to_string(value.size()) + " bytes; at most " +
                                          std::to_string(max_text_bytes) + " are allowed"});
      add({.line = line(mark)});
      return;
    }
    add({.kind = Node::Kind::scalar, .line = line(mark), .text = value, .plain = tag == "?"});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    check_tag(mark, tag);
    open({.kind = Node::Kind::list, .line = line(mark)});
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    check_tag(mark, tag);
    open({.kind = Node::Kind::map, .line = line(mark)});
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node node;
    std::optional<Node> key;
  };

  static unsigned line(const YAML::Mark& mark) { return static_cast<unsigned>(std::max(mark.line, 0)) + 1; }

  void check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") {
      problems.push_back({line(mark), "YAML tags are not accepted: " + base::printable(tag.substr(0, 64))});
    }
  }
  void open(Node node) {
    if (stack_.size() >= max_depth) {
      throw TooMuch{{node.line, "nested deeper than " + std::to_string(max_depth) + " levels"}};
    }
    stack_.push_back({std::move(node), std::nullopt});
  }
  void close() {
    Node node = std::move(stack_.back().node);
    stack_.pop_back();
    add(std::move(node));
  }
  void add(Node node) {
    if (++nodes_ > max_nodes) throw TooMuch{{node.line, "more than " + std::to_string(max_nodes) + " values"}};
    if (stack_.empty()) {
      root = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind == Node::Kind::list) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      parent.key = std::move(node);
    } else {
      add_entry(parent, std::move(node));
    }
  }
  void add_entry(Open& parent, Node value) {
    const Node key = *std::exchange(parent.key, std::nullopt);
    if (key.kind != Node::Kind::scalar) {
      problems.push_back({key.line, "a key must be a text, found " + describe(key)});
      return;
    }
    auto& entries = parent.node.entries;
    const auto same = std::ranges::find(entries, key.text, [](const auto& entry) { return entry.first; });
    if (same != entries.end()) {
      problems.push_back({key.line, "the key '" + base::printable(key.text.substr(0, 64)) +
                                        "' is there twice; first in line " + std::to_string(same->second.line)});
      return;
    }
    value.line = key.line;
    entries.emplace_back(key.text, std::move(value));
  }

  std::vector<Open> stack_;
  std::size_t nodes_ = 0;
};

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_real(std::string_view text) {
  if (text == ".inf" || text == ".nan" || text == "-.inf") return true;
  if (text.find_first_not_of("0123456789+-.eE") != std::string_view::npos) return false;
  double value = 0;
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error != std::errc::invalid_argument && end == text.data() + text.size();
}

}  // namespace

std::expected<Node, std::vector<YamlProblem>> parse_yaml(std::string_view text) {
  if (text.size() > max_file_bytes) {
    return std::unexpected(std::vector<YamlProblem>{{1, "larger than " + std::to_string(max_file_bytes) + " bytes"}});
  }
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    return std::unexpected(std::vector<YamlProblem>{
        {static_cast<unsigned>(std::ranges::count(text.substr(0, nul), '\n')) + 1, "a NUL byte: not a text file"}});
  }
  if (base::to_valid_utf8(text) != text) return std::unexpected(std::vector<YamlProblem>{{1, "not valid UTF-8"}});
  TreeBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const TooMuch& too_much) {
    builder.problems.push_back(too_much.problem);
  } catch (const YAML::Exception& error) {
    const unsigned line = error.mark.is_null() ? 1 : static_cast<unsigned>(std::max(error.mark.line, 0)) + 1;
    builder.problems.push_back({line, "not YAML: " + base::printable(error.msg)});
  }
  if (!builder.problems.empty()) return std::unexpected(std::move(builder.problems));
  return std::move(builder.root);
}

ScalarType scalar_type(const Node& scalar) {
  if (scalar.kind != Node::Kind::scalar) return ScalarType::nothing;
  if (!scalar.plain) return ScalarType::text;
  const std::string& text = scalar.text;
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return ScalarType::nothing;
  for (const auto* word : {"true", "True", "TRUE", "false", "False", "FALSE"}) {
    if (text == word) return ScalarType::boolean;
  }
  std::string_view digits = text;
  if (digits.starts_with('-') || digits.starts_with('+')) digits.remove_prefix(1);
  if (all_digits(digits)) return ScalarType::integer;
  return is_real(text) ? ScalarType::real : ScalarType::text;
}

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::nothing: return "nothing";
    case Node::Kind::list: return "a list";
    case Node::Kind::map: return "a map";
    case Node::Kind::scalar: break;
  }
  constexpr std::size_t shown = 80;
  const std::string text =
      base::printable(std::string_view(node.text).substr(0, shown)) + (node.text.size() > shown ? "…" : "");
  switch (scalar_type(node)) {
    case ScalarType::nothing: return "nothing";
    case ScalarType::boolean: return text;
    case ScalarType::integer:
    case ScalarType::real: return "the number " + text;
    case ScalarType::text: break;
  }
  return "the text '" + text + "'";
}

std::string quote_yaml(std::string_view text) {
  constexpr std::string_view safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
  const bool plain_characters = !text.empty() && text.find_first_not_of(safe) == std::string_view::npos;
  const Node as_plain{.kind = Node::Kind::scalar, .text = std::string(text), .plain = true};
  // A leading '-' or '.' can begin other YAML ("---", "- item").
  if (plain_characters && text.front() != '-' && text.front() != '.' && scalar_type(as_plain) == ScalarType::text) {
    return std::string(text);
  }
  return base::json_quote(text);
}

}  // namespace daemoneye::config
