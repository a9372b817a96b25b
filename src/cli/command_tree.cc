#include "cli/command_tree.h"

#include <CLI/CLI.hpp>

#include "base/text.h"

namespace daemoneye::cli {
namespace {

std::vector<std::string> trimmed_parts(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (auto part : base::split(text, separator)) parts.emplace_back(part);
  return parts;
}

// A closed list of values: a check of the parser ("TEXT:{keep,take}") or the type's own name ("low|high[,...]").
std::vector<std::string> choices_of(std::string_view type) {
  if (const auto open = type.find('{'); open != std::string_view::npos && type.ends_with('}')) {
    return trimmed_parts(type.substr(open + 1, type.size() - open - 2), ',');
  }
  if (const auto more = type.find('['); more != std::string_view::npos) type = type.substr(0, more);
  if (type.find('|') == std::string_view::npos) return {};
  return trimmed_parts(type, '|');
}

ValueKind kind_of(std::string_view name) {
  if (name == "FILE" || name == "PATH" || name == "DB.redb") return ValueKind::file;
  if (name == "FOLDER") return ValueKind::folder;
  if (name == "RULE") return ValueKind::rule;
  if (name == "ALERT") return ValueKind::alert;
  if (name == "SINK") return ValueKind::sink;
  if (name == "PID") return ValueKind::pid;
  if (name == "TABLE") return ValueKind::table;
  if (name == "KEY") return ValueKind::key;
  return ValueKind::text;
}

Parameter describe(const CLI::Option& option) {
  Parameter parameter;
  const std::string type = option.get_type_name();
  parameter.help = option.get_description();
  parameter.fallback = option.get_default_str();
  parameter.required = option.get_required();
  if (option.get_positional()) {
    parameter.names = {option.get_name(true)};
    parameter.value = parameter.names.front();
  } else {
    for (const auto& name : option.get_snames()) parameter.names.push_back('-' + name);
    for (const auto& name : option.get_lnames()) parameter.names.push_back("--" + name);
    if (option.get_items_expected_max() == 0) return parameter;  // a flag
    parameter.value = type.substr(0, type.find(':'));
  }
  parameter.repeated = option.get_items_expected_max() > 1;
  parameter.choices = choices_of(type);
  parameter.kind = parameter.choices.empty() ? kind_of(parameter.value) : ValueKind::choice;
  return parameter;
}

void add_parameters(const CLI::App& app, Command& command) {
  for (const auto* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    (option->get_positional() ? command.operands : command.options).push_back(describe(*option));
  }
  for (const auto* below : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (below->get_name().empty()) add_parameters(*below, command);  // a group of options
  }
}

Command describe(const CLI::App& app, const std::string& above) {
  Command command;
  command.name = app.get_name();
  command.path = above;
  command.help = app.get_description();
  // The parser hands a footer down to the verbs.
  if (app.get_parent() == nullptr || app.get_footer() != app.get_parent()->get_footer()) {
    command.footer = app.get_footer();
  }
  add_parameters(app, command);
  for (const auto* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->get_name().empty() || verb->get_group().empty()) continue;
    command.verbs.push_back(describe(*verb, above.empty() ? verb->get_name() : above + ' ' + verb->get_name()));
  }
  return command;
}

}  // namespace

Command describe(const CLI::App& app) { return describe(app, ""); }

}  // namespace daemoneye::cli
