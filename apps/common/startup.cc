#include "common/startup.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>

#include "observe/log.h"

namespace daemoneye::apps {

std::vector<std::string> CommandLine::arguments() const {
  std::vector<std::string> arguments;
  if (config_file) {
    arguments.emplace_back("--config");
    arguments.push_back(*config_file);
  }
  for (const auto& setting : set) {
    arguments.emplace_back("--set");
    arguments.push_back(setting);
  }
  return arguments;
}

Parsed parse_command_line(int argc, char** argv, const std::string& program, const std::string& description,
                          const std::vector<std::string>& roles) {
  Parsed parsed;
  auto& line = parsed.command_line;
  CLI::App app{description, program};
  std::string config_file;
  app.add_option("--config", config_file, "Configuration file instead of the user's and the system's")
      ->type_name("FILE");
  // One value an option: a YAML list in a value must not be cut into pieces.
  app.add_option("--set", line.set, "Set one key: --set app.scan_interval_ms=15000; may be repeated")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  app.add_option("--role", line.role, "Which part of the program this process is (normally not given)")
      ->check(CLI::IsMember(roles));
  app.set_version_flag("--version", program + " " DAEMONEYE_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exit_code = app.exit(error) == 0 ? exit_ok : exit_invalid;
    return parsed;
  }
  if (!config_file.empty()) line.config_file = config_file;
  return parsed;
}

std::optional<config::Loaded> load_config(const CommandLine& command_line, const std::string& program) {
  auto loaded = config::load(config::sources_from_process(command_line.config_file, command_line.set));
  if (!loaded) {
    std::fprintf(stderr, "%s: the configuration has %zu problem%s; nothing was started\n", program.c_str(),
                 loaded.error().size(), loaded.error().size() == 1 ? "" : "s");
    for (const auto& problem : loaded.error()) std::fprintf(stderr, "  %s\n", config::to_string(problem).c_str());
    return std::nullopt;
  }
  return std::move(*loaded);
}

std::string host_name() {
  std::array<char, 256> buffer{};
  if (::gethostname(buffer.data(), buffer.size() - 1) != 0) return "localhost";
  return buffer.data();
}

int give_up(const std::string& program, const std::string& what, int code) {
  observe::log(observe::Level::error, program, "cannot start", {{"error", what}});
  std::fprintf(stderr, "%s: %s\n", program.c_str(), what.c_str());
  return code;
}

}  // namespace daemoneye::apps
