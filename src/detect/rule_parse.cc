// A rule file's text -> Rule. Everything wrong with it is reported at once, with its line.
#include <algorithm>
#include <optional>
#include <set>

#include "base/hash.h"
#include "base/text.h"
#include "detect/rule_yaml.h"
#include "event/columns.h"

namespace daemoneye::detect {
namespace {

constexpr std::size_t max_title_bytes = 256;
constexpr std::size_t max_description_bytes = 8 * 1024;
using std::chrono::hours;
using std::chrono::nanoseconds;
using std::chrono::seconds;

const std::vector<std::string_view> known_keys = {"id",      "title",      "description", "severity",      "status",
                                                  "tags",    "references", "sql",         "except",        "author",
                                                  "license", "dedup",      "evaluate",    "falsepositives"};

// Where the lines of a scalar are in the file.
struct ScalarPlace {
  unsigned first_line = 1;      // of its text
  std::size_t indentation = 0;  // bytes that YAML took off each line
  bool literal = false;         // `|`: line n of the text is line first_line + n - 1 of the file
};

class Parser : private YamlReader {
 public:
  Parser(std::string_view text, const std::string& file) : YamlReader(text, file) {}

  std::expected<LoadedRule, std::vector<RuleProblem>> parse() {
    if (text_.size() > max_rule_file_bytes) {
      problem(0, "", "larger than " + std::to_string(max_rule_file_bytes) + " bytes");
    } else if (auto root = load()) {
      read(*root);
    }
    if (!problems_.empty()) {
      return std::unexpected(take_problems());
    }
    rule_.file = file_;
    const auto digest = base::to_hex(base::sha256(text_));
    rule_.version = digest.substr(0, version_digits);
    return LoadedRule{std::move(rule_), compiled_, compiled_, digest};
  }

 private:
  std::optional<nanoseconds> duration(const std::string& key, const YAML::Node& node, nanoseconds least,
                                      nanoseconds most, std::string_view allowed) {
    const auto value = node.IsScalar() ? base::parse_duration(node.Scalar()) : fail(Errc::invalid_input, "");
    if (!value || *value < least || *value > most) {
      problem(line_of(node), key, "found " + kind_of(node) + "; allowed: " + std::string(allowed));
      return std::nullopt;
    }
    return *value;
  }

  void read(const YAML::Node& root) {
    std::set<std::string> present;
    YAML::Node sql_node, title_node, dedup_node;
    for (const auto& [name, node] : entries(root, "", known_keys)) {
      present.insert(name);
      if (name == "sql")
        sql_node.reset(node);
      else if (name == "title")
        title_node.reset(node);
      else if (name == "dedup")
        dedup_node.reset(node);
      read_entry(name, node);
    }
    for (const std::string required : {"id", "title", "severity", "sql"}) {
      if (!present.contains(required)) problem(1, required, "missing; every rule needs id, title, severity and sql");
    }
    if (rule_.sql.empty()) return;
    if (compile(sql_node, except_line_)) check_columns(title_node, dedup_node);
  }

  void read_entry(const std::string& name, const YAML::Node& node) {
    const auto take = [&](std::string& into, std::size_t max_bytes) {
      if (auto value = text(name, node, max_bytes)) into = std::move(*value);
    };
    if (name == "id") {
      if (node.IsScalar() && valid_rule_id(node.Scalar()))
        rule_.id = node.Scalar();
      else
        problem(line_of(node), name,
                "found " + kind_of(node) + "; allowed: a-z, 0-9 and '-', first a letter or digit, at most 64");
    } else if (name == "title") {
      take(rule_.title, max_title_bytes);
    } else if (name == "description") {
      take(rule_.description, max_description_bytes);
    } else if (name == "author") {
      take(rule_.author, max_item_bytes);
    } else if (name == "license") {
      take(rule_.license, max_item_bytes);
    } else if (name == "sql") {
      take(rule_.sql, sql::Limits{}.max_text_bytes);
    } else if (name == "severity") {
      const auto severity = node.IsScalar() ? store::parse_severity(node.Scalar()) : std::nullopt;
      if (severity)
        rule_.severity = *severity;
      else
        problem(line_of(node), name, "found " + kind_of(node) + "; allowed: low, medium, high, critical");
    } else if (name == "status") {
      read_status(node);
    } else if (name == "tags") {
      rule_.tags = list(name, node);
    } else if (name == "references") {
      rule_.references = list(name, node);
    } else if (name == "falsepositives") {
      rule_.falsepositives = list(name, node);
    } else if (name == "except") {
      rule_.except = list(name, node);
      except_line_ = line_of(node);
    } else if (name == "evaluate") {
      read_evaluate(node);
    } else if (name == "dedup") {
      read_dedup(node);
    }
  }

  void read_status(const YAML::Node& node) {
    if (const auto status = node.IsScalar() ? parse_rule_status(node.Scalar()) : std::nullopt) {
      rule_.status = *status;
      return;
    }
    problem(line_of(node), "status", "found " + kind_of(node) + "; allowed: draft, active, disabled, archived");
  }

