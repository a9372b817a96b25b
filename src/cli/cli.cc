#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <ostream>

#include "base/text.h"
#include "cli/command_tree.h"
#include "cli/verbs.h"

namespace daemoneye::cli {
namespace {

constexpr std::chrono::nanoseconds longest_timeout = std::chrono::hours(24);

int say(std::ostream& err, const Failure& failure) {
  err << "error: " << failure.message << '\n';
  for (const auto& detail : failure.details) err << "  " << detail << '\n';
  return static_cast<int>(failure.exit);
}

void add_global_options(CLI::App& app, GlobalOptions& options) {
  // Given twice, in an alias and by hand, the last one counts.
  app.add_option("--config", options.config_file, "Read this file and no other")->type_name("FILE")->take_last();
  app.add_option("--set", options.set, "Set a key, as often as needed (value: YAML)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--db", options.database, "Read this database file instead of the agent's")
      ->type_name("FILE")
      ->take_last();
  app.add_option("--timeout", options.timeout, "Give up after this time")
      ->type_name("SPAN")
      ->capture_default_str()
      ->take_last();
  app.add_option("--format", options.format, "How answers are written")
      ->type_name("table|json|jsonl|csv")
      ->capture_default_str()
      ->take_last();
  app.add_flag("--raw", options.raw, "Times as integers: Unix nanoseconds");
  app.add_flag("--no-color", options.no_colour, "No colours, as with NO_COLOR");
}

Outcome<Format> parse_format(const std::string& text) {
  if (text == "table") return Format::table;
  if (text == "json") return Format::json;
  if (text == "jsonl") return Format::jsonl;
  if (text == "csv") return Format::csv;
  return std::unexpected(Failure(
      Exit::usage, "--format: found '" + base::printable(text.substr(0, 64)) + "'; allowed: table, json, jsonl, csv"));
}

Outcome<std::chrono::nanoseconds> parse_timeout(const std::string& text) {
  auto span = base::parse_duration(text);
  if (!span) return std::unexpected(Failure(Exit::usage, "--timeout: " + span.error().message));
  if (span->count() <= 0 || *span > longest_timeout) {
    return std::unexpected(Failure(Exit::usage, "--timeout: found " + text + "; allowed: above 0, at most 24h"));
  }
  return *span;
}

// The parser's own words, made ours: what was found, and the nearest of what is allowed.
Failure usage_failure(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* where = &app;
  while (!where->get_subcommands().empty()) where = where->get_subcommands().front();
  std::string message = error.what();
  const auto left = where->remaining();
  const auto top_left = app.remaining();
  const auto& unknown = left.empty() ? top_left : left;
  if (!unknown.empty()) {
    std::vector<std::string> names;
    for (const auto* verb : where->get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(verb->get_name());
    }
    for (const CLI::App* level = where; level != nullptr; level = level->get_parent()) {
      for (const auto* option : level->get_options()) names.push_back(option->get_name());
    }
    const std::vector<std::string_view> candidates(names.begin(), names.end());
    const auto near = base::nearest(unknown.front(), candidates);
    message = "not expected: '" + base::printable(unknown.front().substr(0, 64)) + '\'' +
              (near.empty() ? "" : "; did you mean " + std::string(near) + "?");
  }
  std::string command;
  for (const CLI::App* level = where; level != nullptr; level = level->get_parent()) {
    command.insert(0, level->get_name() + (command.empty() ? "" : " "));
  }
  return {Exit::usage, message, {"see " + command + " --help"}};
}

int run_chosen(const Action& chosen, const GlobalOptions& options, Io& io) {
  const auto format = parse_format(options.format);
  if (!format) return say(io.err, format.error());
  const auto timeout = parse_timeout(options.timeout);
  if (!timeout) return say(io.err, timeout.error());
  io.limit_time(*timeout);
  Invocation invocation(io, options, *timeout, *format);
  const auto outcome = chosen(invocation);
  io.out.flush();
  return outcome ? static_cast<int>(*outcome) : say(io.err, outcome.error());
}

}  // namespace

CLI::Validator whole_number(std::uint64_t least, std::uint64_t most) {
  const auto check = [least, most](std::string& text) -> std::string {
    std::uint64_t number = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, number);
    if (error == std::errc() && end == last && number >= least && number <= most) return {};
    return "found '" + base::printable(text.substr(0, 64)) + "'; wanted: a whole number" +
           (most == UINT64_MAX ? ", at least " + std::to_string(least)
                               : " from " + std::to_string(least) + " to " + std::to_string(most));
  };
  return {check, ""};
}

CLI::App* add_verb(CLI::App& app, const char* name, const char* help) {
  auto* verb = app.add_subcommand(name, help);
  verb->fallthrough();
  return verb;
}

namespace {

// The whole command line, once: parsing, help, completions and the reference page are made from it.
void define(CLI::App& app, GlobalOptions& options, bool& version, Action& chosen) {
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 usage or invalid input, 3 done but degraded, 4 agent, store or privilege not "
      "available, 5 integrity violation.");
  add_global_options(app, options);
  app.add_flag("--version", version, "Print the version");
  app.require_subcommand(0, 1);
  add_query(app, chosen);
  add_shell(app, chosen);
  add_schema(app, chosen);
  add_processes(app, chosen);
  add_rules(app, chosen);
  add_alerts(app, chosen);
  add_sinks(app, chosen);
  add_health(app, chosen);
  add_doctor(app, chosen);
  add_config(app, chosen);
  add_database(app, chosen);
  add_recordings(app, chosen);
  add_audit(app, chosen);
  add_bundle(app, chosen);
  add_report(app, chosen);
  add_completion(app, chosen);
}

constexpr const char* program_help = "Asks DaemonEye, the host process monitor.";
constexpr const char* program_name = "daemoneye-cli";

// What stands before the verb's own name in its help: "daemoneye-cli rules".
std::string words_above(const CLI::App& verb) {
  std::string words;
  for (const auto* above = verb.get_parent(); above != nullptr; above = above->get_parent()) {
    words.insert(0, above->get_name() + (words.empty() ? "" : " "));
  }
  return words;
}

}  // namespace

std::string command_reference() {
  CLI::App app(program_help, program_name);
  GlobalOptions options;
  bool version = false;
  Action chosen;
  define(app, options, version, chosen);
  return command_reference(describe(app));
}

int run(const std::vector<std::string>& arguments, Io& io) {
  CLI::App app(program_help, program_name);
  GlobalOptions options;
  bool version = false;
  Action chosen;
  define(app, options, version, chosen);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    const CLI::App* where = &app;
    while (!where->get_subcommands().empty()) where = where->get_subcommands().front();
    io.out << where->help(words_above(*where));
    io.out.flush();
    return static_cast<int>(Exit::done);
  } catch (const CLI::ParseError& error) {
    return say(io.err, usage_failure(app, error));
  }
  if (version) {
    io.out << "daemoneye-cli " << DAEMONEYE_VERSION << '\n';
    io.out.flush();
    return static_cast<int>(Exit::done);
  }
  if (!chosen) return say(io.err, {Exit::usage, "no verb", {"see daemoneye-cli --help"}});
  return run_chosen(chosen, options, io);
}

}  // namespace daemoneye::cli
