#include "detect/yaml_load.h"

#include <yaml-cpp/eventhandler.h>

#include <sstream>

namespace daemoneye::detect {
namespace {

class Ignoring final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

}  // namespace

std::vector<YAML::Node> load_yaml(std::string_view text, std::size_t most) {
  const std::string copy(text);
  std::istringstream stream(copy);
  YAML::Parser parser(stream);
  Ignoring events;
  for (std::size_t count = 0; parser.HandleNextDocument(events); ++count) {
    if (count == most) {
      throw YAML::ParserException(YAML::Mark::null_mark(), "more than " + std::to_string(most) + " documents");
    }
  }
  return YAML::LoadAll(copy);
}

}  // namespace daemoneye::detect
