// YAML text as a small tree with lines. Stricter than YAML: one document, no aliases, no tags, no merge keys,
// no key twice, bounded size and depth. Used for files, environment values and --set values alike.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace daemoneye::config {

inline constexpr std::size_t max_file_bytes = 1024 * 1024;
inline constexpr std::size_t max_nodes = 20000;
inline constexpr std::size_t max_depth = 16;
inline constexpr std::size_t max_text_bytes = 4096;  // one value

struct Node {
  enum class Kind { nothing, scalar, list, map };
  Kind kind = Kind::nothing;
  unsigned line = 1;
  std::string text = {};                                   // scalar
  bool plain = false;                                      // scalar without quotes: may be a number or a boolean
  std::vector<Node> items = {};                            // list
  std::vector<std::pair<std::string, Node>> entries = {};  // map; the node's line is its key's
};

struct YamlProblem {
  unsigned line = 1;
  std::string message;
};

// An empty text gives a `nothing` node.
std::expected<Node, std::vector<YamlProblem>> parse_yaml(std::string_view text);

// What a plain scalar is, by YAML 1.2's core schema (so `off` and `yes` are texts).
enum class ScalarType { nothing, boolean, integer, real, text };
ScalarType scalar_type(const Node& scalar);
// "the number 5", "the text 'abc'", "a list", "nothing": bounded and printable.
std::string describe(const Node& node);

// One line of YAML that reads back as this text.
std::string quote_yaml(std::string_view text);

}  // namespace daemoneye::config
