// Rule folders -> RuleSet.
#include <algorithm>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/hash.h"
#include "detect/rule.h"

namespace daemoneye::detect {
namespace {

namespace fs = std::filesystem;

bool is_rule_file(const fs::path& path) {
  const auto extension = path.extension();
  return (extension == ".yaml" || extension == ".yml") && !path.filename().string().starts_with('.');
}

class Loader {
 public:
  explicit Loader(const RuleSet* previous) {
    if (previous == nullptr) return;
    for (const auto& rule : previous->rules) previous_[rule.rule.file].push_back(&rule);
  }

  void load_folder(const std::string& folder) {
    in_this_folder_.clear();
    std::error_code error;
    std::vector<std::string> files;
    for (auto entry = fs::directory_iterator(folder, error); !error && entry != fs::directory_iterator();
         entry.increment(error)) {
      if (is_rule_file(entry->path())) files.push_back(entry->path().string());
    }
    if (error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory) {
      if (error == std::errc::not_a_directory) broken(folder, {{folder, 0, "", "not a folder"}});
      return;
    }
    if (error) {
      broken(folder, {{folder, 0, "", "the folder cannot be read: " + error.message()}});
      // What ran from it goes on.
      for (const auto& [file, rules] : previous_) {
        if (fs::path(file).parent_path() == fs::path(folder)) {
          for (const auto* rule : rules) rules_.insert_or_assign(rule->rule.id, *rule);
        }
      }
      return;
    }
    std::ranges::sort(files);
    for (const auto& file : files) load_file(file);
  }

  RuleSet take() {
    RuleSet set;
    for (auto& [id, rule] : rules_) {
      if (set.rules.size() == max_rules) {
        broken(rule.rule.file, {{rule.rule.file, 0, "", "more than " + std::to_string(max_rules) + " rules"}});
        continue;
      }
      set.rules.push_back(std::move(rule));
    }
    set.unhealthy = std::move(unhealthy_);
    return set;
  }

 private:
  void load_file(const std::string& file) {
    auto text = base::read_file(file, max_rule_file_bytes);
    if (!text) {
      broken(file, {{file, 0, "", text.error().message}});
      return;
    }
    // An unchanged file keeps its compiled statement, and with it what was prepared from it.
    if (const auto* before = previous_of(file);
        before != nullptr && base::to_hex(base::sha256(*text)).starts_with(before->rule.version)) {
      add(*before);
      return;
    }
    auto loaded = compile_rule(*text, file);
    if (!loaded) {
      broken(file, std::move(loaded).error(), base::to_hex(base::sha256(*text)));
      return;
    }
    add(std::move(*loaded));
  }

  void add(LoadedRule rule) {
    const auto [first, is_first] = in_this_folder_.emplace(rule.rule.id, rule.rule.file);
    if (!is_first) {
      broken(rule.rule.file, {{rule.rule.file, 0, "id", "'" + rule.rule.id + "' is already used by " + first->second}});
      return;
    }
    rules_.insert_or_assign(rule.rule.id, std::move(rule));
  }

  void broken(const std::string& file, std::vector<RuleProblem> problems, std::string digest = {}) {
    UnhealthyRule unhealthy{fs::path(file).stem().string(), file, std::move(problems), false, std::move(digest)};
    if (const auto* before = previous_of(file); before != nullptr && !in_this_folder_.contains(before->rule.id)) {
      unhealthy.id = before->rule.id;
      unhealthy.last_good_kept = true;
      in_this_folder_.emplace(before->rule.id, file);
      rules_.insert_or_assign(before->rule.id, *before);
    }
    unhealthy_.push_back(std::move(unhealthy));
  }

  const LoadedRule* previous_of(const std::string& file) const {
    const auto found = previous_.find(file);
    return found == previous_.end() ? nullptr : found->second.front();
  }

  std::map<std::string, std::vector<const LoadedRule*>> previous_;  // by file
  std::map<std::string, std::string> in_this_folder_;               // id -> file
  std::map<std::string, LoadedRule> rules_;
  std::vector<UnhealthyRule> unhealthy_;
};

}  // namespace

RuleSet load_rules(const std::vector<std::string>& folders, const RuleSet* previous) {
  Loader loader(previous);
  for (const auto& folder : folders) loader.load_folder(folder);
  return loader.take();
}

}  // namespace daemoneye::detect
