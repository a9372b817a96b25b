// alerting.sinks: common keys here, the others by the types that were registered.
#include <algorithm>

#include "base/text.h"
#include "config/schema.h"
#include "config/sink_routing.h"

namespace daemoneye::config {
namespace {

constexpr std::size_t max_sink_name_bytes = 64;
constexpr std::size_t max_list_items = 64;  // of a list or a map that a sink's key holds
const std::vector<std::string> severities = {"low", "medium", "high", "critical"};
const std::vector<std::string_view> common_keys = {"type", "name",       "min_severity", "rules",
                                                   "tags", "rate_limit", "format",       "template"};
constexpr const char* secret_forms = "{env: NAME}, {file: /PATH} or {credential: NAME}";

std::map<std::string, SinkTypeKeys>& registry() {
  static std::map<std::string, SinkTypeKeys> types;
  return types;
}

std::string join(const std::vector<std::string>& words) {
  std::string joined;
  for (const auto& word : words) joined += (joined.empty() ? "" : ", ") + word;
  return joined;
}

bool is_plain_text(const Node& value) {
  return value.kind == Node::Kind::scalar && scalar_type(value) != ScalarType::nothing;
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
    if (good_ && known_ != nullptr && known_->check) {
      if (auto fits = known_->check(sink_); !fits) problem(node_, "", fits.error().message);
    }
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
      read_choice(name, value, sink_formats(), sink_.format);
    } else if (name == "template") {
      if (is_plain_text(value) && !value.text.empty())
        sink_.text_template = value.text;
      else
        problem(value, name, "found " + describe(value) + "; allowed: a text");
    } else if (read_routing(name, value, sink_, [this](const Node& node, const std::string& key, std::string message) {
                 problem(node, key, std::move(message));
               })) {
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
    const auto key = std::ranges::find(known_->keys, name, &SinkKey::name);
    if (key == known_->keys.end()) {
      std::vector<std::string_view> names = common_keys;
      for (const auto& other : known_->keys) names.push_back(other.name);
      const auto near = base::nearest(name, names);
      std::string allowed;
      for (const auto other : names) allowed += (allowed.empty() ? "" : ", ") + std::string(other);
      problem(value, base::printable(name.substr(0, 64)),
              "unknown key of a " + sink_.type + " sink" +
                  (near.empty() ? "; allowed: " + allowed : "; did you mean " + std::string(near) + "?"));
      return;
    }
    if (key->kind == SinkKey::Kind::list) {
      read_list(*key, value);
    } else if (key->kind == SinkKey::Kind::map) {
      read_map(*key, value);
    } else if (key->secret || (key->may_be_secret && value.kind == Node::Kind::map)) {
      read_secret(name, value);
    } else if (is_plain_text(value) && fits(*key, value.text)) {
      if (passes(*key, name, value, value.text)) sink_.options[name] = value.text;
    } else {
      problem(value, name, "found " + describe(value) + "; allowed: " + allowed_text(*key));
    }
  }

  static bool fits(const SinkKey& key, const std::string& text) {
    if (key.kind == SinkKey::Kind::number) {
      const auto number = base::parse_integer<std::int64_t>(text);
      return number && *number >= key.minimum && *number <= key.maximum;
    }
    if (key.file != SinkKey::File::none && !text.starts_with('/')) return false;
    return key.allowed.empty() || std::ranges::find(key.allowed, text) != key.allowed.end();
  }

  bool passes(const SinkKey& key, const std::string& name, const Node& value, const std::string& text) {
    if (!key.check) return true;
    if (auto checked = key.check(text); !checked) {
      problem(value, name, checked.error().message);
      return false;
    }
    return true;
  }

  // One text stands for a list of one.
  void read_list(const SinkKey& key, const Node& value) {
    std::vector<const Node*> items;
    if (value.kind == Node::Kind::list) {
      for (const auto& item : value.items) items.push_back(&item);
    } else {
      items.push_back(&value);
    }
    if (items.empty() || items.size() > max_list_items ||
        !std::ranges::all_of(items, [](const Node* item) { return is_plain_text(*item); })) {
      problem(value, key.name, "found " + describe(value) + "; allowed: " + allowed_text(key));
      return;
    }
    auto& list = sink_.lists[key.name];
    for (const Node* item : items) {
      if (passes(key, key.name, *item, item->text)) list.push_back(item->text);
    }
  }

  void read_map(const SinkKey& key, const Node& value) {
    if (value.kind != Node::Kind::map || value.entries.size() > max_list_items) {
      problem(value, key.name, "found " + describe(value) + "; allowed: " + allowed_text(key));
      return;
    }
    for (const auto& [entry, text] : value.entries) {
      const std::string name = key.name + '.' + entry;
      if (key.may_be_secret && text.kind == Node::Kind::map) {
        if (passes(key, key.name, text, entry + ": secret")) read_secret(name, text);
      } else if (!is_plain_text(text)) {
        problem(text, key.name + '.' + base::printable(entry.substr(0, 64)),
                "found " + describe(text) + "; allowed: a text" +
                    (key.may_be_secret ? ", " + std::string(secret_forms) : std::string()));
      } else if (passes(key, key.name, text, entry + ": " + text.text)) {
        sink_.options[name] = text.text;
      }
    }
  }

