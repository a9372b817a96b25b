#include "observe/exposition.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "base/text.h"

namespace daemoneye::observe {
namespace {

constexpr std::string_view name_characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:";

std::string_view take_name(std::string_view& line) {
  const auto end = line.find_first_not_of(name_characters);
  const auto name = line.substr(0, end);
  line.remove_prefix(name.size());
  return name;
}

// The labels up to the closing brace, which is the first one outside of quotes.
std::optional<std::string_view> take_labels(std::string_view& line) {
  if (!line.starts_with('{')) return std::string_view();
  bool quoted = false;
  for (std::size_t i = 1; i < line.size(); ++i) {
    if (quoted && line[i] == '\\')
      ++i;
    else if (line[i] == '"')
      quoted = !quoted;
    else if (!quoted && line[i] == '}') {
      auto labels = line.substr(1, i - 1);
      line.remove_prefix(i + 1);
      while (labels.ends_with(',')) labels.remove_suffix(1);
      return labels;
    }
  }
  return std::nullopt;
}

std::optional<double> parse_value(std::string_view text) {
  if (text == "+Inf" || text == "Inf") return std::numeric_limits<double>::infinity();
  if (text == "-Inf") return -std::numeric_limits<double>::infinity();
  if (text == "NaN" || text == "Nan") return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<Sample> parse_sample(std::string_view line) {
  Sample sample;
  sample.name = take_name(line);
  const auto labels = take_labels(line);
  if (sample.name.empty() || !labels || !line.starts_with(' ')) return std::nullopt;
  sample.labels = *labels;
  line = base::trim(line);
  const auto value = parse_value(line.substr(0, line.find(' ')));  // a time stamp after it is not kept
  if (!value) return std::nullopt;
  sample.value = *value;
  return sample;
}

Family* find_family(Exposition& exposition, std::string_view name) {
  for (auto& family : exposition.families) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

Family& family_called(Exposition& exposition, std::string_view name) {
  if (auto* family = find_family(exposition, name)) return *family;
  exposition.families.push_back({std::string(name), "", "", {}});
  return exposition.families.back();
}

// The family a sample belongs to: its own name, or that of a histogram or summary it is a part of.
Family& family_of(Exposition& exposition, const std::string& sample_name) {
  for (const std::string_view part : {"_bucket", "_sum", "_count"}) {
    if (!sample_name.ends_with(part)) continue;
    const auto stem = std::string_view(sample_name).substr(0, sample_name.size() - part.size());
    auto* family = find_family(exposition, stem);
    if (family != nullptr && (family->type == "histogram" || family->type == "summary")) return *family;
  }
  return family_called(exposition, sample_name);
}

std::string write_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end};
}

std::string series(const Sample& sample) { return sample.name + '{' + sample.labels + '}'; }

}  // namespace

Exposition parse_exposition(std::string_view text) {
  Exposition exposition;
  for (auto line : base::split(text, '\n')) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) {
      const bool is_help = line.starts_with("# HELP ");
      line.remove_prefix(7);
      const auto name = take_name(line);
      if (name.empty() || !line.starts_with(' ')) {
        ++exposition.refused_lines;
        continue;
      }
      line.remove_prefix(1);
      auto& family = family_called(exposition, name);
      (is_help ? family.help : family.type) = line;
    } else if (!line.starts_with('#')) {
      if (auto sample = parse_sample(line))
        family_of(exposition, sample->name).samples.push_back(std::move(*sample));
      else
        ++exposition.refused_lines;
    }
  }
  return exposition;
}

void merge(Exposition& into, Exposition foreign, std::string_view origin) {
  for (auto& theirs : foreign.families) {
    auto& ours = family_called(into, theirs.name);
    if (ours.help.empty()) ours.help = theirs.help;
    if (ours.type.empty()) ours.type = theirs.type;
    const bool adds_up = ours.type == "counter" || ours.type == "histogram";
    std::map<std::string, std::size_t> known;
    for (std::size_t i = 0; i < ours.samples.size(); ++i) known.emplace(series(ours.samples[i]), i);
    for (auto& sample : theirs.samples) {
      const auto same = known.find(series(sample));
      if (same == known.end()) {
        ours.samples.push_back(std::move(sample));
      } else if (adds_up) {
        ours.samples[same->second].value += sample.value;
      } else {
        sample.labels += (sample.labels.empty() ? "" : ",") + std::string("process=") + base::json_quote(origin);
        ours.samples.push_back(std::move(sample));
      }
    }
  }
}

std::string to_text(const Exposition& exposition) {
  std::string text;
  for (const auto& family : exposition.families) {
    if (!family.help.empty()) text += "# HELP " + family.name + ' ' + family.help + '\n';
    if (!family.type.empty()) text += "# TYPE " + family.name + ' ' + family.type + '\n';
    for (const auto& sample : family.samples) {
      text += sample.name;
      if (!sample.labels.empty()) text += '{' + sample.labels + '}';
      text += ' ' + write_number(sample.value) + '\n';
    }
  }
  return text;
}

}  // namespace daemoneye::observe
