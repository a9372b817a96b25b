// config: the settings in force and where they come from.
#include "cli/config.h"

#include <CLI/CLI.hpp>
#include <ostream>

#include "base/text.h"
#include "config/schema.h"

namespace daemoneye::cli {
namespace {

std::string counts(bool live) { return live ? "live" : "restart"; }

Outcome<Exit> show_config(bool origin, Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  if (invocation.format() == Format::table && !origin) {
    invocation.out() << config::to_yaml(*loaded);
    return Exit::done;
  }
  const auto writer = invocation.row_writer();
  std::vector<OutputColumn> columns = {{"key"}, {"value"}};
  if (origin) {
    columns.push_back({"origin"});
    columns.push_back({"a_change_counts"});
  }
  writer->begin(std::move(columns));
  for (const auto& key : config::show(*loaded)) {
    Row row = {key.key, key.value_yaml};
    if (origin) {
      row.emplace_back(key.origin);
      row.emplace_back(counts(key.live));
    }
    writer->row(row);
  }
  writer->finish({}, "");
  return Exit::done;
}

// All that is wrong at once; for programs a row each.
Outcome<Exit> validate_config(Invocation& invocation) {
  if (invocation.format() == Format::table) {
    CLI_TRY([[maybe_unused]] const auto* loaded, invocation.loaded());
    invocation.out() << "valid\n";
    return Exit::done;
  }
  const auto attempt = invocation.try_load();
  const auto writer = invocation.row_writer();
  writer->begin({{"file"}, {"line"}, {"key"}, {"problem"}});
  if (!attempt.loaded) {
    for (const auto& problem : attempt.loaded.error()) {
      const auto colon = problem.place.rfind(':');
      const auto line = colon == std::string::npos
                            ? std::nullopt
                            : base::parse_integer<std::int64_t>(std::string_view(problem.place).substr(colon + 1));
      writer->row({line ? problem.place.substr(0, colon) : problem.place, line ? event::Value(*line) : event::Value(),
                   optional_text(problem.key.empty() ? std::nullopt : std::optional(problem.key)), problem.message});
    }
  }
  writer->finish({}, "");
  return attempt.loaded ? Exit::done : Exit::usage;
}

Outcome<Exit> get_config(const std::string& wanted, Invocation& invocation) {
  CLI_TRY(const auto* loaded, invocation.loaded());
  for (const auto& key : config::show(*loaded)) {
    if (key.key != wanted) continue;
    if (invocation.format() == Format::table) {
      invocation.out() << key.value_yaml << '\n';
    } else {
      write_record(invocation,
                   {{"key"}, {"value"}, {"origin"}, {"default"}, {"allowed"}, {"a_change_counts"}, {"help"}},
                   {key.key, key.value_yaml, key.origin, key.default_yaml, key.allowed, counts(key.live), key.help});
    }
    return Exit::done;
  }
  return std::unexpected(unknown_key(wanted));
}

}  // namespace

Failure unknown_key(const std::string& wanted) {
  const auto shown = base::printable(wanted.substr(0, 64));
  if (config::is_section(wanted)) {
    std::string keys;
    for (const auto child : config::children(wanted)) {
      keys += (keys.empty() ? "" : ", ") + (wanted.empty() ? "" : wanted + '.') + std::string(child);
    }
    return {Exit::usage, '\'' + shown + "' holds keys: name one of them", {keys}};
  }
  if (wanted.starts_with("alerting.sinks")) {
    return {Exit::usage,
            '\'' + shown + "' is part of a list, which is set as a whole",
            {"config set alerting.sinks '[{type: stdout}, {type: file, path: /var/log/alerts.jsonl}]'",
             "sinks that stay as they are keep their lines and comments"}};
  }
  return {Exit::usage, "no key '" + shown + '\'' + config::hint_for_unknown(wanted)};
}

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
  add_config_changes(*config, chosen);
}

}  // namespace daemoneye::cli
