// The layers, weakest first: defaults, files, environment, --set. Everything wrong is collected before giving up.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "config/config.h"
#include "config/files.h"
#include "config/schema.h"
#include "config/yaml.h"

namespace daemoneye::config {
namespace {

constexpr std::string_view environment_prefix = "DAEMONEYE_";
constexpr std::size_t max_problems = 200;

std::map<std::string, Validator>& validators() {
  static std::map<std::string, Validator> all;
  return all;
}

// The stronger the later.
enum class Layer : std::uint8_t { system, bundle, user, environment, command_line };

struct Given {
  Value value;
  std::string origin;
  Layer layer = Layer::system;
};

class Loader {
 public:
  explicit Loader(const Sources& sources) : sources_(sources) {}

  std::expected<Loaded, std::vector<Problem>> run() {
    for (const auto& file : read_files(sources_, loaded_.notices, problems_)) {
      layer_ = file.of_user ? Layer::user : Layer::system;
      take_file(file);
    }
    layer_ = Layer::environment;
    take_environment();
    layer_ = Layer::command_line;
    take_set();
    // Last, because the others say where it is; what they gave and what is stronger stays.
    layer_ = Layer::bundle;
    take_bundle();
    fill();
    check_whole();
    if (problems_.empty()) return std::move(loaded_);
    if (problems_.size() > max_problems) {
      const auto more = problems_.size() - max_problems;
      problems_.resize(max_problems);
      problems_.push_back({"", "", std::to_string(more) + " more problems are not listed"});
    }
    return std::unexpected(std::move(problems_));
  }

 private:
  void problem(std::string place, const std::string& key, std::string message) {
    problems_.push_back({std::move(place), base::printable(key.substr(0, 128)), std::move(message)});
  }

  void take_bundle() {
    const auto given = given_.find("bundle.path");
    const auto path =
        (given == given_.end() ? default_bundle_path(sources_) : std::get<std::string>(given->second.value)) + '/' +
        bundle_folder_name + '/' + bundle_fragment_name;
    if (sources_.bundle_fragment) return take_file({path, *sources_.bundle_fragment});
    for (const auto& file : read_fragment(path, sources_, loaded_.notices, problems_)) take_file(file);
  }

  void take_file(const FileText& file) {
    const auto tree = parse_yaml(file.text);
    if (!tree) {
      for (const auto& bad : tree.error()) problem(file.path + ':' + std::to_string(bad.line), "", bad.message);
      return;
    }
    if (tree->kind == Node::Kind::nothing) return;
    if (tree->kind != Node::Kind::map) {
      problem(file.path + ':' + std::to_string(tree->line), "",
              "found " + describe(*tree) + "; allowed: a map of keys");
      return;
    }
    walk(file.path, "", *tree);
  }

  void walk(const std::string& path, const std::string& section, const Node& map) {
    for (const auto& [name, node] : map.entries) {
      const std::string full = section.empty() ? name : section + '.' + name;
      const std::string place = path + ':' + std::to_string(node.line);
      if (const Key* key = find_key(full); key != nullptr && name.find('.') == std::string::npos) {
        if (layer_ == Layer::bundle && is_own_of_machine(full))
          problem(place, full, "no bundle may set it: it is the machine's own");
        else
          give(*key, node, path, true);
      } else if (is_section(full) && name.find('.') == std::string::npos) {
        if (node.kind == Node::Kind::map)
          walk(path, full, node);
        else if (node.kind != Node::Kind::nothing && scalar_type(node) != ScalarType::nothing) {
          problem(place, full, "found " + describe(node) + "; allowed: a map of keys");
        }
      } else if (key != nullptr || is_section(full)) {
        problem(place, full, "unknown key: write the levels below each other, without dots");
      } else {
        problem(place, full, "unknown key" + hint_for_unknown(full));
      }
    }
  }

  // `place` is a file, to which the line is added, or the whole place.
  void give(const Key& key, const Node& node, const std::string& place, bool is_file) {
    const auto where = [&](unsigned line) { return is_file ? place + ':' + std::to_string(line) : place; };
    auto value = read_value(key, node, [&](unsigned line, const std::string& name, std::string message) {
      problem(where(line), name, std::move(message));
    });
    if (!value || !validate(key, *value, where(node.line))) return;
    const auto known = given_.find(key.name);
    if (known != given_.end() && known->second.layer > layer_) return;
    given_.insert_or_assign(key.name, Given{std::move(*value), where(node.line), layer_});
  }

