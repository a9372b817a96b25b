// Reading YAML that anybody may have written.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string_view>
#include <vector>

namespace daemoneye::detect {

// The text's documents. Throws YAML::Exception, also when there are more than `most`. yaml-cpp 0.7 gives documents
// without end, and takes memory for each, for a text as short as ","; here that ends.
std::vector<YAML::Node> load_yaml(std::string_view text, std::size_t most);

}  // namespace daemoneye::detect
