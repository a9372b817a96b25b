// alerting.sinks: common keys here, the others by the types that were registered.
#include <algorithm>

#include "base/text.h"
#include "config/schema.h"

namespace daemoneye::config {
namespace {

constexpr std::size_t max_sink_name_bytes = 64;
const std::vector<std::string> severities = {"low", "medium", "high", "critical"};
const std::vector<std::string> formats = {"auto", "json", "text"};

std::map<std::string, std::vector<SinkKey>>& registry() {
  static std::map<std::string, std::vector<SinkKey>> types;
  return types;
}

std::string join(const std::vector<std::string>& words) {
  std::string joined;
  for (const auto& word : words) joined += (joined.empty() ? "" : ", ") + word;
  return joined;
}

bool is_label(std::string_view text) {
  return !text.empty() && text.size() <= max_sink_name_bytes &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
             std::string_view::npos;
}

// Reads one element of the list; knows where it is and whether something was wrong.
class SinkReader {
 public:
  SinkReader(std::string prefix, const Node& node, const Report& report)
      : prefix_(std::move(prefix)), node_(node), report_(report) {}

  std::optional<SinkSettings> read() {
    if (node_.kind != Node::Kind::map) {
      problem(node_, "", "found " + describe(node_) + "; allowed: a map with type, name, min_severity, format");
      return std::nullopt;
    }
    read_type();
    for (const auto& [name, value] : node_.entries) read_entry(name, value);
    if (known_ != nullptr) check_required();
    if (sink_.name.empty()) sink_.name = sink_.type;
    if (!good_) return std::nullopt;
    return std::move(sink_);
  }

 private:
  void problem(const Node& node, const std::string& name, std::string message) {
    good_ = false;
    report_(node.line, name.empty() ? prefix_ : prefix_ + '.' + name, std::move(message));
  }

  void read_type() {
    const auto& types = registered_sink_types();
    const auto entry = std::ranges::find(node_.entries, "type", [](const auto& e) { return e.first; });
    if (entry == node_.entries.end()) {
      problem(node_, "type", "missing; allowed: " + allowed_types());
      return;
    }
    const auto& value = entry->second;
    if (value.kind != Node::Kind::scalar || !is_label(value.text)) {
      problem(value, "type", "found " + describe(value) + "; allowed: " + allowed_types());
      return;
    }
    sink_.type = value.text;
    if (types.empty()) return;
    if (const auto type = types.find(value.text); type != types.end()) {
      known_ = &type->second;
    } else {
      problem(value, "type", "found " + describe(value) + "; allowed: " + allowed_types());
    }
  }

  static std::string allowed_types() {
    std::vector<std::string> names;
    for (const auto& [name, keys] : registered_sink_types()) names.push_back(name);
    return names.empty() ? "a sink type" : join(names);
  }

  void read_entry(const std::string& name, const Node& value) {
    if (name == "type") return;
    if (name == "name") {
      if (value.kind == Node::Kind::scalar && is_label(value.text))
        sink_.name = value.text;
      else
        problem(value, name, "found " + describe(value) + "; allowed: letters, digits, '_', '.', '-'; at most 64");
    } else if (name == "min_severity") {
      read_choice(name, value, severities, sink_.min_severity);
    } else if (name == "format") {
      read_choice(name, value, formats, sink_.format);
    } else if (known_ != nullptr) {
      read_known(name, value);
    } else {
      read_unchecked(name, value);
    }
  }

  void read_choice(const std::string& name, const Node& value, const std::vector<std::string>& allowed,
                   std::string& into) {
    if (value.kind == Node::Kind::scalar && std::ranges::find(allowed, value.text) != allowed.end())
      into = value.text;
    else
      problem(value, name, "found " + describe(value) + "; allowed: " + join(allowed));
  }

  void read_known(const std::string& name, const Node& value) {
    const auto key = std::ranges::find(*known_, name, &SinkKey::name);
    if (key == known_->end()) {
      std::vector<std::string_view> names = {"type", "name", "min_severity", "format"};
      for (const auto& other : *known_) names.push_back(other.name);
      const auto near = base::nearest(name, names);
      std::string allowed;
      for (const auto other : names) allowed += (allowed.empty() ? "" : ", ") + std::string(other);
      problem(value, base::printable(name.substr(0, 64)),
              "unknown key of a " + sink_.type + " sink" +
                  (near.empty() ? "; allowed: " + allowed : "; did you mean " + std::string(near) + "?"));
      return;
    }
    if (key->secret) {
      read_secret(name, value);
      return;
    }
    const bool scalar = value.kind == Node::Kind::scalar && scalar_type(value) != ScalarType::nothing;
    const bool allowed = key->allowed.empty() || std::ranges::find(key->allowed, value.text) != key->allowed.end();
    if (scalar && allowed)
      sink_.options[name] = value.text;
    else
      problem(value, name,
              "found " + describe(value) + "; allowed: " + (key->allowed.empty() ? "a text" : join(key->allowed)));
  }

