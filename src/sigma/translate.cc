// A Sigma rule's YAML -> a rule file of ours.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <optional>

#include "base/text.h"
#include "detect/rule.h"
#include "detect/yaml_load.h"
#include "detect/yaml_text.h"
#include "sigma/condition.h"
#include "sigma/refused.h"
#include "sigma/search.h"
#include "sigma/sigma.h"

namespace daemoneye::sigma {
namespace {

constexpr std::size_t max_id_bytes = 64;
constexpr std::size_t max_searches = 200;

std::string scalar(const YAML::Node& map, const char* key) {
  const auto node = map[key];
  return node && node.IsScalar() ? node.Scalar() : std::string();
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c | 0x20) : c; });
  return text;
}

bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= max_id_bytes && text.front() != '-' &&
         std::ranges::all_of(text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

// The rule's own id; without one, made of its title.
std::string id_of(const YAML::Node& root) {
  const std::string own = lower(scalar(root, "id"));
  if (!own.empty()) {
    if (!is_id(own)) throw Refused("the id is neither a UUID nor made of a-z, 0-9 and '-'", line_of(root["id"]));
    return own;
  }
  std::string id = "sigma-";
  for (const char c : lower(scalar(root, "title"))) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (good)
      id += c;
    else if (id.back() != '-')
      id += '-';
    if (id.size() == max_id_bytes) break;
  }
  if (id.ends_with('-')) id.pop_back();
  if (id == "sigma") throw Refused("neither an id nor a title");
  return id;
}

std::string severity_of(const YAML::Node& root) {
  const std::string level = lower(scalar(root, "level"));
  if (level.empty()) return "medium";
  if (level == "informational") return "low";
  if (level == "low" || level == "medium" || level == "high" || level == "critical") return level;
  throw Refused("level: found '" + base::printable(level.substr(0, 64)) + "'", line_of(root["level"]));
}

std::string status_of(const YAML::Node& root) {
  const std::string status = lower(scalar(root, "status"));
  if (status.empty() || status == "stable" || status == "test" || status == "testing" || status == "experimental") {
    return "active";
  }
  if (status == "deprecated" || status == "unsupported") return "archived";
  throw Refused("status: found '" + base::printable(status.substr(0, 64)) + "'", line_of(root["status"]));
}

std::vector<std::string> texts(const YAML::Node& root, const char* key, NodeBudget& budget) {
  std::vector<std::string> list;
  const auto node = root[key];
  if (!node || node.IsNull()) return list;
  if (node.IsScalar()) return {node.Scalar()};
  if (!node.IsSequence()) throw Refused(std::string(key) + ": neither a text nor a list of texts", line_of(node));
  for (const auto& item : node) {
    budget.take(item);
    if (!item.IsScalar()) throw Refused(std::string(key) + ": an item that is not a text", line_of(item));
    if (!base::trim(item.Scalar()).empty()) list.push_back(item.Scalar());
  }
  return list;
}

const LogSource& source_of(const YAML::Node& root, const Taxonomy& taxonomy) {
  const auto node = root["logsource"];
  if (!node || !node.IsMap()) throw Refused("no logsource");
  const auto category = scalar(node, "category"), product = scalar(node, "product"), service = scalar(node, "service");
  const auto name = "category " + (category.empty() ? "(none)" : base::printable(category)) + ", product " +
                    (product.empty() ? "(any)" : base::printable(product));
  if (!service.empty()) {
    throw Refused("logsource: the service " + base::printable(service) + " has no table here", line_of(node));
  }
  for (const auto& source : taxonomy.sources) {
    if (source.category != category) continue;
    if (product.empty() || std::ranges::find(source.products, product) != source.products.end()) return source;
  }
  throw Refused("logsource: " + name + " has no table here", line_of(node));
}

std::string condition_sql(const Condition& condition, const std::map<std::string, std::string>& searches) {
  switch (condition.kind) {
    case Condition::Kind::search: return searches.at(condition.search);
    case Condition::Kind::negation: {
      // What is not there did not match either.
      const auto inner = condition_sql(condition.parts.front(), searches);
      return "NOT coalesce(" + (inner.starts_with('(') ? inner : "(" + inner + ")") + ", 0)";
    }
    case Condition::Kind::all:
    case Condition::Kind::any: break;
  }
  std::vector<std::string> parts;
  for (const auto& part : condition.parts) parts.push_back(condition_sql(part, searches));
  return join_sql(std::move(parts), condition.kind == Condition::Kind::all ? " AND " : " OR ");
}

void collect(const Condition& condition, std::vector<std::string>& names) {
  if (condition.kind == Condition::Kind::search) names.push_back(condition.search);
  for (const auto& part : condition.parts) collect(part, names);
}

std::vector<std::string> conditions_of(const YAML::Node& detection) {
  const auto node = detection["condition"];
  if (!node) throw Refused("detection: no condition", line_of(detection));
  std::vector<std::string> texts;
  if (node.IsScalar()) texts.push_back(node.Scalar());
  if (node.IsSequence()) {
    for (const auto& item : node) {
      if (!item.IsScalar() || texts.size() == max_searches) throw Refused("condition: not a text", line_of(item));
      texts.push_back(item.Scalar());
    }
  }
  if (texts.empty()) throw Refused("condition: neither a text nor a list of texts", line_of(node));
  return texts;
}

