// Prometheus' text exposition format as families of samples, so that two programs' texts can become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace daemoneye::observe {

struct Sample {
  std::string name;    // of the line: the family's, or with _bucket, _sum, _count
  std::string labels;  // between the braces, as written; empty: none
  double value = 0;
};

struct Family {
  std::string name, help, type;
  std::vector<Sample> samples;
};

struct Exposition {
  std::vector<Family> families;
  std::size_t refused_lines = 0;  // not in the format
};

Exposition parse_exposition(std::string_view text);
// Each family is listed once. Of a series that both have, counters and histograms are added up (they count the same
// thing in two programs), and other kinds get the label `process` with the foreign origin.
void merge(Exposition& into, Exposition foreign, std::string_view origin);
std::string to_text(const Exposition& exposition);

}  // namespace daemoneye::observe
