#include <yaml-cpp/yaml.h>

#include <cstdio>
#include <cstdlib>

#include "event/columns.h"
#include "sigma/bundled_taxonomy.h"
#include "sigma/refused.h"
#include "sigma/sigma.h"

namespace daemoneye::sigma {
namespace {

unsigned line_of(const YAML::Node& node) {
  return node.Mark().is_null() ? 0 : static_cast<unsigned>(node.Mark().line + 1);
}

YAML::Node need(const YAML::Node& map, const char* key, bool (YAML::Node::*is)() const, const char* what) {
  const auto node = map[key];
  if (!node || !(node.*is)()) throw Refused(std::string(key) + ": missing, or not " + what, line_of(map));
  return node;
}

std::vector<std::string> texts(const YAML::Node& map, const char* key) {
  std::vector<std::string> list;
  for (const auto& item : need(map, key, &YAML::Node::IsSequence, "a list")) list.push_back(item.as<std::string>());
  return list;
}

LogSource read_source(const YAML::Node& node) {
  LogSource source;
  source.category = need(node, "category", &YAML::Node::IsScalar, "a text").Scalar();
  source.from = need(node, "from", &YAML::Node::IsScalar, "a text").Scalar();
  source.where = need(node, "where", &YAML::Node::IsScalar, "a text").Scalar();
  source.products = texts(node, "products");
  source.select = texts(node, "select");
  const auto alias = source.from.substr(source.from.rfind(' ') + 1);
  for (const auto& entry : need(node, "fields", &YAML::Node::IsMap, "a map")) {
    const auto name = entry.second.as<std::string>();
    const auto column = event::find_column(name);
    if (!column) throw Refused("fields: there is no column " + name, line_of(entry.second));
    if (event::info(*column).is_time) throw Refused("fields: " + name + " is a time", line_of(entry.second));
    source.fields[entry.first.as<std::string>()] = {alias + "." + name,
                                                    event::info(*column).type != event::ColumnType::text};
  }
  for (const auto& field : texts(node, "keywords")) {
    const auto found = source.fields.find(field);
    if (found == source.fields.end()) throw Refused("keywords: there is no field " + field, line_of(node["keywords"]));
    source.keywords.push_back(found->second.column);
  }
  if (const auto unmapped = node["unmapped"]; unmapped && unmapped.IsMap()) {
    for (const auto& entry : unmapped) source.unmapped[entry.first.as<std::string>()] = entry.second.as<std::string>();
  }
  return source;
}

}  // namespace

Result<Taxonomy> Taxonomy::parse(std::string_view yaml) {
  const auto wrong = [](unsigned line, const std::string& why) {
    return fail(Errc::invalid_input, "taxonomy, line " + std::to_string(line) + ": " + why);
  };
  try {
    const auto root = YAML::Load(std::string(yaml));
    if (!root.IsMap()) return wrong(1, "not a map");
    Taxonomy taxonomy;
    for (const auto& node : need(root, "sources", &YAML::Node::IsSequence, "a list")) {
      if (!node.IsMap()) return wrong(line_of(node), "a source is not a map");
      taxonomy.sources.push_back(read_source(node));
    }
    return taxonomy;
  } catch (const Refused& refused) {
    return wrong(refused.line, refused.reason);
  } catch (const YAML::Exception& error) {
    return wrong(error.mark.is_null() ? 0 : static_cast<unsigned>(error.mark.line + 1), error.msg);
  }
}

const Taxonomy& Taxonomy::bundled() {
  static const Taxonomy taxonomy = [] {
    auto parsed = parse(bundled_taxonomy());
    if (!parsed) {  // a test reads it too
      std::fprintf(stderr, "%s\n", parsed.error().message.c_str());
      std::abort();
    }
    return *std::move(parsed);
  }();
  return taxonomy;
}

}  // namespace daemoneye::sigma