  bool validate(const Key& key, const Value& value, const std::string& place) {
    const auto validator = validators().find(key.name);
    if (validator == validators().end()) return true;
    bool good = true;
    const auto check = [&](const std::string& name, const std::string& text) {
      if (const auto result = validator->second(text); !result) {
        problem(place, name, result.error().message);
        good = false;
      }
    };
    if (const auto* text = std::get_if<std::string>(&value)) check(key.name, *text);
    if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
      for (std::size_t i = 0; i < texts->size(); ++i) check(key.name + '[' + std::to_string(i) + ']', (*texts)[i]);
    }
    return good;
  }

  void take_environment() {
    std::map<std::string, const Key*> by_variable;
    std::vector<std::string_view> names;
    for (const Key& key : schema()) by_variable.emplace(environment_name(key.name), &key);
    for (const auto& [name, key] : by_variable) names.push_back(name);
    for (const auto& [name, text] : sources_.environment) {
      if (!name.starts_with(environment_prefix)) continue;
      const auto key = by_variable.find(name);
      if (key == by_variable.end()) {
        const auto near = base::nearest(name, names);
        problem(base::printable(name.substr(0, 128)), "",
                "no such key" + (near.empty() ? std::string("; write DAEMONEYE_, the key in capitals, '__' between "
                                                            "levels: DAEMONEYE_APP__BATCH_SIZE")
                                              : "; did you mean " + std::string(near) + "?"));
      } else {
        give_text(*key->second, text, name);
      }
    }
  }

  void take_set() {
    for (const auto& entry : sources_.set) {
      const auto equals = entry.find('=');
      if (equals == std::string::npos) {
        problem("--set", base::printable(entry.substr(0, 128)), "found no '='; allowed: key=value");
        continue;
      }
      const std::string name(base::trim(std::string_view(entry).substr(0, equals)));
      if (const Key* key = find_key(name))
        give_text(*key, entry.substr(equals + 1), "--set");
      else if (is_section(name))
        problem("--set", name, "has keys of its own: set one of them" + keys_below(name));
      else
        problem("--set", name, "unknown key" + hint_for_unknown(name));
    }
  }

  static std::string keys_below(const std::string& section) {
    std::string names;
    for (const auto child : children(section)) {
      names += (names.empty() ? " (" : ", ") + section + '.' + std::string(child);
    }
    return names + ')';
  }

  void give_text(const Key& key, const std::string& text, const std::string& place) {
    const auto tree = parse_yaml(text);
    if (tree) {
      give(key, *tree, place, false);
      return;
    }
    for (const auto& bad : tree.error()) problem(place, key.name, bad.message + "; allowed: " + allowed_text(key));
  }

  void fill() {
    for (const Key& key : schema()) {
      if (auto found = given_.find(key.name); found != given_.end()) {
        key.set(loaded_.settings, std::move(found->second.value));
        loaded_.origin[key.name] = found->second.origin;
        continue;
      }
      loaded_.origin[key.name] = "default";
      if (!key.follow) {
        key.set(loaded_.settings, key.fallback);
      } else if (auto value = key.follow(loaded_.settings, sources_)) {
        key.set(loaded_.settings, std::move(*value));
      } else {
        problem("default", key.name, value.error().message);
      }
    }
  }

  void check_whole() {
    const auto& settings = loaded_.settings;
    if (!settings.database.path.empty() && settings.database.path == settings.audit.path) {
      problem(loaded_.origin["audit.path"], "audit.path",
              "found " + settings.audit.path + ", which is database.path too; they must differ");
    }
  }

  const Sources& sources_;
  Loaded loaded_{};
  std::vector<Problem> problems_;
  std::map<std::string, Given> given_;
  Layer layer_ = Layer::system;
};

}  // namespace

std::string to_string(const Problem& problem) {
  std::string text = base::printable(problem.place);
  if (!problem.key.empty()) text += (text.empty() ? "" : ": ") + problem.key;
  return text + (text.empty() ? "" : ": ") + problem.message;
}

std::string default_bundle_path(const Sources& sources) { return sources.etc + "/bundle"; }

std::string bundle_folder(const Settings& settings) { return settings.bundle.path + '/' + bundle_folder_name; }

std::vector<std::string> rule_folders(const Settings& settings) {
  auto folders = settings.detection.rule_paths;
  folders.push_back(bundle_folder(settings));
  return folders;
}

bool is_own_of_machine(std::string_view key) {
  static constexpr std::array own = {"app.user", "app.collector_user", "app.state_dir", "database.path",
                                     "ipc.socket_path"};
  return key.starts_with("bundle.") || key.starts_with("audit.") || std::ranges::find(own, key) != own.end();
}

std::expected<Loaded, std::vector<Problem>> load(const Sources& sources) { return Loader(sources).run(); }

void register_validator(const std::string& key, Validator validator) { validators()[key] = std::move(validator); }

}  // namespace daemoneye::config
