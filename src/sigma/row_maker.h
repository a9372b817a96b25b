// Rows that hit and miss each part of a Sigma rule, made from the rule itself. For tests.
#pragma once

#include <random>

#include "sigma/direct_matcher.h"

namespace daemoneye::sigma::testing {

// A text that the regular expression finds, as far as this understands it.
class RegexpSample {
 public:
  RegexpSample(const std::string& pattern, std::mt19937& random) : in_(pattern), random_(random) {}
  std::string make() { return alternatives(); }

 private:
  std::string alternatives() {
    std::vector<std::string> all = {sequence()};
    while (at_ < in_.size() && in_[at_] == '|') {
      ++at_;
      all.push_back(sequence());
    }
    return all[random_() % all.size()];
  }
  std::string sequence() {
    std::string out;
    while (at_ < in_.size() && in_[at_] != '|' && in_[at_] != ')') out += repeated(atom());
    return out;
  }
  std::string repeated(const std::string& one) {
    if (at_ >= in_.size()) return one;
    std::size_t least = 1, most = 1;
    const char c = in_[at_];
    if (c == '*')
      least = 0, most = 2, ++at_;
    else if (c == '+')
      most = 2, ++at_;
    else if (c == '?')
      least = 0, ++at_;
    else if (c == '{') {
      const auto end = in_.find('}', at_);
      least = std::stoul(in_.substr(at_ + 1));
      most = least + (in_.find(',', at_) < end ? 1 : 0);
      const auto comma = in_.find(',', at_);
      if (comma < end && comma + 1 < end) most = std::stoul(in_.substr(comma + 1));
      at_ = end + 1;
    }
    if (at_ < in_.size() && in_[at_] == '?' && c != '?') ++at_;
    std::string out;
    for (std::size_t count = least + random_() % (most - least + 1); count > 0; --count) out += one;
    return out;
  }
  std::string atom() {
    const char c = in_[at_++];
    if (c == '^' || c == '$') return "";
    if (c == '.') return "x";
    if (c == '\\') return escaped(in_[at_++]);
    if (c == '[') return of_class();
    if (c != '(') return std::string(1, c);
    if (in_.compare(at_, 2, "?:") == 0) at_ += 2;
    auto inner = alternatives();
    ++at_;
    return inner;
  }
  static std::string escaped(char c) {
    switch (c) {
      case 's': return " ";
      case 'd': return "7";
      case 'w': return "w";
      case 'S':
      case 'D': return "q";
      case 'W': return "-";
      case 'b':
      case 'B': return "";
      case 'n': return "\n";
      case 't': return "\t";
      default: return std::string(1, c);
    }
  }
  std::string of_class() {
    std::vector<std::string> members;
    const bool negated = in_[at_] == '^';
    if (negated) ++at_;
    for (bool first = true; in_[at_] != ']' || first; first = false) {
      if (in_[at_] == '\\') {
        members.push_back(escaped(in_[at_ + 1]));
        at_ += 2;
      } else {
        members.emplace_back(1, in_[at_++]);
      }
      if (in_[at_] == '-' && in_[at_ + 1] != ']') at_ += 2;
    }
    ++at_;
    return negated ? "~" : members[random_() % members.size()];
  }

  const std::string in_;
  std::mt19937& random_;
  std::size_t at_ = 0;
};

class RowMaker {
 public:
  RowMaker(const YAML::Node& rule, unsigned seed) : detection_(rule["detection"]), random_(seed) {
    for (const auto& one : detection_) {
      const auto name = one.first.Scalar();
      if (name != "condition") searches_.push_back(one.second);
    }
  }

  std::vector<Fields> make(std::size_t count) {
    std::vector<Fields> rows = {{}};
    for (const auto& search : searches_) {  // each alone, and each spoilt
      for (int i = 0; i < 4; ++i) {
        parts_.clear();
        satisfy(search);
        rows.push_back(joined());
        rows.push_back(spoilt(joined()));
      }
    }
    while (rows.size() < count) {
      parts_.clear();
      for (const auto& search : searches_) {
        if (random_() % 2 == 0) satisfy(search);
      }
      auto row = joined();
      rows.push_back(row);
      rows.push_back(spoilt(std::move(row)));
    }
    return rows;
  }

 private:
  struct Parts {
    std::string whole, front, end;
    std::vector<std::string> within;
    bool has_whole = false, is_null = false;
  };

  const YAML::Node pick(const YAML::Node& list) { return list[random_() % list.size()]; }

  void satisfy(const YAML::Node& search) {
    if (search.IsMap()) {
      for (const auto& one : search) satisfy_entry(one.first.Scalar(), one.second);
      return;
    }
    if (!search.IsSequence()) return satisfy_entry("", search);
    const auto one = pick(search);
    if (one.IsMap())
      satisfy(one);
    else
      satisfy_entry("", one);
  }