std::string detection_sql(const YAML::Node& root, const LogSource& source, NodeBudget& budget) {
  const auto detection = root["detection"];
  if (!detection || !detection.IsMap()) throw Refused("no detection");
  std::vector<std::string> names;
  for (const auto& entry : detection) {
    budget.take(entry.second);
    if (!entry.first.IsScalar()) throw Refused("detection: a name that is not a word", line_of(entry.first));
    const auto& name = entry.first.Scalar();
    if (name == "timeframe") throw Refused("timeframe: only correlation rules count over time", line_of(entry.first));
    if (name == "condition") continue;
    if (std::ranges::find(names, name) != names.end()) {
      throw Refused("detection: '" + base::printable(name) + "' is given twice", line_of(entry.first));
    }
    if (names.size() == max_searches) throw Refused("detection: more than 200 searches", line_of(detection));
    names.push_back(name);
  }
  std::vector<Condition> conditions;
  std::vector<std::string> used;
  for (const auto& text : conditions_of(detection)) {
    conditions.push_back(parse_condition(text, names));
    collect(conditions.back(), used);
  }
  std::map<std::string, std::string> searches;
  for (const auto& name : used) {
    if (!searches.contains(name)) searches[name] = search_sql(detection[name], source, budget);
  }
  // Each condition is a rule of its own to Sigma; a row that meets any of them is an alert.
  return condition_sql({Condition::Kind::any, {}, std::move(conditions)}, searches);
}

// What this does not know how to honour changes a rule's meaning.
void refuse_unknown_meaning(const YAML::Node& root) {
  if (root["correlation"]) throw Refused("a correlation rule", line_of(root["correlation"]));
  if (root["filter"]) throw Refused("a filter for other rules", line_of(root["filter"]));
  if (root["action"]) throw Refused("a collection (action: …)", line_of(root["action"]));
  if (const auto taxonomy = root["taxonomy"]; taxonomy && scalar(root, "taxonomy") != "sigma") {
    throw Refused("taxonomy: only Sigma's own is known", line_of(taxonomy));
  }
}

std::string select_sql(const LogSource& source, const std::string& condition) {
  std::string columns;
  for (const auto& column : source.select) columns += (columns.empty() ? "" : ", ") + column;
  return "SELECT " + columns + "\nFROM " + source.from + "\nWHERE " + source.where + "\n  AND " + condition + "\n";
}

std::string rule_yaml(const YAML::Node& root, const std::string& id, const std::string& sql, NodeBudget& budget) {
  detect::YamlText out;
  std::string origin = "Imported from the Sigma rule " + (scalar(root, "id").empty() ? id : scalar(root, "id"));
  for (const char* key : {"date", "modified"}) {
    if (const auto date = scalar(root, key); !date.empty()) origin += std::string(", ") + key + " " + date;
  }
  out.comment(origin);
  out.text("id", id);
  out.text("title", std::string(base::trim(scalar(root, "title"))));
  if (const auto text = std::string(base::trim(scalar(root, "description"))); !text.empty()) {
    out.text("description", text);
  }
  const auto authors = texts(root, "author", budget);
  std::string author;
  for (const auto& one : authors) author += (author.empty() ? "" : ", ") + one;
  if (!author.empty()) out.text("author", author);
  if (const auto license = scalar(root, "license"); !license.empty()) out.text("license", license);
  out.text("severity", severity_of(root));
  out.text("status", status_of(root));
  out.list("tags", texts(root, "tags", budget));
  out.list("references", texts(root, "references", budget));
  out.list("falsepositives", texts(root, "falsepositives", budget));
  out.block("sql", sql);
  return out.take();
}

Outcome translate_one(const YAML::Node& root, const std::string& file, const Taxonomy& taxonomy) {
  std::string id;
  try {
    if (!root.IsMap()) throw Refused("not a YAML map of keys");
    id = base::printable(scalar(root, "id").substr(0, max_id_bytes));
    refuse_unknown_meaning(root);
    NodeBudget budget;
    Imported out{file, id_of(root), scalar(root, "title"), {}};
    const auto& source = source_of(root, taxonomy);
    out.yaml = rule_yaml(root, out.id, select_sql(source, detection_sql(root, source, budget)), budget);
    // What the front door refuses (too long a text, too deep an expression) is no rule.
    if (const auto rule = detect::parse_rule(out.yaml, file); !rule) {
      throw Refused("as a rule: " + (rule.error().front().key.empty() ? "" : rule.error().front().key + ": ") +
                    rule.error().front().message);
    }
    return out;
  } catch (const Refused& refused) {
    return std::unexpected(Refusal{file, id, refused.reason, refused.line});
  } catch (const YAML::Exception& error) {
    return std::unexpected(Refusal{file, id, "not understood: " + error.msg,
                                   error.mark.is_null() ? 0 : static_cast<unsigned>(error.mark.line + 1)});
  }
}

}  // namespace

std::vector<Outcome> translate(std::string_view text, const std::string& file, const Taxonomy& taxonomy) {
  std::vector<Outcome> outcomes;
  const auto refuse = [&](unsigned line, std::string why) {
    outcomes.emplace_back(std::unexpected(Refusal{file, {}, std::move(why), line}));
  };
  if (text.size() > max_file_bytes) {
    refuse(0, "larger than " + std::to_string(max_file_bytes) + " bytes");
    return outcomes;
  }
  try {  // yaml-cpp ends at 500 levels of nesting
    const auto documents = detect::load_yaml(text, max_documents);
    if (documents.empty()) refuse(0, "an empty file");
    for (const auto& document : documents) {
      if (document.IsNull()) continue;  // a lone separator
      outcomes.push_back(translate_one(document, file, taxonomy));
    }
  } catch (const YAML::Exception& error) {
    outcomes.clear();
    refuse(error.mark.is_null() ? 0 : static_cast<unsigned>(error.mark.line + 1), "not YAML: " + error.msg);
  }
  return outcomes;
}

}  // namespace daemoneye::sigma