  // Never quotes what was found: it may be the secret itself.
  void read_secret(const std::string& name, const Node& value) {
    if (auto reference = secret_reference(value)) {
      sink_.secrets[name] = std::move(*reference);
    } else {
      problem(value, name, "a secret is given as {env: NAME} or {file: /PATH}, never inline (the value is not shown)");
    }
  }

  static std::optional<SecretReference> secret_reference(const Node& value) {
    if (value.kind != Node::Kind::map || value.entries.size() != 1) return std::nullopt;
    const auto& [how, where] = value.entries.front();
    if (where.kind != Node::Kind::scalar || where.text.empty()) return std::nullopt;
    if (how == "env" && where.text.find('=') == std::string::npos) {
      return SecretReference{SecretReference::Kind::env, where.text};
    }
    if (how == "file" && where.text.starts_with('/')) return SecretReference{SecretReference::Kind::file, where.text};
    return std::nullopt;
  }

  // A program that delivers nothing knows no types: it takes what it is given.
  void read_unchecked(const std::string& name, const Node& value) {
    if (value.kind == Node::Kind::map) {
      read_secret(name, value);
    } else if (value.kind == Node::Kind::scalar && scalar_type(value) != ScalarType::nothing) {
      sink_.options[name] = value.text;
    } else {
      problem(value, name, "found " + describe(value) + "; allowed: a text, {env: NAME} or {file: /PATH}");
    }
  }

  void check_required() {
    for (const auto& key : *known_) {
      const bool there = std::ranges::any_of(node_.entries, [&](const auto& e) { return e.first == key.name; });
      if (key.required && !there) {
        problem(node_, key.name, "missing; a " + sink_.type + " sink needs it (" + key.help + ")");
      }
    }
  }

  std::string prefix_;
  const Node& node_;
  const Report& report_;
  const std::vector<SinkKey>* known_ = nullptr;
  SinkSettings sink_;
  bool good_ = true;
};

}  // namespace

void register_sink_type(const std::string& type, std::vector<SinkKey> keys) { registry()[type] = std::move(keys); }

const std::map<std::string, std::vector<SinkKey>>& registered_sink_types() { return registry(); }

std::optional<Value> read_sinks(const Key& key, const Node& node, const Report& report) {
  if (node.kind != Node::Kind::list || std::ssize(node.items) > key.maximum) {
    const std::string what =
        node.kind == Node::Kind::list ? "a list of " + std::to_string(node.items.size()) : describe(node);
    report(node.line, key.name, "found " + what + "; allowed: " + allowed_text(key));
    return std::nullopt;
  }
  std::vector<SinkSettings> sinks;
  bool good = true;
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    const std::string prefix = key.name + '[' + std::to_string(i) + ']';
    auto sink = SinkReader(prefix, node.items[i], report).read();
    if (!sink) {
      good = false;
      continue;
    }
    if (std::ranges::find(sinks, sink->name, &SinkSettings::name) != sinks.end()) {
      report(node.items[i].line, prefix + ".name", "found '" + sink->name + "' a second time; names must differ");
      good = false;
      continue;
    }
    sinks.push_back(std::move(*sink));
  }
  if (!good) return std::nullopt;
  return sinks;
}

std::string write_sinks(const std::vector<SinkSettings>& sinks) {
  std::string out = "[";
  for (const auto& sink : sinks) {
    if (out.size() > 1) out += ", ";
    out += "{type: " + quote_yaml(sink.type) + ", name: " + quote_yaml(sink.name) +
           ", min_severity: " + sink.min_severity + ", format: " + sink.format;
    for (const auto& [name, value] : sink.options) out += ", " + quote_yaml(name) + ": " + quote_yaml(value);
    for (const auto& [name, secret] : sink.secrets) {
      const char* how = secret.kind == SecretReference::Kind::env ? "env" : "file";
      out += ", " + quote_yaml(name) + ": {" + how + ": " + quote_yaml(secret.where) + '}';
    }
    out += '}';
  }
  return out + ']';
}

}  // namespace daemoneye::config
