#include "sigma/search.h"

#include <algorithm>
#include <optional>
#include <set>

#include "base/text.h"
#include "sigma/network.h"
#include "sigma/pattern.h"
#include "sigma/refused.h"
#include "sigma/regexp.h"

namespace daemoneye::sigma {
namespace {

constexpr std::size_t max_modifiers = 8;
constexpr std::size_t max_number_digits = 18;

std::string shown(std::string_view word) { return "'" + base::printable(word.substr(0, 64)) + "'"; }

std::vector<std::string> split(const std::string& key) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t bar = key.find('|'); bar != std::string::npos; bar = key.find('|', begin)) {
    parts.push_back(key.substr(begin, bar - begin));
    begin = bar + 1;
  }
  parts.push_back(key.substr(begin));
  if (parts.size() > max_modifiers + 1) throw Refused("more than 8 modifiers");
  return parts;
}

bool is_number(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  if (text.size() > 1 && text.front() == '0') return false;  // octal to some
  return !text.empty() && text.size() <= max_number_digits &&
         std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// What the modifiers make of a field's values.
class Entry {
 public:
  Entry(const std::string& key, const LogSource& source) : source_(source) {
    auto parts = split(key);
    field_ = parts.front();
    modifiers_.assign(parts.begin() + 1, parts.end());
    check_modifiers();
  }

  std::string sql(const YAML::Node& value, NodeBudget& budget) {
    std::vector<std::string> conditions;
    if (value.IsSequence()) {
      if (value.size() == 0) throw Refused("an empty list", line_of(value));
      if (value.size() > max_values) throw Refused("a list of more than " + std::to_string(max_values) + " values");
      for (const auto& item : value) {
        budget.take(item);
        conditions.push_back(one(item));
      }
    } else {
      conditions.push_back(one(value));
    }
    return join_sql(std::move(conditions), all_ ? " AND " : " OR ");
  }

 private:
  enum class Way { match, regexp, network, compare, exists, field };

  void check_modifiers() {
    bool encoded = false, wide = false;
    const auto way = [&](Way wanted, const std::string& name) {
      if (way_ != Way::match || anchored_ || encoded || wide || cased_ || windash_) {
        throw Refused("the modifier " + name + " cannot stand after the ones before it");
      }
      way_ = wanted;
    };
    for (const auto& name : modifiers_) {
      if (name == "all") {
        all_ = true;
      } else if (name == "contains" || name == "startswith" || name == "endswith") {
        if (way_ != Way::match && way_ != Way::field) throw Refused("the modifier " + name + " needs texts");
        if (anchored_) throw Refused("more than one of contains, startswith and endswith");
        anchored_ = true;
        open_front_ = name != "startswith";
        open_back_ = name != "endswith";
      } else if (name == "cased") {
        if (way_ != Way::match && way_ != Way::field) throw Refused("the modifier cased needs texts");
        cased_ = true;
      } else if (name == "windash") {
        if (way_ != Way::match || encoded || wide) throw Refused("the modifier windash needs texts");
        windash_ = true;
      } else if (name == "wide" || name == "utf16le" || name == "utf16be" || name == "utf16") {
        if (way_ != Way::match || encoded || wide || anchored_ || windash_) {
          throw Refused("the modifier " + name + " cannot stand after the ones before it");
        }
        wide = true;
        utf16_ = name == "utf16be" ? Utf16::big : name == "utf16" ? Utf16::marked : Utf16::little;
      } else if (name == "base64" || name == "base64offset") {
        if (way_ != Way::match || encoded || anchored_ || windash_) {
          throw Refused("the modifier " + name + " cannot stand after the ones before it");
        }
        encoded = true;
        base64_ = name;
      } else if (name == "re") {
        way(Way::regexp, name);
      } else if (name == "i" || name == "m" || name == "s") {
        if (way_ != Way::regexp) throw Refused("the modifier " + name + " stands after re only");
        (name == "i" ? flags_.any_case : name == "m" ? flags_.multiline : flags_.dot_all) = true;
      } else if (name == "cidr") {
        way(Way::network, name);
      } else if (name == "lt" || name == "lte" || name == "gt" || name == "gte") {
        way(Way::compare, name);
        operator_ = name == "lt" ? " < " : name == "lte" ? " <= " : name == "gt" ? " > " : " >= ";
      } else if (name == "exists") {
        way(Way::exists, name);
      } else if (name == "fieldref") {
        way(Way::field, name);
      } else if (name == "expand") {
        throw Refused("the modifier expand: placeholders have no values here");
      } else {
        throw Refused("the modifier " + shown(name) + " is not supported");
      }
    }
    if (wide && !encoded) throw Refused("UTF-16 without base64 after it: no column has NUL bytes");
  }

  [[nodiscard]] const LogSource::Field& mapped(const std::string& name) const {
    if (const auto found = source_.fields.find(name); found != source_.fields.end()) return found->second;
    if (const auto why = source_.unmapped.find(name); why != source_.unmapped.end()) {
      throw Refused("the field " + name + " has no column: " + why->second);
    }
    throw Refused("the field " + shown(name) + " is not in the taxonomy of " + source_.category);
  }

  std::string one(const YAML::Node& value) {
    if (!value.IsScalar() && !value.IsNull()) throw Refused("a list or map where a value is wanted", line_of(value));
    if (field_.empty()) return keyword(value);
    const auto& field = mapped(field_);
    if (value.IsNull()) {
      if (!modifiers_.empty() && !(modifiers_.size() == 1 && all_)) throw Refused("null with a modifier");
      return field.column + " IS NULL";
    }
    const std::string& text = value.Scalar();
    switch (way_) {
      case Way::match: return field.number ? number(field, value, " = ") : matching(field.column, text);
      case Way::regexp:
        if (field.number) throw Refused(field_ + " is a number: no regular expression can be matched with it");
        return field.column + " REGEXP " + quoted(to_re2(text, flags_));
      case Way::network:
        if (field.number) throw Refused(field_ + " is a number, not an address");
        return field.column + " REGEXP " + quoted(network_regexp(text));
      case Way::compare:
        if (!field.number) throw Refused(field_ + " is a text: numbers cannot be compared with it");
        return number(field, value, operator_);
      case Way::exists: return existence(field, text);
      case Way::field: return other_field(field, text);
    }
    throw Refused("not understood");
  }

  // Without a field: anywhere in one of the texts.
  std::string keyword(const YAML::Node& value) {
    if (value.IsNull()) throw Refused("null without a field", line_of(value));
    if (way_ != Way::match && way_ != Way::regexp) throw Refused("a modifier that needs a field");
    std::vector<std::string> places;
    for (const auto& column : source_.keywords) {
      if (way_ == Way::regexp) {
        places.push_back(column + " REGEXP " + quoted(to_re2(value.Scalar(), flags_)));
      } else {
        if (!anchored_) open_front_ = open_back_ = true;
        places.push_back(matching(column, value.Scalar()));
      }
    }
    return join_sql(std::move(places), " OR ");
  }

  std::string matching(const std::string& column, const std::string& text) const {
    const auto pattern = Pattern::parse(text);
    if (base64_.empty()) return finished(pattern, column);
    if (pattern.has_wildcards()) throw Refused("base64 of wildcards");
    std::string bytes = pattern.plain();
    if (utf16_) bytes = utf16(bytes, *utf16_);
    if (base64_ == "base64") return finished(Pattern::literal(base64(bytes)), column);
    std::vector<std::string> forms;
    for (const auto& form : base64_offsets(bytes)) forms.push_back(finished(Pattern::literal(form), column));
    return join_sql(std::move(forms), " OR ");
  }

  [[nodiscard]] std::string finished(Pattern pattern, const std::string& column) const {
    if (windash_) pattern.loosen_dashes();
    if (open_front_) pattern.prepend_any();
    if (open_back_) pattern.append_any();
    return pattern.sql(column, cased_);
  }

  std::string number(const LogSource::Field& field, const YAML::Node& value, std::string_view with) const {
    if (anchored_ || cased_ || windash_ || !base64_.empty()) {
      throw Refused(field_ + " is a number: texts cannot be matched with it");
    }
    if (!is_number(value.Scalar())) throw Refused(field_ + " is a number; found " + shown(value.Scalar()));
    return field.column + std::string(with) + value.Scalar();
  }

  static std::string existence(const LogSource::Field& field, const std::string& text) {
    std::string lower = text;
    std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c | 0x20) : c; });
    if (lower == "true" || lower == "yes") return field.column + " IS NOT NULL";
    if (lower == "false" || lower == "no") return field.column + " IS NULL";
    throw Refused("exists: found " + shown(text) + "; allowed: true, false");
  }

  std::string other_field(const LogSource::Field& field, const std::string& name) const {
    const auto& other = mapped(name);
    if (field.number || other.number) {
      if (field.number != other.number || anchored_) throw Refused("fieldref between a number and a text");
      return field.column + " = " + other.column;
    }
    const std::string left = cased_ ? field.column : "casefold(" + field.column + ")";
    const std::string right = cased_ ? other.column : "casefold(" + other.column + ")";
    if (!anchored_) return left + " = " + right;
    if (open_front_ && open_back_) return "instr(" + left + ", " + right + ") > 0";
    if (open_back_) return "substr(" + left + ", 1, length(" + right + ")) = " + right;
    return "(length(" + left + ") >= length(" + right + ") AND substr(" + left + ", length(" + left + ") - length(" +
           right + ") + 1) = " + right + ")";
  }

  const LogSource& source_;
  std::string field_;
  std::vector<std::string> modifiers_;
  Way way_ = Way::match;
  bool all_ = false, anchored_ = false, open_front_ = false, open_back_ = false, cased_ = false, windash_ = false;
  RegexpFlags flags_;
  std::string base64_, operator_;
  std::optional<Utf16> utf16_;
};

