// Rule folders -> RuleSet.
#include <algorithm>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/hash.h"
#include "detect/rule_adjust.h"

namespace daemoneye::detect {
namespace {

namespace fs = std::filesystem;

bool is_rule_file(const fs::path& path) {
  const auto extension = path.extension();
  return (extension == ".yaml" || extension == ".yml") && !path.filename().string().starts_with('.');
}

// As its file alone makes it.
LoadedRule as_packaged(LoadedRule loaded) {
  Rule& rule = loaded.rule;
  rule.local_except.clear();
  rule.status = std::exchange(rule.file_status, std::nullopt).value_or(rule.status);
  rule.severity = std::exchange(rule.file_severity, std::nullopt).value_or(rule.severity);
  rule.version = loaded.digest.substr(0, version_digits);
  loaded.compiled = loaded.packaged;
  return loaded;
}

// Whether a rule of this id may be in the text: YAML can write a character otherwise only by such an escape.
bool may_name(std::string_view text, std::string_view id) {
  const auto has = [&](std::string_view part) { return text.find(part) != std::string_view::npos; };
  return has(id) || has("\\x") || has("\\u") || has("\\U") || has("\\\n") || has("\\\r");
}

class Loader {
 public:
  // `only`: files that cannot be about that rule are passed over.
  explicit Loader(const RuleSet* previous, std::string only = {}) : only_(std::move(only)) {
    if (previous == nullptr) return;
    for (const auto& rule : previous->rules) previous_.emplace(rule.rule.file, as_packaged(rule));
    for (const auto& file : previous->exceptions) previous_exceptions_.emplace(file.file, &file);
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
      for (const auto& [file, rule] : previous_) {
        if (fs::path(file).parent_path() == fs::path(folder)) rules_.insert_or_assign(rule.rule.id, rule);
      }
      for (const auto& [file, exceptions] : previous_exceptions_) {
        if (fs::path(file).parent_path() == fs::path(folder)) exceptions_.push_back(*exceptions);
      }
      return;
    }
    std::ranges::sort(files);
    for (const auto& file : files) {
      if (is_exception_file(file))
        load_exceptions(file);
      else
        load_file(file);
    }
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
    set.exceptions = std::move(exceptions_);
    return set;
  }

 private:
  void load_file(const std::string& file) {
    auto text = base::read_file(file, max_rule_file_bytes);
    if (!text) {
      broken(file, {{file, 0, "", text.error().message}});
      return;
    }
    if (!only_.empty() && fs::path(file).stem() != only_ && !may_name(*text, only_)) return;
    // An unchanged file keeps its compiled statement, and with it what was prepared from it.
    if (const auto* before = previous_of(file);
        before != nullptr && base::to_hex(base::sha256(*text)) == before->digest) {
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

  void load_exceptions(const std::string& file) {
    const auto before = previous_exceptions_.find(file);
    const auto broken_file = [&](std::vector<RuleProblem> problems, std::string digest) {
      UnhealthyRule unhealthy{fs::path(file).stem().string(), file, std::move(problems), false, std::move(digest)};
      if (before != previous_exceptions_.end()) {
        unhealthy.last_good_kept = true;
        exceptions_.push_back(*before->second);
      }
      unhealthy_.push_back(std::move(unhealthy));
    };
    const auto text = base::read_file(file, max_rule_file_bytes);
    if (!text) return broken_file({{file, 0, "", text.error().message}}, "");
    auto parsed = parse_exceptions(*text, file);
    if (!parsed) return broken_file(std::move(parsed).error(), base::to_hex(base::sha256(*text)));
    exceptions_.push_back(std::move(*parsed));
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
    return found == previous_.end() ? nullptr : &found->second;
  }

  const std::string only_;
  std::map<std::string, LoadedRule> previous_;  // by file
  std::map<std::string, const ExceptionFile*> previous_exceptions_;
  std::map<std::string, std::string> in_this_folder_;  // id -> file
  std::vector<ExceptionFile> exceptions_;
  std::map<std::string, LoadedRule> rules_;
  std::vector<UnhealthyRule> unhealthy_;
};

}  // namespace

RuleSet load_rules(const std::vector<std::string>& folders, const RuleSet* previous,
                   const std::vector<store::RuleOverride>& overrides) {
  Loader loader(previous);
  for (const auto& folder : folders) loader.load_folder(folder);
  auto set = loader.take();
  set.overrides = overrides;
  adjust_rules(set, previous);
  return set;
}

RuleSet load_rule(const std::string& id, const std::vector<std::string>& folders,
                  const std::vector<store::RuleOverride>& overrides) {
  Loader loader(nullptr, id);
  for (const auto& folder : folders) loader.load_folder(folder);
  auto set = loader.take();
  std::erase_if(set.rules, [&](const LoadedRule& loaded) { return loaded.rule.id != id; });
  std::erase_if(set.unhealthy, [&](const UnhealthyRule& broken) { return broken.id != id; });
  for (auto& file : set.exceptions) {
    std::erase_if(file.entries, [&](const ExceptionFile::Entry& entry) { return entry.rule != id; });
  }
  set.overrides = overrides;
  adjust_rules(set, nullptr);
  return set;
}

}  // namespace daemoneye::detect