  void read_evaluate(const YAML::Node& node) {
    if (!node.IsMap()) {
      problem(line_of(node), "evaluate", "found " + kind_of(node) + "; allowed: a map with every and window");
      return;
    }
    Rule::Evaluate evaluate;
    bool every = false, window = false;
    for (const auto& [name, value] : entries(node, "evaluate.", {"every", "window"})) {
      if (name == "every") {
        every = true;
        if (auto span =
                duration("evaluate.every", value, seconds(1), hours(24), "a duration from 1s to 24h, like 60s")) {
          evaluate.every = *span;
        }
      } else {
        window = true;
        if (auto span =
                duration("evaluate.window", value, seconds(1), hours(24 * 30), "a duration from 1s to 30d, like 10m")) {
          evaluate.window = *span;
        }
      }
    }
    if (!every) problem(line_of(node), "evaluate.every", "missing; how often the rule runs, like 60s");
    if (!window) problem(line_of(node), "evaluate.window", "missing; how far back the rule looks, like 10m");
    if (every && window && evaluate.every > evaluate.window && evaluate.window.count() > 0) {
      problem(line_of(node), "evaluate.window", "shorter than `every`: what happens in between would never be seen");
    }
    rule_.evaluate = evaluate;
  }

  void read_dedup(const YAML::Node& node) {
    if (!node.IsMap()) {
      problem(line_of(node), "dedup", "found " + kind_of(node) + "; allowed: a map with by and for");
      return;
    }
    for (const auto& [name, value] : entries(node, "dedup.", {"by", "for"})) {
      if (name == "by") {
        rule_.dedup_by = list("dedup.by", value);
      } else if (auto span =
                     duration("dedup.for", value, nanoseconds(1), hours(24 * 30), "a duration up to 30d, like 10m")) {
        rule_.dedup_for = *span;
      }
    }
  }

  ScalarPlace place_of(const YAML::Node& node) const {
    ScalarPlace place;
    place.first_line = line_of(node);
    const auto at = node.Mark().pos;
    if (node.Mark().is_null() || at < 0 || static_cast<std::size_t>(at) >= text_.size()) return place;
    auto rest = text_.substr(static_cast<std::size_t>(at));
    if (rest.front() != '|' && rest.front() != '>') {
      place.indentation = static_cast<std::size_t>(node.Mark().column) + (rest.front() == '\'' || rest.front() == '"');
      return place;
    }
    place.literal = rest.front() == '|';
    ++place.first_line;
    // The first line with something on it tells how far the block is indented.
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      rest.remove_prefix(end + 1);
      const auto first = rest.find_first_not_of(' ');
      if (first == std::string_view::npos) break;
      if (rest[first] == '\n' || rest[first] == '\r') continue;
      place.indentation = first;
      break;
    }
    return place;
  }

  void sql_problem(const sql::SqlError& error, const YAML::Node& node) {
    const auto place = place_of(node);
    std::string message = "column " + std::to_string(error.column + place.indentation) + ": " + error.message;
    if (!error.token.empty()) message += " (at '" + error.token + "')";
    problem(place.literal ? place.first_line + error.line - 1 : place.first_line, "sql", std::move(message));
  }

  bool compile(const YAML::Node& node, unsigned except_line) {
    auto alone = sql::compile(rule_.sql);
    if (!alone) {
      sql_problem(alone.error(), node);
      return false;
    }
    bool good = true;
    const unsigned line = place_of(node).first_line;
    if (!alone->parameters().empty()) {
      problem(line, "sql", "uses the parameter :" + *alone->parameters().begin() + "; a rule has none");
      good = false;
    }
    if (!rule_.evaluate && !alone->not_streamable().empty()) {
      problem(line, "sql", alone->not_streamable());
      good = false;
    }
    // One at a time, so that the message says which.
    for (std::size_t i = 0; i < rule_.except.size(); ++i) {
      if (auto one = sql::compile_with_exceptions(rule_.sql, {rule_.except[i]}); !one) {
        problem(except_line, "except[" + std::to_string(i) + "]",
                one.error().message + (one.error().token.empty() ? "" : " (at '" + one.error().token + "')"));
        good = false;
      }
    }
    if (!good) return false;
    if (rule_.except.empty()) {
      compiled_ = std::make_shared<const sql::Compiled>(std::move(*alone));
      return true;
    }
    auto whole = sql::compile_with_exceptions(rule_.sql, rule_.except);
    if (!whole) {
      problem(except_line, "except", whole.error().message);
      return false;
    }
    compiled_ = std::make_shared<const sql::Compiled>(std::move(*whole));
    return true;
  }

  // Names that the title and the deduplication take from the row.
  void check_columns(const YAML::Node& title_node, const YAML::Node& dedup_node) {
    std::vector<std::string_view> selected;
    std::string allowed;
    for (const auto& column : compiled_->columns()) {
      selected.push_back(column.name);
      allowed += (allowed.empty() ? "" : ", ") + column.name;
    }
    for (const auto& column : rule_.dedup_by) {
      if (std::ranges::find(selected, column) == selected.end()) {
        problem(line_of(dedup_node), "dedup.by",
                "'" + base::printable(column) + "' is not selected; selected: " + allowed);
      }
    }
    for (const auto& column : title_columns(rule_.title)) {
      const bool of_event = !rule_.evaluate && event::find_column(column);
      if (std::ranges::find(selected, column) == selected.end() && !of_event) {
        problem(line_of(title_node), "title",
                "'" + base::printable(column) + "' is not selected; selected: " + allowed);
      }
    }
  }

  Rule rule_;
  std::shared_ptr<const sql::Compiled> compiled_;
  unsigned except_line_ = 0;
};

}  // namespace

std::expected<LoadedRule, std::vector<RuleProblem>> compile_rule(std::string_view yaml, const std::string& file) {
  return Parser(yaml, file).parse();
}

std::expected<Rule, std::vector<RuleProblem>> parse_rule(std::string_view yaml, const std::string& file) {
  auto loaded = compile_rule(yaml, file);
  if (!loaded) return std::unexpected(std::move(loaded).error());
  return std::move(loaded->rule);
}

}  // namespace daemoneye::detect
