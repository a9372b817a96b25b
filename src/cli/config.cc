// config: the settings in force and where they come from.
#include <CLI/CLI.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/verbs.h"

namespace daemoneye::cli {
namespace {

Outcome<Exit> show_config(bool origin, Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  if (invocation.format() == Format::table && !origin) {
    invocation.out() << config::to_yaml(*loaded);
    return Exit::done;
  }
  const auto writer = invocation.row_writer();
  std::vector<OutputColumn> columns = {{"key"}, {"value"}};
  if (origin) columns.push_back({"origin"});
  writer->begin(std::move(columns));
  for (const auto& key : config::show(*loaded)) {
    Row row = {key.key, key.value_yaml};
    if (origin) row.emplace_back(key.origin);
    writer->row(row);
  }
  writer->finish({}, "");
  return Exit::done;
}

Outcome<Exit> validate_config(Invocation& invocation) {
  CLI_TRY([[maybe_unused]] const auto* loaded, invocation.loaded());
  invocation.out() << "valid\n";
  return Exit::done;
}

Outcome<Exit> get_config(const std::string& wanted, Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  const auto keys = config::show(*loaded);
  std::vector<std::string_view> names;
  for (const auto& key : keys) {
    if (key.key != wanted) {
      names.push_back(key.key);
      continue;
    }
    if (invocation.format() == Format::table) {
      invocation.out() << key.value_yaml << '\n';
    } else {
      write_record(invocation, {{"key"}, {"value"}, {"origin"}, {"default"}, {"allowed"}, {"help"}},
                   {key.key, key.value_yaml, key.origin, key.default_yaml, key.allowed, key.help});
    }
    return Exit::done;
  }
  const auto near = base::nearest(wanted, names);
  return std::unexpected(Failure(Exit::usage, "no key '" + base::printable(wanted.substr(0, 64)) + '\'' +
                                                  (near.empty() ? "" : "; did you mean " + std::string(near) + "?")));
}

}  // namespace

void add_config(CLI::App& app, Action& chosen) {
  auto* config = add_verb(app, "config", "The configuration");
  config->require_subcommand(1);
  auto* show = add_verb(*config, "show", "Print the settings in force; secrets as their reference");
  const auto origin = std::make_shared<bool>(false);  // shared: the parser fills what the action reads
  show->add_flag("--origin", *origin, "And where each comes from");
  show->callback(
      [origin, &chosen] { chosen = [origin](Invocation& invocation) { return show_config(*origin, invocation); }; });
  add_verb(*config, "validate", "Check the configuration")->callback([&chosen] { chosen = validate_config; });
  auto* get = add_verb(*config, "get", "Print the value of one key");
  const auto key = std::make_shared<std::string>();
  get->add_option("KEY", *key, "Such as app.batch_size")->required();
  get->callback([key, &chosen] { chosen = [key](Invocation& invocation) { return get_config(*key, invocation); }; });
}

}  // namespace daemoneye::cli
