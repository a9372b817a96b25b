// Sigma rules -> rule files of ours. What cannot be said exactly in our SQL is refused with the reason.
#pragma once

#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace daemoneye::sigma {

inline constexpr std::size_t max_file_bytes = 256 * 1024;
inline constexpr std::size_t max_documents = 100;  // of one file
inline constexpr std::size_t max_nodes = 20'000;   // YAML nodes that are looked at, aliases each time
inline constexpr std::size_t max_values = 2000;    // of one field

// What a log source of Sigma is here.
struct LogSource {
  std::string category;
  std::vector<std::string> products;
  std::string from, where;            // "process_events e", "e.kind IN ('exec', 'seen')"
  std::vector<std::string> select;    // "e.pid"
  std::vector<std::string> keywords;  // columns that a value without a field is looked for in
  struct Field {
    std::string column;
    bool number = false;
  };
  std::map<std::string, Field, std::less<>> fields;
  std::map<std::string, std::string, std::less<>> unmapped;  // why
};

class Taxonomy {
 public:
  // From a data file (src/sigma/taxonomy.yaml says how). The error names the line.
  static Result<Taxonomy> parse(std::string_view yaml);
  static const Taxonomy& bundled();
  std::vector<LogSource> sources;
};

struct Refusal {
  std::string file, id, reason;  // id: as far as it could be read
  unsigned line = 0;
};
struct Imported {
  std::string file;       // where it came from
  std::string id, title;  // of the rule that it became
  std::string yaml;       // that rule's file
};
using Outcome = std::expected<Imported, Refusal>;

// Each document of the text. Every rule that comes out was compiled by the SQL front door.
std::vector<Outcome> translate(std::string_view text, const std::string& file,
                               const Taxonomy& taxonomy = Taxonomy::bundled());

}  // namespace daemoneye::sigma
