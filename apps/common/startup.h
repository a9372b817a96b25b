// What both daemons do first: read the command line, load the configuration, start the log.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/config.h"

namespace daemoneye::apps {

// Exit codes of the contract, and one of our own.
enum ExitCode : int {
  exit_ok = 0,
  exit_failed = 1,
  exit_invalid = 2,
  exit_unavailable = 4,
  exit_integrity = 5,
  exit_source_failed = 10
};

struct CommandLine {
  std::optional<std::string> config_file;
  std::vector<std::string> set;
  std::string role;  // the value of --role; empty when absent
  // The same options again, for a child.
  [[nodiscard]] std::vector<std::string> arguments() const;
};

// Handles --help and --version and reports bad flags: then the exit code is set. `roles`: the allowed values of --role.
struct Parsed {
  CommandLine command_line;
  std::optional<int> exit_code;
};
Parsed parse_command_line(int argc, char** argv, const std::string& program, const std::string& description,
                          const std::vector<std::string>& roles);

// Every problem on stderr, then nothing: the caller ends with exit_invalid.
std::optional<config::Loaded> load_config(const CommandLine& command_line, const std::string& program);

// The host's name, for alerts.
std::string host_name();

// Reports `what` and the error on stderr and in the log.
int give_up(const std::string& program, const std::string& what, int code);

}  // namespace daemoneye::apps
