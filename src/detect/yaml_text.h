// Writing the YAML of a rule file.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace daemoneye::detect {

class YamlText {
 public:
  void comment(std::string_view text);
  void text(std::string_view key, std::string_view value);
  void list(std::string_view key, const std::vector<std::string>& items);  // nothing when it is empty
  void block(std::string_view key, std::string_view value);                // as `|` where that keeps each byte
  void begin_map(std::string_view key);
  void nested_text(std::string_view key, std::string_view value);  // of the map that was begun
  void nested_list(std::string_view key, const std::vector<std::string>& items);
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// As a YAML scalar that reads back as this text.
std::string yaml_scalar(std::string_view text);

}  // namespace daemoneye::detect
