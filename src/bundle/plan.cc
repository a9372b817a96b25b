#include "bundle/plan.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/text.h"
#include "detect/rule.h"

namespace daemoneye::bundle {
namespace {

// What packages bring is there to be overridden; what stands elsewhere somebody put there.
constexpr std::string_view shipped = "/usr/";

// A folder to look at files in, as the programs do.
class LookingGlass {
 public:
  LookingGlass() {
    std::error_code error;
    auto name = (std::filesystem::temp_directory_path(error) / "daemoneye-bundle-XXXXXX").string();
    if (!error && ::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~LookingGlass() {
    std::error_code ignored;  // what stays in the temporary folder does no harm
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  LookingGlass(const LookingGlass&) = delete;
  LookingGlass& operator=(const LookingGlass&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

config::Sources with_fragment(config::Sources sources, std::string text) {
  sources.bundle_fragment = std::move(text);
  return sources;
}

std::string brief(const std::string& text) { return base::to_hex(base::sha256(text)).substr(0, 12); }

const std::string* fragment_of(const Bundle& bundle) {
  for (const auto& file : bundle.files) {
    if (file.path == configuration_path) return &file.content;
  }
  return nullptr;
}

// Of its file. A version would tell of local exceptions and switches, too, which stay as they are.
std::string text_of(const detect::Rule& rule) {
  return base::read_file(rule.file, detect::max_rule_file_bytes).value_or("");
}

std::string in_bundle(const std::string& path) { return "in the bundle, " + path; }

class Planner {
 public:
  Planner(const Bundle& bundle, const Site& site) : bundle_(bundle), site_(site) {}

  std::expected<Plan, Problems> run(std::optional<InForce> before) {
    plan_.before = std::move(before);
    plan_.in_force.id = bundle_.manifest.id;
    plan_.in_force.version = bundle_.manifest.version;
    plan_.in_force.digest = base::to_hex(bundle_.digest);
    plan_.in_force.signer = bundle_.signer;
    rules();
    exceptions();
    configuration();
    if (!problems_.empty()) return std::unexpected(std::move(problems_));
    std::ranges::sort(plan_.changes, {}, [](const Change& change) { return std::pair(change.kind, change.name); });
    return std::move(plan_);
  }

 private:
  void rules() {
    const auto own = detect::load_rules(site_.settings.detection.rule_paths);
    const auto current = detect::load_rules({config::bundle_folder(site_.settings)});
    std::map<std::string, const detect::Rule*> own_rules, current_rules;
    for (const auto& rule : own.rules) own_rules[rule.rule.id] = &rule.rule;
    for (const auto& rule : current.rules) current_rules[rule.rule.id] = &rule.rule;
    for (const auto& file : bundle_.files) {
      if (kind_of(file.path) != FileKind::rule) continue;
      const auto rule = detect::compile_rule(file.content, file.path);
      if (!rule) {
        for (const auto& problem : rule.error()) problems_.push_back(in_bundle(detect::to_string(problem)));
        continue;
      }
      const auto& id = rule->rule.id;
      if (const auto [other, is_new] = plan_.rule_files.emplace(id, file.path); !is_new) {
        auto& problem = problems_.emplace_back(in_bundle(file.path));
        problem.append(": the rule '").append(id).append("' is already in ").append(other->second);
        continue;
      }
      const auto own_rule = own_rules.find(id);
      const auto current_rule = current_rules.find(id);
      const auto* effective = current_rule != current_rules.end() ? current_rule->second
                              : own_rule != own_rules.end()       ? own_rule->second
                                                                  : nullptr;
      Change change{.kind = "rule", .name = id, .change = {}, .conflict = {}, .own = {}, .note = {}};
      change.change = effective == nullptr ? "added" : text_of(*effective) == file.content ? "same" : "changed";
      if (own_rule != own_rules.end()) {
        const auto& where = own_rule->second->file;
        const auto own_text = text_of(*own_rule->second);
        if (own_text != file.content && where.starts_with(shipped)) {
          change.note = "in place of " + where;
        } else if (own_text != file.content) {
          change.own = brief(own_text);
          change.conflict = where + " has another rule of this id";
        }
      }
      plan_.changes.push_back(std::move(change));
    }
    for (const auto& [id, rule] : current_rules) {
      if (plan_.rule_files.contains(id)) continue;
      const auto own_rule = own_rules.find(id);
      plan_.changes.push_back({.kind = "rule",
                               .name = id,
                               .change = "removed",
                               .conflict = {},
                               .own = {},
                               .note = own_rule == own_rules.end() ? "" : own_rule->second->file + " counts again"});
    }
  }

  void exceptions() {
    const auto folder = config::bundle_folder(site_.settings);
    std::set<std::string> known;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      const auto name = entry->path().filename().string();
      if (name.ends_with(exceptions_suffix)) known.insert(name);
    }
    for (const auto& file : bundle_.files) {
      if (kind_of(file.path) != FileKind::exceptions) continue;
      const auto name = place_of(file.path);
      const auto before = base::read_file((std::filesystem::path(folder) / name).string(), detect::max_rule_file_bytes);
      add("exceptions", name, !before ? "added" : *before == file.content ? "same" : "changed");
      known.erase(name);
    }
    for (const auto& name : known) add("exceptions", name, "removed");
  }

  void add(const char* kind, const std::string& name, const char* change) {
    plan_.changes.push_back({.kind = kind, .name = name, .change = change, .conflict = {}, .own = {}, .note = {}});
  }

  void take_problems(const std::vector<config::Problem>& problems) {
    for (const auto& problem : problems) problems_.push_back(config::to_string(problem));
  }

  // Of what the fragment sets: key -> value. Read without anything of this machine.
  std::optional<std::map<std::string, std::string>> values_of(const std::string& fragment) {
    config::Sources alone;
    alone.etc = alone.home = "/nonexistent";  // nothing of this machine, whoever asks
    alone.privileged = site_.sources.privileged;
    alone.bundle_fragment = fragment;
    const auto loaded = config::load(alone);
    if (!loaded) {
      for (auto problem : loaded.error()) {
        // It is told by its place in the bundle.
        if (const auto line = problem.place.rfind(':'); problem.place.starts_with('/') && line != std::string::npos) {
          problem.place = in_bundle(std::string(configuration_path)) + problem.place.substr(line);
        }
        problems_.push_back(config::to_string(problem));
      }
      return std::nullopt;
    }
    std::map<std::string, std::string> values;
    for (const auto& shown : config::show(*loaded)) {
      if (shown.origin.find(config::bundle_fragment_name) == std::string::npos) continue;
      values[shown.key] = shown.value_yaml;
    }
    return values;
  }

  void configuration() {
    const auto* const fragment = fragment_of(bundle_);
    const auto bundles = values_of(fragment == nullptr ? "" : *fragment);
    if (!bundles) return;
    const auto without = config::load(with_fragment(site_.sources, ""));
    const auto now = config::load(site_.sources);
    const auto with = config::load(with_fragment(site_.sources, fragment == nullptr ? "" : *fragment));
    if (!without || !with || !now) {
      take_problems(!without ? without.error() : !now ? now.error() : with.error());
      return;
    }
    const auto own = config::show(*without), current = config::show(*now), later = config::show(*with);
    for (std::size_t i = 0; i < later.size(); ++i) {
      const auto& key = later[i].key;
      const auto given = bundles->find(key);
      const bool was_bundles = current[i].origin.find(config::bundle_fragment_name) != std::string::npos;
      if (given == bundles->end()) {
        if (was_bundles) add("configuration", key, "removed");
        continue;
      }
      plan_.values.emplace_back(key, given->second);
      Change change{.kind = "configuration", .name = key, .change = {}, .conflict = {}, .own = {}, .note = {}};
      const bool stronger = later[i].origin.find(config::bundle_fragment_name) == std::string::npos;
      change.change = !was_bundles && !stronger && own[i].origin == "default" ? "added"
                      : current[i].value_yaml == given->second                ? "same"
                                                                              : "changed";
      if (stronger) {
        change.change = "kept";
        change.note = later[i].origin + " is stronger";
      } else if (own[i].origin != "default" && own[i].value_yaml != given->second) {
        change.conflict = own[i].origin + " sets it to another value";
        change.own = brief(own[i].value_yaml);
      }
      plan_.changes.push_back(std::move(change));
    }
  }

  const Bundle& bundle_;
  const Site& site_;
  Plan plan_;
  Problems problems_;
};

// "a.b.c" and values, sorted so that what belongs together stands together, as levels below each other.
std::string yaml_of(const std::vector<std::pair<std::string, std::string>>& values) {
  std::string out;
  std::vector<std::string_view> above;
  for (const auto& [key, value] : values) {
    const auto parts = base::split(key, '.');
    std::size_t common = 0;
    while (common + 1 < parts.size() && common < above.size() && above[common] == parts[common]) ++common;
    for (std::size_t level = common; level < parts.size(); ++level) {
      out += std::string(2 * level, ' ') + std::string(parts[level]) + ':';
      out += level + 1 == parts.size() ? ' ' + value + '\n' : "\n";
    }
    above.assign(parts.begin(), parts.end() - 1);
  }
  return out;
}

bool is_kept(const std::map<std::string, Choice>& choices, const std::string& label) {
  const auto choice = choices.find(label);
  return choice != choices.end() && !choice->second.take;
}

}  // namespace

std::expected<Plan, Problems> make_plan(const Bundle& bundle, std::optional<InForce> before, const Site& site) {
  return Planner(bundle, site).run(std::move(before));
}

std::vector<PlacedFile> files_of(const Bundle& bundle, const Plan& plan, const std::map<std::string, Choice>& choices) {
  std::set<std::string> left_out;
  for (const auto& [id, path] : plan.rule_files) {
    if (is_kept(choices, "rule " + id)) left_out.insert(path);
  }
  auto values = plan.values;
  const auto kept =
      std::erase_if(values, [&](const auto& value) { return is_kept(choices, "configuration " + value.first); });
  std::ranges::sort(values);
  std::vector<PlacedFile> files;
  for (const auto& file : bundle.files) {
    if (left_out.contains(file.path)) continue;
    const bool rewritten = file.path == configuration_path && kept > 0;
    files.push_back({place_of(file.path), rewritten ? yaml_of(values) : file.content});
  }
  return files;
}

Problems check_together(const std::vector<PlacedFile>& files, const Site& site) {
  const LookingGlass glass;
  if (glass.path().empty()) return {"no temporary folder can be made to look at the rules in"};
  if (const auto written = write_files(glass.path(), files); !written) return {written.error().message};
  std::string fragment;
  for (const auto& file : files) {
    if (file.name == config::bundle_fragment_name) fragment = file.content;
  }
  Problems problems;
  const auto loaded = config::load(with_fragment(site.sources, fragment));
  if (!loaded) {
    for (const auto& problem : loaded.error()) problems.push_back(config::to_string(problem));
    return problems;
  }
  auto folders = loaded->settings.detection.rule_paths;
  folders.push_back(glass.path());
  const auto aside = glass.path() + '/';
  for (const auto& bad : detect::load_rules(folders).unhealthy) {
    if (!bad.file.starts_with(aside)) continue;  // of this machine, and no worse than it was
    for (const auto& problem : bad.problems) {
      auto text = detect::to_string(problem);
      if (const auto at = text.find(aside); at != std::string::npos) text.replace(at, aside.size(), in_bundle(""));
      problems.push_back(std::move(text));
    }
  }
  return problems;
}

}  // namespace daemoneye::bundle
