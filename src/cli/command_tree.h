// The command line as data: read off the parser, so that completions and the reference page are made from the one
// definition that also parses.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace daemoneye::cli {

// What a value is, for a shell that completes it.
enum class ValueKind { none, text, choice, file, folder, rule, alert, sink, pid, table, key };

struct Parameter {
  std::vector<std::string> names = {};  // "-h", "--help"; of an operand its one name: "SQL"
  std::string value = {};               // what stands for the value: "FILE"; empty: a flag
  std::string help = {};
  std::string fallback = {};
  bool required = false, repeated = false;
  ValueKind kind = ValueKind::none;
  std::vector<std::string> choices = {};  // of kind choice
};

struct Command {
  std::string path = {};  // "rules test"; empty: the program itself
  std::string name = {}, help = {}, footer = {};
  std::vector<Parameter> options = {}, operands = {};
  std::vector<Command> verbs = {};
};

Command describe(const CLI::App& app);

// The shells there are scripts for.
inline constexpr const char* completion_shells[] = {"bash", "zsh", "fish"};
// The script that completes `program`; nothing for another shell.
std::optional<std::string> completion_script(const Command& program, std::string_view shell);
// docs/commands.md
std::string command_reference(const Command& program);

}  // namespace daemoneye::cli
