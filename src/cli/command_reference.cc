// docs/commands.md: the command line in words. The manual page is made from it.
#include "cli/command_tree.h"

namespace daemoneye::cli {
namespace {

constexpr const char* head = R"(# Commands

This page is made from the definition of the command line (`src/cli/`); a test holds it up to date.

## Synopsis

    daemoneye-cli [OPTIONS] VERB [OPTIONS] [OPERANDS]

## Description

`daemoneye-cli` asks the running agent, or its store where the answer is there; it also works while the agent is stopped.
Without root it needs group `daemoneye` to read, and group `daemoneye-admin` to change something. A TIME is a span ago
(`90s`, `5m`, `2h`, `7d`) or a moment in ISO 8601. Options of the program may stand before or after the verb.
)";

constexpr const char* tail = R"page(
## Examples

```sh
daemoneye-cli alerts list --since 1h --severity high,critical
daemoneye-cli query "SELECT time, pid, command_line FROM process_events WHERE name = 'curl' AND time > ago('10m')"
daemoneye-cli ps --tree --at 5m
daemoneye-cli --format json health
```

## Exit codes

| code | |
|---|---|
| `0` | done |
| `1` | failed |
| `2` | usage, or an input that is not valid: a flag, SQL, a rule, the configuration |
| `3` | done, but the result is degraded: standard error, or `completeness` in JSON, says why |
| `4` | the agent, the store or a privilege is not available |
| `5` | an integrity violation |

## Environment

| variable | |
|---|---|
| `DAEMONEYE_*` | settings: see [configuration.md](configuration.md) |
| `NO_COLOR` | no colours, as with `--no-color`; `TERM=dumb` as well |
| `PAGER` | shows what is longer than the terminal; without it `less` or `more` |
)page";

std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += (c == '|' ? "\\" : "") + std::string(1, c);
  return out;
}

std::string shown(const Parameter& parameter) {
  std::string text;
  for (const auto& name : parameter.names) text += (text.empty() ? "" : ", ") + name;
  if (!parameter.value.empty() && parameter.value != parameter.names.front()) text += ' ' + parameter.value;
  return text;
}

std::string explained(const Parameter& parameter) {
  std::string text = parameter.help;
  if (parameter.required && parameter.names.front().starts_with('-')) text += " (required)";
  if (parameter.repeated && parameter.names.front().starts_with('-') && !text.contains("often") &&
      !text.contains("again for more") && !text.contains("repeated")) {
    text += "; may be given again";
  }
  if (!parameter.fallback.empty()) text += "; default: `" + parameter.fallback + '`';
  return text;
}

std::string table(const Command& command) {
  std::string text;
  for (const auto* list : {&command.operands, &command.options}) {
    for (const auto& parameter : *list) {
      if (parameter.names.front() == "-h") continue;
      text += "| `" + cell(shown(parameter)) + "` | " + cell(explained(parameter)) + " |\n";
    }
  }
  return text.empty() ? "" : "\n| | |\n|---|---|\n" + text;
}

std::string usage(const Command& command) {
  std::string text = "daemoneye-cli " + command.path;
  bool optional = false;
  for (const auto& option : command.options) {
    if (option.names.front() == "-h") continue;
    if (option.required) text += ' ' + option.names.back() + ' ' + option.value;
    optional |= !option.required;
  }
  if (optional) text += " [OPTIONS]";
  for (const auto& operand : command.operands) {
    const std::string name = operand.names.front() + (operand.repeated ? "..." : "");
    text += ' ' + (operand.required ? name : '[' + name + ']');
  }
  return text;
}

void add_command(const Command& command, std::string& page) {
  page += (command.path.contains(' ') ? "\n### " : "\n## ") + command.path + "\n\n";
  if (command.verbs.empty()) page += "    " + usage(command) + "\n\n";
  page += command.help + ".\n" + table(command);
  if (!command.footer.empty()) page += '\n' + command.footer + '\n';
  for (const auto& verb : command.verbs) add_command(verb, page);
}

}  // namespace

std::string command_reference(const Command& program) {
  std::string page = head;
  page += "\n## Options\n" + table(program);
  for (const auto& verb : program.verbs) add_command(verb, page);
  return page + tail;
}

}  // namespace daemoneye::cli