  void satisfy_entry(const std::string& key, const YAML::Node& value) {
    const auto bar = std::min(key.find('|'), key.size());
    const std::string words = key.substr(bar) + "|";
    std::string field = key.substr(0, bar);
    const bool keyword = field.empty();
    if (keyword) {
      const char* fields[] = {"CommandLine", "Image", "User"};
      field = fields[random_() % 3];
    }
    if (value.IsSequence() && words.find("|all|") == std::string::npos)
      return place(field, words, pick(value), keyword);
    if (!value.IsSequence()) return place(field, words, value, keyword);
    for (const auto& item : value) place(field, words, item, keyword);
  }

  void place(const std::string& field, const std::string& words, const YAML::Node& value, bool keyword) {
    const auto has = [&](const char* word) { return words.find(std::string("|") + word + "|") != std::string::npos; };
    Parts& parts = parts_[field];
    if (value.IsNull()) {
      parts.is_null = true;
      return;
    }
    const std::string wanted = value.Scalar();
    std::string sample;
    if (has("exists")) {
      parts.is_null = ascii_lower(wanted) != "true";
      if (!parts.is_null) parts.within.push_back("x");
      return;
    }
    if (has("fieldref")) {
      parts_[wanted].whole = "Same";
      parts_[wanted].has_whole = true;
      sample = "sAME";
    } else if (has("re")) {
      sample = RegexpSample(wanted, random_).make();
    } else if (has("cidr")) {
      sample = wanted.substr(0, wanted.find('/'));
    } else if (has("lt") || has("lte") || has("gt") || has("gte")) {
      sample = std::to_string(std::stoll(wanted) + static_cast<long long>(random_() % 3) - 1);
    } else {
      sample = text_sample(wanted, has);
    }
    if (has("contains") || has("re") || (keyword && !has("startswith") && !has("endswith")))
      parts.within.push_back(sample);
    else if (has("startswith"))
      parts.front = sample;
    else if (has("endswith"))
      parts.end = sample;
    else
      parts.whole = sample, parts.has_whole = true;
  }

  template <class Has>
  std::string text_sample(const std::string& wanted, const Has& has) {
    auto form = elements(wanted);
    if (has("windash")) form = with_loose_dashes(form);
    Elements made;
    for (const auto& element : form) {
      if (element.kind == Element::dash) {
        constexpr char32_t all[] = {U'-', U'/', 0x2013, 0x2014, 0x2015};
        made.push_back({Element::literal, all[random_() % 5]});
      } else if (element.kind == Element::one) {
        made.push_back({Element::literal, U'q'});
      } else if (element.kind == Element::many) {
        if (random_() % 2 == 0) made.push_back({Element::literal, U'z'});
      } else {
        made.push_back(element);
      }
    }
    std::string text = text_of(made);
    for (const char* name : {"wide", "utf16le", "utf16be", "utf16"}) {
      if (has(name)) text = utf16_bytes(text, name);
    }
    if (has("base64")) return whole_base64(text);
    if (has("base64offset"))
      return whole_base64(std::string(random_() % 3, 'A') + text + std::string(random_() % 3, 'b'));
    return text;
  }

  Fields joined() {
    Fields row;
    for (const auto& [field, parts] : parts_) {
      if (parts.is_null && random_() % 2 == 0) continue;
      std::string text = parts.front;
      if (parts.has_whole) text = parts.whole;
      for (const auto& part : parts.within) text += (random_() % 3 == 0 ? " " : "") + part;
      if (random_() % 8 == 0 && !parts.has_whole) text += "~";
      text += parts.end;
      if (random_() % 3 == 0) text = other_case(text);
      row[field] = text;
    }
    return row;
  }

  std::string other_case(std::string text) {
    for (char& c : text) {
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (letter && random_() % 2 == 0) c = static_cast<char>(c ^ 0x20);
    }
    return text;
  }

  Fields spoilt(Fields row) {
    if (row.empty()) return row;
    auto at = std::next(row.begin(), static_cast<long>(random_() % row.size()));
    std::string& text = at->second;
    const bool number = at->first.ends_with("Id");
    switch (random_() % 6) {
      case 0: row.erase(at); break;
      case 1: text = number ? "1" : ""; break;
      case 2: text += number ? "1" : "x"; break;
      case 3: text = (number ? "1" : "x") + text; break;
      case 4:
        // Not within a character.
        if (!text.empty() && static_cast<unsigned char>(text.back()) < 0x80 && !number) text.pop_back();
        break;
      default:
        if (!number && !text.empty() && static_cast<unsigned char>(text[text.size() / 2]) < 0x80)
          text[text.size() / 2] = '_';
    }
    return row;
  }

  YAML::Node detection_;
  std::mt19937 random_;
  std::vector<YAML::Node> searches_;
  std::map<std::string, Parts> parts_;
};

}  // namespace daemoneye::sigma::testing
