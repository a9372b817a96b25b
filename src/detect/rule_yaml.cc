#include "detect/rule_yaml.h"

#include <algorithm>
#include <set>

#include "base/text.h"
#include "detect/yaml_load.h"

namespace daemoneye::detect {
namespace {

constexpr std::size_t max_id_bytes = 64;
constexpr std::size_t max_yaml_documents = 100;  // more than one is refused; the bound is for what never ends

}  // namespace

bool valid_rule_id(std::string_view id) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !id.empty() && id.size() <= max_id_bytes && alnum(id.front()) &&
         std::ranges::all_of(id, [&](char c) { return alnum(c) || c == '-'; });
}

std::string YamlReader::kind_of(const YAML::Node& node) {
  if (node.IsMap()) return "a map";
  if (node.IsSequence()) return "a list";
  if (node.IsNull()) return "nothing";
  return "'" + base::printable(node.Scalar().substr(0, 64)) + "'";
}

unsigned YamlReader::line_of(const YAML::Node& node) {
  return node.Mark().is_null() ? 0 : static_cast<unsigned>(node.Mark().line + 1);
}

void YamlReader::problem(unsigned line, std::string key, std::string message) {
  problems_.push_back({file_, line, std::move(key), std::move(message)});
}

std::vector<RuleProblem> YamlReader::take_problems() {
  // Not stable_sort: clang refuses the deprecated buffer that libstdc++ 12 takes for it.
  for (auto at = problems_.begin(); at != problems_.end(); ++at) {
    const auto place = std::upper_bound(problems_.begin(), at, at->line,
                                        [](unsigned line, const RuleProblem& other) { return line < other.line; });
    std::rotate(place, at, std::next(at));
  }
  return std::move(problems_);
}

std::optional<YAML::Node> YamlReader::load() {
  try {
    auto documents = load_yaml(text_, max_yaml_documents);
    if (documents.size() != 1 || !documents.front().IsMap()) {
      problem(1, "", documents.size() > 1 ? "more than one YAML document; one rule a file" : "not a YAML map of keys");
      return std::nullopt;
    }
    return documents.front();
  } catch (const YAML::Exception& error) {
    problem(error.mark.is_null() ? 0 : static_cast<unsigned>(error.mark.line + 1), "", "not YAML: " + error.msg);
    return std::nullopt;
  }
}

std::vector<std::pair<std::string, YAML::Node>> YamlReader::entries(const YAML::Node& map, const std::string& prefix,
                                                                    const std::vector<std::string_view>& known) {
  std::vector<std::pair<std::string, YAML::Node>> out;
  std::set<std::string> seen;
  for (const auto& entry : map) {
    if (!entry.first.IsScalar()) {
      problem(line_of(entry.first), prefix, "a key must be a word");
      continue;
    }
    const std::string name = entry.first.Scalar();
    const std::string shown = prefix + base::printable(name.substr(0, 64));
    if (!seen.insert(name).second) {
      problem(line_of(entry.first), shown, "given twice");
    } else if (std::ranges::find(known, name) == known.end()) {
      const auto near = base::nearest(name, known);
      std::string allowed;
      for (const auto key : known) allowed += (allowed.empty() ? "" : ", ") + std::string(key);
      problem(
          line_of(entry.first), shown,
          near.empty() ? "unknown key; allowed: " + allowed : "unknown key; did you mean " + std::string(near) + "?");
    } else {
      out.emplace_back(name, entry.second);
    }
  }
  return out;
}

std::optional<std::string> YamlReader::text(const std::string& key, const YAML::Node& node, std::size_t max_bytes) {
  if (!node.IsScalar() || base::trim(node.Scalar()).empty()) {
    problem(line_of(node), key, "found " + kind_of(node) + "; allowed: a text");
    return std::nullopt;
  }
  if (node.Scalar().size() > max_bytes) {
    problem(line_of(node), key, "longer than " + std::to_string(max_bytes) + " bytes");
    return std::nullopt;
  }
  return node.Scalar();
}

std::vector<std::string> YamlReader::list(const std::string& key, const YAML::Node& node) {
  std::vector<std::string> items;
  if (!node.IsSequence()) {
    problem(line_of(node), key, "found " + kind_of(node) + "; allowed: a list of texts");
    return items;
  }
  if (node.size() > max_list_items) {
    problem(line_of(node), key, "more than " + std::to_string(max_list_items) + " items");
    return items;
  }
  for (const auto& item : node) {
    if (auto value = text(key, item, max_item_bytes)) items.push_back(std::move(*value));
  }
  return items;
}

}  // namespace daemoneye::detect
