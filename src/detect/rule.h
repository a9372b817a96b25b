// Rule files: YAML, as in the contract.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "sql/sql.h"
#include "store/rule_overrides.h"

namespace daemoneye::detect {

enum class RuleStatus : std::uint8_t { draft, active, disabled, archived };
std::string_view to_string(RuleStatus status);
std::optional<RuleStatus> parse_rule_status(std::string_view text);

struct Rule {
  std::string id, title, description, author, license;
  store::Severity severity = store::Severity::medium;
  RuleStatus status = RuleStatus::active;
  std::vector<std::string> tags, references, falsepositives, except;
  std::string sql;
  struct Evaluate {
    std::chrono::nanoseconds every{0}, window{0};
  };
  std::optional<Evaluate> evaluate;  // absent: a stream rule
  std::vector<std::string> dedup_by;
  std::chrono::nanoseconds dedup_for{0};  // 0: alerting.dedup_window_ms
  // From exceptions files, beside the rule's own; and what the file says of what an override has changed.
  std::vector<std::string> local_except;
  std::optional<RuleStatus> file_status;
  std::optional<store::Severity> file_severity;
  // version: 12 hex digits of SHA-256 of the file, and of what exceptions and overrides make of it when there are any.
  std::string file, version;
};

// A problem with a file: where, which key, what is allowed.
struct RuleProblem {
  std::string file;
  unsigned line = 0;  // 0: the whole file
  std::string key, message;
};
std::string to_string(const RuleProblem& problem);

// `title` with each {{column}} replaced by what `value` gives for it; "(unknown)" where that is nothing.
std::string title_of(std::string_view title, const std::function<std::optional<std::string>(std::string_view)>& value);
std::vector<std::string> title_columns(std::string_view title);

inline constexpr std::size_t max_rule_file_bytes = 256 * 1024;
inline constexpr std::size_t max_rules = 20000;
inline constexpr std::size_t version_digits = 12;

// All problems of the text at once, the SQL's (with its line in the file) among them.
std::expected<Rule, std::vector<RuleProblem>> parse_rule(std::string_view yaml, const std::string& file);

// The same, and the compiled statement, exceptions included.
struct LoadedRule;
std::expected<LoadedRule, std::vector<RuleProblem>> compile_rule(std::string_view yaml, const std::string& file);

struct LoadedRule {
  Rule rule;
  std::shared_ptr<const sql::Compiled> compiled;       // shared: a reload may drop it while it is being evaluated
  std::shared_ptr<const sql::Compiled> packaged = {};  // without the local exceptions; the same one when there are none
  std::string digest = {};                             // of the file, SHA-256 in hexadecimal
};

// A file NAME.exceptions.yaml in a rule folder: conditions that excuse rows of rules that are not edited for it.
//   exceptions:
//     - rule: web-server-spawned-shell
//       except: ["e.command_line LIKE '%nightly-backup%'"]
//       reason: the backup of host a
struct ExceptionFile {
  struct Entry {
    std::string rule, reason;
    std::vector<std::string> except;
    unsigned line = 0;
  };
  std::vector<Entry> entries;
  std::string file, digest;
};
bool is_exception_file(std::string_view path);
// All problems of its form at once; whether its conditions fit their rules is seen when they are loaded.
std::expected<ExceptionFile, std::vector<RuleProblem>> parse_exceptions(std::string_view yaml, const std::string& file);

struct UnhealthyRule {
  std::string id, file;  // id as far as it could be read, else the file's base name
  std::vector<RuleProblem> problems;
  bool last_good_kept = false;
  std::string digest;  // of the file, SHA-256 in hexadecimal; empty when it could not be read
};
struct RuleSet {
  std::vector<LoadedRule> rules;  // by id; every status
  std::vector<UnhealthyRule> unhealthy;
  std::vector<ExceptionFile> exceptions;
  std::vector<store::RuleOverride> overrides;  // also of rules that are not there at present
};
// Reads every *.yaml/*.yml of the folders in order; a later folder overrides an id. A missing folder is not an error.
// A broken file keeps its last good version from `previous` when there is one. Exceptions files of all folders add up;
// a condition that does not fit its rule is left out and told, and the rule runs without it. `overrides` win over what
// the files say.
RuleSet load_rules(const std::vector<std::string>& folders, const RuleSet* previous = nullptr,
                   const std::vector<store::RuleOverride>& overrides = {});

// The same of one rule alone, which costs no more than its own files: what is broken of others is not told, and neither
// is it compiled.
RuleSet load_rule(const std::string& id, const std::vector<std::string>& folders,
                  const std::vector<store::RuleOverride>& overrides = {});

}  // namespace daemoneye::detect
