// An exceptions file's text -> ExceptionFile.
#include "base/hash.h"
#include "base/text.h"
#include "detect/rule_yaml.h"

namespace daemoneye::detect {
namespace {

constexpr std::size_t max_entries = 1000;

class Parser : private YamlReader {
 public:
  Parser(std::string_view text, const std::string& file) : YamlReader(text, file) {}

  std::expected<ExceptionFile, std::vector<RuleProblem>> parse() {
    if (text_.size() > max_rule_file_bytes) {
      problem(0, "", "larger than " + std::to_string(max_rule_file_bytes) + " bytes");
    } else if (auto root = load()) {
      read(*root);
    }
    if (!problems_.empty()) return std::unexpected(take_problems());
    out_.file = file_;
    out_.digest = base::to_hex(base::sha256(text_));
    return std::move(out_);
  }

 private:
  void read(const YAML::Node& root) {
    bool given = false;
    for (const auto& [name, node] : entries(root, "", {"exceptions"})) {
      given = true;
      if (!node.IsSequence()) {
        problem(line_of(node), name, "found " + kind_of(node) + "; allowed: a list of maps with rule and except");
        continue;
      }
      if (node.size() > max_entries) {
        problem(line_of(node), name, "more than " + std::to_string(max_entries) + " entries");
        continue;
      }
      std::size_t index = 0;
      for (const auto& entry : node) read_entry(entry, "exceptions[" + std::to_string(index++) + "]");
    }
    if (!given && problems_.empty()) problem(1, "exceptions", "missing; a list of maps with rule and except");
  }

  void read_entry(const YAML::Node& node, const std::string& key) {
    if (!node.IsMap()) {
      problem(line_of(node), key, "found " + kind_of(node) + "; allowed: a map with rule, except and reason");
      return;
    }
    ExceptionFile::Entry entry;
    entry.line = line_of(node);
    bool rule = false, except = false;
    for (const auto& [name, value] : entries(node, key + ".", {"rule", "except", "reason"})) {
      if (name == "rule") {
        rule = true;
        if (value.IsScalar() && valid_rule_id(value.Scalar()))
          entry.rule = value.Scalar();
        else
          problem(line_of(value), key + ".rule", "found " + kind_of(value) + "; allowed: a rule's id");
      } else if (name == "except") {
        except = true;
        entry.except = list(key + ".except", value);
        entry.line = line_of(value);
      } else if (auto reason = text(key + ".reason", value, max_item_bytes)) {
        entry.reason = std::move(*reason);
      }
    }
    if (!rule) problem(line_of(node), key + ".rule", "missing; the id of the rule that is excused");
    if (!except) problem(line_of(node), key + ".except", "missing; a list of SQL conditions");
    out_.entries.push_back(std::move(entry));
  }

  ExceptionFile out_;
};

}  // namespace

bool is_exception_file(std::string_view path) {
  return path.ends_with(".exceptions.yaml") || path.ends_with(".exceptions.yml");
}

std::expected<ExceptionFile, std::vector<RuleProblem>> parse_exceptions(std::string_view yaml,
                                                                        const std::string& file) {
  return Parser(yaml, file).parse();
}

}  // namespace daemoneye::detect
