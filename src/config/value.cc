// One value: from a node of YAML to what the schema wants, and back.
#include <algorithm>

#include "base/text.h"
#include "config/schema.h"

namespace daemoneye::config {
namespace {

constexpr std::size_t max_path_bytes = 4095;
constexpr std::size_t max_name_bytes = 32;

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string joined;
  for (const auto& word : words) joined += (joined.empty() ? "" : std::string(separator)) + word;
  return joined;
}

bool has_control_character(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::string found(const Node& node, std::string_view allowed) {
  return "found " + describe(node) + "; allowed: " + std::string(allowed);
}

bool is_text(const Node& node) { return node.kind == Node::Kind::scalar && scalar_type(node) == ScalarType::text; }

// A text that should have been written in quotes.
std::string quote_hint(const Node& node) {
  const auto type = scalar_type(node);
  const bool looks_like_other = type == ScalarType::integer || type == ScalarType::real || type == ScalarType::boolean;
  return looks_like_other ? " (a text that looks like this needs quotes)" : "";
}

std::optional<std::int64_t> read_integer(const Key& key, const Node& node, const Report& report) {
  if (node.kind == Node::Kind::scalar && scalar_type(node) == ScalarType::integer) {
    std::string_view digits = node.text;
    if (digits.starts_with('+')) digits.remove_prefix(1);
    const auto number = base::parse_integer<std::int64_t>(digits);
    if (number && *number >= key.minimum && *number <= key.maximum) return number;
  }
  report(node.line, key.name, found(node, allowed_text(key)));
  return std::nullopt;
}

std::optional<std::string> read_path(const std::string& name, const Node& node, const Report& report,
                                     std::string_view allowed, std::string_view suffix) {
  if (!is_text(node)) {
    report(node.line, name, found(node, allowed) + quote_hint(node));
    return std::nullopt;
  }
  std::string path = node.text;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (!path.starts_with('/') || path.size() > max_path_bytes || has_control_character(path) ||
      !path.ends_with(suffix)) {
    report(node.line, name, found(node, allowed));
    return std::nullopt;
  }
  return path;
}

std::optional<std::string> read_user_name(const Key& key, const Node& node, const Report& report) {
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  constexpr std::string_view others = "0123456789-.";
  const auto fits = [&](const std::string& name) {
    return !name.empty() && name.size() <= max_name_bytes && letters.contains(name.front()) &&
           std::ranges::all_of(name, [&](char c) { return letters.contains(c) || others.contains(c); });
  };
  if (is_text(node) && fits(node.text)) return node.text;
  report(node.line, key.name, found(node, allowed_text(key)) + quote_hint(node));
  return std::nullopt;
}

// Empty for off; else "host:port".
std::optional<std::string> read_address(const Key& key, const Node& node, const Report& report) {
  if (node.kind == Node::Kind::scalar && node.text == "off") return std::string();
  if (node.kind == Node::Kind::scalar) {
    const auto colon = node.text.rfind(':');
    const std::string host = colon == std::string::npos ? "127.0.0.1" : node.text.substr(0, colon);
    const auto port = base::parse_integer<std::uint16_t>(
        colon == std::string::npos ? std::string_view(node.text) : std::string_view(node.text).substr(colon + 1));
    // An IPv6 address stands in brackets, so that its colons are not taken for the port's.
    const bool bracketed = host.starts_with('[') && host.ends_with(']');
    const bool host_ok = !host.empty() && host.size() <= 255 && !has_control_character(host) &&
                         host.find(' ') == std::string::npos && (bracketed || host.find(':') == std::string::npos);
    if (port && *port != 0 && host_ok) return host + ':' + std::to_string(*port);
  }
  report(node.line, key.name, found(node, allowed_text(key)));
  return std::nullopt;
}

std::optional<Value> read_list(const Key& key, const Node& node, const Report& report) {
  if (node.kind != Node::Kind::list || std::ssize(node.items) > key.maximum) {
    const std::string what =
        node.kind == Node::Kind::list ? "a list of " + std::to_string(node.items.size()) : describe(node);
    report(node.line, key.name, "found " + what + "; allowed: " + allowed_text(key));
    return std::nullopt;
  }
  std::vector<std::string> texts;
  bool good = true;
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    const Node& item = node.items[i];
    const std::string name = key.name + '[' + std::to_string(i) + ']';
    if (key.kind == Kind::paths) {
      auto path = read_path(name, item, report, "an absolute path", "");
      good = good && path;
      if (path) texts.push_back(std::move(*path));
    } else if (is_text(item) && !item.text.empty() && !has_control_character(item.text)) {
      texts.push_back(item.text);
    } else {
      report(item.line, name, found(item, "a text of one line") + quote_hint(item));
      good = false;
    }
  }
  if (!good) return std::nullopt;
  return texts;
}

}  // namespace

std::string allowed_text(const Key& key) {
  switch (key.kind) {
    case Kind::integer:
      return "an integer from " + std::to_string(key.minimum) + " to " + std::to_string(key.maximum) +
             (key.unit.empty() ? "" : " (" + key.unit + ")");
    case Kind::boolean: return "true or false";
    case Kind::name: return "a user name";
    case Kind::path:
      return std::string("an absolute path") + (key.suffix.empty() ? "" : " that ends in " + key.suffix) +
             (key.may_be_off ? ", or off" : "");
    case Kind::address: return "off, PORT or HOST:PORT";
    case Kind::choice: return join(key.choices, ", ");
    case Kind::texts: return "a list of at most " + std::to_string(key.maximum) + " texts";
    case Kind::paths: return "a list of at most " + std::to_string(key.maximum) + " absolute paths";
    case Kind::sinks: return "a list of at most " + std::to_string(key.maximum) + " maps, each with a type";
  }
  return {};
}

std::optional<Value> read_value(const Key& key, const Node& node, const Report& report) {
  switch (key.kind) {
    case Kind::integer: return read_integer(key, node, report);
    case Kind::boolean:
      if (node.kind == Node::Kind::scalar && scalar_type(node) == ScalarType::boolean) {
        return node.text.front() == 't' || node.text.front() == 'T';
      }
      break;
    case Kind::name: return read_user_name(key, node, report);
    case Kind::path:
      if (key.may_be_off && is_text(node) && node.text == "off") return std::string();
      return read_path(key.name, node, report, allowed_text(key), key.suffix);
    case Kind::address: return read_address(key, node, report);
    case Kind::choice:
      if (node.kind == Node::Kind::scalar && std::ranges::find(key.choices, node.text) != key.choices.end()) {
        return node.text;
      }
      break;
    case Kind::texts:
    case Kind::paths: return read_list(key, node, report);
    case Kind::sinks: return read_sinks(key, node, report);
  }
  report(node.line, key.name, found(node, allowed_text(key)));
  return std::nullopt;
}

std::string write_value(const Key& key, const Value& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  if (const auto* sinks = std::get_if<std::vector<SinkSettings>>(&value)) return write_sinks(*sinks);
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    std::string out = "[";
    for (const auto& text : *texts) out += (out.size() > 1 ? ", " : "") + quote_yaml(text);
    return out + ']';
  }
  const auto& text = std::get<std::string>(value);
  if (text.empty() && (key.kind == Kind::address || key.may_be_off)) return "off";
  return quote_yaml(text);
}

}  // namespace daemoneye::config
