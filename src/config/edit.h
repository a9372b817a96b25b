// One key of a configuration file set or taken out, with every other byte of the file as it was: comments, order,
// quotes, line ends.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "config/yaml.h"

namespace daemoneye::config {

// `text`: a file's; an empty one is fine. `key`: "app.batch_size". `value`: what parse_yaml() made of the new value.
// The new text holds the same as the old one but for this key, or it is an error that names the line: what cannot be
// changed by line (an anchor, a text of several lines, a comment within brackets that would go) is refused.
Result<std::string> with_key_set(std::string_view text, std::string_view key, const Node& value);
// Without the key, and without the levels above it that hold nothing else and no comment. not_found: it is not there.
Result<std::string> with_key_removed(std::string_view text, std::string_view key);

// The same value, wherever it stands.
bool same_value(const Node& a, const Node& b);
// One line of YAML that reads back as this value.
std::string write_node(const Node& node);
// What stands at a path of keys; null: nothing.
const Node* find_node(const Node& root, std::string_view key);

}  // namespace daemoneye::config