std::string map_sql(const YAML::Node& node, const LogSource& source, NodeBudget& budget) {
  if (node.size() == 0) throw Refused("an empty map", line_of(node));
  std::vector<std::string> parts;
  std::set<std::string> seen;
  for (const auto& entry : node) {
    budget.take(entry.second);
    if (!entry.first.IsScalar()) throw Refused("a field that is not a word", line_of(entry.first));
    const std::string& key = entry.first.Scalar();
    if (!seen.insert(key).second) throw Refused(shown(key) + " is given twice", line_of(entry.first));
    try {
      parts.push_back(Entry(key, source).sql(entry.second, budget));
    } catch (Refused& refused) {
      if (refused.line == 0) refused.line = line_of(entry.first);
      throw;
    }
  }
  return join_sql(std::move(parts), " AND ");
}

}  // namespace

void NodeBudget::take(const YAML::Node& node) {
  if (left_ == 0) throw Refused("more than " + std::to_string(max_nodes) + " values", line_of(node));
  --left_;
}

unsigned line_of(const YAML::Node& node) {
  return node.Mark().is_null() ? 0 : static_cast<unsigned>(node.Mark().line + 1);
}

std::string join_sql(std::vector<std::string> parts, std::string_view with) {
  // The same twice is no more than once; the order stays.
  std::set<std::string> seen;
  std::erase_if(parts, [&](const std::string& part) { return !seen.insert(part).second; });
  if (parts.size() == 1) return std::move(parts.front());
  std::string out = "(";
  for (const auto& part : parts) out += (out.size() == 1 ? std::string() : std::string(with)) + part;
  return out + ")";
}

std::string search_sql(const YAML::Node& node, const LogSource& source, NodeBudget& budget) {
  budget.take(node);
  if (node.IsMap()) return map_sql(node, source, budget);
  if (!node.IsSequence()) return Entry("", source).sql(node, budget);
  if (node.size() == 0) throw Refused("an empty list", line_of(node));
  std::vector<std::string> parts;
  for (const auto& item : node) {
    budget.take(item);
    parts.push_back(item.IsMap() ? map_sql(item, source, budget) : Entry("", source).sql(item, budget));
  }
  return join_sql(std::move(parts), " OR ");
}

}  // namespace daemoneye::sigma
