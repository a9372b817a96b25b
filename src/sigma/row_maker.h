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
  RowMaker(const YAML::Node& rule, unsigned seed) : rule_(rule), random_(seed) {
    for (const auto& one : rule_["detection"]) {
      const auto name = one.first.Scalar();
      if (name == "condition") continue;
      names_.push_back(name);
      searches_.push_back(one.second);
    }
  }

  // One value of one entry of a search, and two rows, with it alone of its list and without any of it (of `all`: with
  // all of its list and without it), so that the search holds for the first only and the rule for one of the two.
  struct Branch {
    std::string name;
    bool shown = false;  // there are two such rows
    bool used = false;   // the condition asks for its search
    Fields with, without;
  };
  std::vector<Branch> branches(const std::function<bool(const Fields&)>& usable) {
    const DirectMatcher matcher(rule_);
    std::vector<Branch> all;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const auto sets = deciding_sets(matcher, i);
      for (const auto& place : places(searches_[i])) {
        all.push_back({names_[i] + ": " + place.key + " " + std::to_string(place.map) + "/" +
                           std::to_string(place.value.value_or(0)),
                       false,
                       !sets.empty(),
                       {},
                       {}});
        show(all.back(), matcher, usable, sets, i, place);
      }
    }
    return all;
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

  struct Place {
    std::size_t map = 0;  // of a list
    std::string key;
    std::optional<std::size_t> value;  // of a list
  };

  static std::vector<Place> places(const YAML::Node& search) {
    std::vector<Place> all;
    const auto of_map = [&](const YAML::Node& map, std::size_t at) {
      for (const auto& entry : map) {
        if (!entry.second.IsSequence()) all.push_back({at, entry.first.Scalar(), std::nullopt});
        for (std::size_t i = 0; entry.second.IsSequence() && i < entry.second.size(); ++i) {
          all.push_back({at, entry.first.Scalar(), i});
        }
      }
    };
    if (search.IsMap()) of_map(search, 0);
    for (std::size_t i = 0; search.IsSequence() && i < search.size(); ++i) {
      if (search[i].IsMap())
        of_map(search[i], i);
      else
        all.push_back({i, "", std::nullopt});
    }
    if (search.IsScalar()) all.push_back({});
    return all;
  }

  // Sets of the other searches with which it is this one that decides: those of few first, then those of nearly all.
  std::vector<std::vector<bool>> deciding_sets(const DirectMatcher& matcher, std::size_t search) const {
    std::vector<std::vector<bool>> sets;
    const auto consider = [&](std::vector<bool> set) {
      const auto found = [&](bool value) {
        set[search] = value;
        return matcher.condition([&](const std::string& name) {
          return set[static_cast<std::size_t>(std::ranges::find(names_, name) - names_.begin())];
        });
      };
      if (sets.size() < max_sets && found(false) != found(true)) sets.push_back(set);
    };
    const auto n = names_.size();
    for (const bool rest : {false, true}) {
      const std::vector<bool> base(n, rest);
      consider(base);
      for (std::size_t a = 0; a < n; ++a) {
        auto one = base;
        one[a] = !rest;
        consider(one);
        for (std::size_t b = a + 1; b < n; ++b) {
          auto two = one;
          two[b] = !rest;
          consider(two);
        }
      }
    }
    return sets;
  }

  void show(Branch& branch, const DirectMatcher& matcher, const std::function<bool(const Fields&)>& usable,
            const std::vector<std::vector<bool>>& sets, std::size_t search, const Place& place) {
    for (std::size_t tried = 0; tried < max_tries && !sets.empty(); ++tried) {
      const auto& set = sets[tried % sets.size()];
      const auto row = [&](bool with) {
        parts_.clear();
        for (std::size_t i = 0; i < set.size(); ++i) {
          if (i == search)
            satisfy_but(searches_[i], place, with);
          else if (set[i])
            satisfy(searches_[i]);
        }
        return joined();
      };
      branch.with = row(true);
      branch.without = row(false);
      branch.shown = usable(branch.with) && usable(branch.without) && matcher.search(names_[search], branch.with) &&
                     !matcher.search(names_[search], branch.without) &&
                     matcher.matches(branch.with) != matcher.matches(branch.without);
      if (branch.shown) return;
    }
  }

  // All of the search's entries, of the one that is meant only that value, or none (of all values all but that one).
  void satisfy_but(const YAML::Node& search, const Place& place, bool with) {
    const YAML::Node part = search.IsSequence() ? search[place.map] : search;
    if (!part.IsMap()) {
      if (with) satisfy_entry("", part);
      return;
    }
    for (const auto& entry : part) {
      const auto& key = entry.first.Scalar();
      if (key != place.key) {
        satisfy_entry(key, entry.second);
        continue;
      }
      const auto bar = std::min(key.find('|'), key.size());
      const std::string words = key.substr(bar) + "|";
      const bool all = words.find("|all|") != std::string::npos;
      for (std::size_t i = 0; all && place.value && i < entry.second.size(); ++i) {
        if (!with && i == *place.value) continue;
        this->place(bar == 0 ? any_field() : key.substr(0, bar), words, entry.second[i], bar == 0);
      }
      if (all && place.value) continue;
      const YAML::Node value = place.value ? entry.second[*place.value] : entry.second;
      if (with)
        satisfy_entry(key, value);
      else
        refute(key.substr(0, bar), words, value);
    }
  }

  // Something else there, or nothing.
  void refute(const std::string& field, const std::string& words, const YAML::Node& value) {
    if (field.empty()) return;
    Parts& parts = parts_[field];
    const bool number = field.ends_with("Id");
    const bool absent = words.find("|exists|") != std::string::npos && ascii_lower(value.Scalar()) == "true";
    if (number)
      parts.whole = random_() % 2 == 0 ? "1" : "3999999", parts.has_whole = true;
    else if (absent || (!value.IsNull() && random_() % 2 == 0))
      parts.is_null = true;
    else
      parts.within.emplace_back("~");
  }

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

  std::string any_field() {
    const char* fields[] = {"CommandLine", "Image", "User"};
    return fields[random_() % 3];
  }

  void satisfy_entry(const std::string& key, const YAML::Node& value) {
    const auto bar = std::min(key.find('|'), key.size());
    const std::string words = key.substr(bar) + "|";
    std::string field = key.substr(0, bar);
    const bool keyword = field.empty();
    if (keyword) field = any_field();
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
      const bool number = field.ends_with("Id");
      parts_[wanted].whole = number ? "77" : "Sam\u00c9 \u0414\u03a3";
      parts_[wanted].has_whole = true;
      sample = number || has("cased") ? parts_[wanted].whole : "sAM\u00e9 \u0434\u03c3";
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
    else if (parts.has_whole && has("all"))  // wildcards that let the others stand before or behind
      parts.whole = random_() % 2 == 0 ? parts.whole + sample : sample + parts.whole;
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
      std::string text = parts.has_whole ? parts.whole : parts.front;
      if (!parts.has_whole || random_() % 2 == 0) {  // what is wanted whole may have the rest in it already
        for (const auto& part : parts.within) text += (random_() % 3 == 0 ? " " : "") + part;
        if (random_() % 8 == 0 && !parts.has_whole) text += "~";
        text += parts.end;
      }
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

  static constexpr std::size_t max_sets = 8, max_tries = 80;

  YAML::Node rule_;
  std::mt19937 random_;
  std::vector<std::string> names_;
  std::vector<YAML::Node> searches_;  // as the names
  std::map<std::string, Parts> parts_;
};

}  // namespace daemoneye::sigma::testing