  // Never quotes what was found: it may be the secret itself.
  void read_secret(const std::string& name, const Node& value) {
    if (auto reference = secret_reference(value)) {
      sink_.secrets[name] = std::move(*reference);
    } else {
      problem(value, base::printable(name.substr(0, 128)),
              "a secret is given as " + std::string(secret_forms) + ", never inline (the value is not shown)");
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
    if (how == "credential" && where.text.find('/') == std::string::npos && where.text != "." && where.text != "..") {
      return SecretReference{SecretReference::Kind::credential, where.text};
    }
    return std::nullopt;
  }

  // A program that delivers nothing knows no types: it takes what it is given.
  void read_unchecked(const std::string& name, const Node& value) {
    const SinkKey any{.name = name, .may_be_secret = true};
    if (name.find('.') != std::string::npos) {
      problem(value, base::printable(name.substr(0, 64)), "no key of a sink has a dot in its name");
    } else if (value.kind == Node::Kind::list) {
      read_list(any, value);
    } else if (secret_reference(value)) {
      read_secret(name, value);
    } else if (value.kind == Node::Kind::map && !value.entries.empty() &&
               std::ranges::all_of(value.entries, [](const auto& entry) {
                 return is_plain_text(entry.second) || secret_reference(entry.second);
               })) {
      read_map(any, value);
    } else if (value.kind == Node::Kind::map) {
      read_secret(name, value);
    } else if (is_plain_text(value)) {
      sink_.options[name] = value.text;
    } else {
      problem(value, name, "found " + describe(value) + "; allowed: a text, a list, " + secret_forms);
    }
  }

  void check_required() {
    for (const auto& key : known_->keys) {
      const bool there = std::ranges::any_of(node_.entries, [&](const auto& e) { return e.first == key.name; });
      if (key.required && !there) {
        problem(node_, key.name, "missing; a " + sink_.type + " sink needs it (" + key.help + ")");
      }
    }
  }

  std::string prefix_;
  const Node& node_;
  const Report& report_;
  const SinkTypeKeys* known_ = nullptr;
  SinkSettings sink_;
  bool good_ = true;
};

}  // namespace

void register_sink_type(const std::string& type, std::vector<SinkKey> keys, SinkCheck check) {
  registry()[type] = {std::move(keys), std::move(check)};
}

const std::map<std::string, SinkTypeKeys>& registered_sink_types() { return registry(); }

const std::vector<std::string>& sink_formats() {
  static const std::vector<std::string> formats = {"auto", "json", "ecs", "ocsf", "cef", "text", "template"};
  return formats;
}

std::string allowed_text(const SinkKey& key) {
  if (key.secret) return secret_forms;
  std::string text = "a text";
  if (key.kind == SinkKey::Kind::number) {
    text = "an integer from " + std::to_string(key.minimum) + " to " + std::to_string(key.maximum);
  } else if (key.kind == SinkKey::Kind::list) {
    text = "a list of 1 to " + std::to_string(max_list_items) + " texts";
  } else if (key.kind == SinkKey::Kind::map) {
    text = "a map of at most " + std::to_string(max_list_items) + " texts";
  } else if (!key.allowed.empty()) {
    text = join(key.allowed);
  } else if (key.file != SinkKey::File::none) {
    text = "an absolute path";
  }
  return key.may_be_secret ? text + ", or " + secret_forms : text;
}

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

namespace {

std::string written(const SecretReference& secret) {
  const char* how = secret.kind == SecretReference::Kind::env    ? "env"
                    : secret.kind == SecretReference::Kind::file ? "file"
                                                                 : "credential";
  return std::string("{") + how + ": " + quote_yaml(secret.where) + '}';
}

// Key -> its value as YAML; the entries of a map are together again.
std::map<std::string, std::string> values_of(const SinkSettings& sink) {
  std::map<std::string, std::string> values;
  std::map<std::string, std::string> maps;
  const auto put = [&](const std::string& name, const std::string& value) {
    const auto dot = name.find('.');
    if (dot == std::string::npos) {
      values[name] = value;
      return;
    }
    auto& map = maps[name.substr(0, dot)];
    map += (map.empty() ? "" : ", ") + quote_yaml(name.substr(dot + 1)) + ": " + value;
  };
  for (const auto& [name, value] : sink.options) put(name, quote_yaml(value));
  for (const auto& [name, secret] : sink.secrets) put(name, written(secret));
  for (const auto& [name, list] : sink.lists) {
    std::string text;
    for (const auto& item : list) text += (text.empty() ? "" : ", ") + quote_yaml(item);
    put(name, '[' + text + ']');
  }
  for (const auto& [name, map] : maps) values[name] = '{' + map + '}';
  return values;
}

}  // namespace

std::string write_sinks(const std::vector<SinkSettings>& sinks) {
  std::string out = "[";
  for (const auto& sink : sinks) {
    if (out.size() > 1) out += ", ";
    out += "{type: " + quote_yaml(sink.type) + ", name: " + quote_yaml(sink.name) +
           ", min_severity: " + sink.min_severity + ", format: " + sink.format;
    out += write_routing(sink);
    if (!sink.text_template.empty()) out += ", template: " + quote_yaml(sink.text_template);
    for (const auto& [name, value] : values_of(sink)) out += ", " + quote_yaml(name) + ": " + value;
    out += '}';
  }
  return out + ']';
}

}  // namespace daemoneye::config
