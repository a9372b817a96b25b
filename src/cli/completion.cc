// completion: scripts for three shells, each made from the same description of the command line. All three go over the
// words the same way: the value of an option is skipped, and a word that leads to another verb is followed.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>
#include <set>

#include "cli/command_tree.h"
#include "cli/verbs.h"
#include "config/schema.h"
#include "sql/sql.h"

namespace daemoneye::cli {
namespace {

// Asked of the program itself while completing; its first column is offered.
constexpr const char* ask_for_rules = "query 'SELECT rule_id FROM detection_rules'";
constexpr const char* ask_for_alerts = "query 'SELECT alert_id FROM alerts ORDER BY time DESC LIMIT 50'";
constexpr const char* ask_for_sinks = "sinks list";
constexpr const char* ask_for_pids = "query 'SELECT pid FROM processes WHERE exit_time IS NULL'";

std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + '\'';
}

template <class Words>
std::string joined(const Words& words, std::string_view separator) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : std::string(separator)) + std::string(word);
  return out;
}

template <class Visit>
void each_command(const Command& command, const Visit& visit) {
  visit(command);
  for (const auto& verb : command.verbs) each_command(verb, visit);
}

std::string replaced(std::string text, std::string_view mark, std::string_view by) {
  const auto at = text.find(mark);
  return at == std::string::npos ? text : text.replace(at, mark.size(), by);
}

// Options that are followed by a value, whatever the verb.
std::set<std::string> options_with_value(const Command& program) {
  std::set<std::string> names;
  each_command(program, [&](const Command& command) {
    for (const auto& option : command.options) {
      if (!option.value.empty()) names.insert(option.names.begin(), option.names.end());
    }
  });
  return names;
}

std::vector<std::string> paths(const Command& program) {
  std::vector<std::string> all;
  each_command(program, [&](const Command& command) {
    if (!command.path.empty()) all.push_back(command.path);
  });
  return all;
}

std::vector<std::string> option_names(const Command& command) {
  std::vector<std::string> names;
  for (const auto& option : command.options) names.insert(names.end(), option.names.begin(), option.names.end());
  return names;
}

std::vector<std::string> verb_names(const Command& command) {
  std::vector<std::string> names;
  for (const auto& verb : command.verbs) names.push_back(verb.name);
  return names;
}

std::vector<std::string> words_of(const Parameter& parameter) {
  std::vector<std::string> words = parameter.choices;
  if (parameter.kind == ValueKind::table) {
    for (const auto& table : sql::catalog()) words.emplace_back(table.name);
  }
  if (parameter.kind == ValueKind::key) {
    for (const auto& key : config::schema()) words.push_back(key.name);
  }
  return words;
}

const char* kind_name(ValueKind kind) {
  switch (kind) {
    case ValueKind::choice:
    case ValueKind::table:
    case ValueKind::key: return "words";
    case ValueKind::file: return "file";
    case ValueKind::folder: return "folder";
    case ValueKind::rule: return "rule";
    case ValueKind::alert: return "alert";
    case ValueKind::sink: return "sink";
    case ValueKind::pid: return "pid";
    case ValueKind::none:
    case ValueKind::text: break;
  }
  return "text";
}

// bash and zsh: what the value of each option is, by "path|option"; options of the program itself go with every path.
std::string cases_of_values(const Command& program, const char* indent, const char* open, const char* close) {
  std::string text;
  each_command(program, [&](const Command& command) {
    for (const auto& option : command.options) {
      if (option.value.empty() || option.kind == ValueKind::text) continue;
      for (const auto& name : option.names) {
        const std::string pattern =
            command.path.empty() ? "*" + shell_quoted("|" + name) : shell_quoted(command.path + '|' + name);
        text += indent + pattern + ") kind=" + kind_name(option.kind);
        if (const auto words = words_of(option); !words.empty())
          text += " values=" + (open + joined(words, " ") + close);
        text += " ;;\n";
      }
    }
  });
  return text;
}

constexpr const char* bash_template =
    R"script(# Completes daemoneye-cli in bash; printed by `daemoneye-cli completion bash`.
# For one user: ~/.local/share/bash-completion/completions/daemoneye-cli

_daemoneye_cli() {
    local IFS=$' \t\n' cur=${COMP_WORDS[COMP_CWORD]} at='' option='' word i kind='' values='' verbs='' options=''
    local program=("${COMP_WORDS[0]/#\~/$HOME}" --timeout 2s --format csv)
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ $word == = ]] && continue
        if [[ $option ]]; then
            case $option in
            --config | --db) program+=("$option" "${word/#\~/$HOME}") ;;
            esac
            option=''
            continue
        fi
        case $word in
        @VALUED@) option=$word ;;
        -*) ;;
        *)
            case "$at${at:+ }$word" in
            @PATHS@) at="$at${at:+ }$word" ;;
            esac
            ;;
        esac
    done
    [[ $cur == = ]] && cur=''
    case $at in
@COMMANDS@    esac
    if [[ $option ]]; then
        kind=text values=''
        case "$at|$option" in
@VALUES@        esac
    elif [[ $cur == -* ]]; then
        kind=words values="$options @GLOBAL@"
    elif [[ $verbs ]]; then
        kind=words values=$verbs
    fi
    case $kind in
    rule) values=$("${program[@]}" @RULES@ 2>/dev/null | tail -n +2 | cut -d , -f 1 | tr -d '\r') ;;
    alert) values=$("${program[@]}" @ALERTS@ 2>/dev/null | tail -n +2 | cut -d , -f 1 | tr -d '\r') ;;
    sink) values=$("${program[@]}" @SINKS@ 2>/dev/null | tail -n +2 | cut -d , -f 1 | tr -d '\r') ;;
    pid) values=$("${program[@]}" @PIDS@ 2>/dev/null | tail -n +2 | tr -d '\r') ;;
    file)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    folder)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        ;;
    esac
    [[ $values ]] && mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur")
    return 0
}

complete -F _daemoneye_cli daemoneye-cli
)script";

std::string bash_script(const Command& program) {
  std::vector<std::string> known;
  for (const auto& path : paths(program)) known.push_back(shell_quoted(path));
  std::string commands;
  each_command(program, [&](const Command& command) {
    commands += "    " + shell_quoted(command.path) + ")";
    if (!command.verbs.empty()) commands += " verbs=" + shell_quoted(joined(verb_names(command), " "));
    if (!command.path.empty()) commands += " options=" + shell_quoted(joined(option_names(command), " "));
    if (!command.operands.empty()) {
      const auto& operand = command.operands.front();
      commands += std::string(" kind=") + kind_name(operand.kind);
      if (const auto words = words_of(operand); !words.empty())
        commands += " values=" + shell_quoted(joined(words, " "));
    }
    commands += " ;;\n";
  });
  std::string text = replaced(bash_template, "@VALUED@", joined(options_with_value(program), " | "));
  text = replaced(std::move(text), "@PATHS@", joined(known, " | "));
  text = replaced(std::move(text), "@COMMANDS@", commands);
  text = replaced(std::move(text), "@VALUES@", cases_of_values(program, "        ", "'", "'"));
  text = replaced(std::move(text), "@GLOBAL@", joined(option_names(program), " "));
  text = replaced(std::move(text), "@RULES@", ask_for_rules);
  text = replaced(std::move(text), "@ALERTS@", ask_for_alerts);
  text = replaced(std::move(text), "@SINKS@", ask_for_sinks);
  return replaced(std::move(text), "@PIDS@", ask_for_pids);
}

constexpr const char* zsh_template = R"script(#compdef daemoneye-cli
# Completes daemoneye-cli in zsh; printed by `daemoneye-cli completion zsh`.
# For one user: _daemoneye-cli in a folder of $fpath.

_daemoneye_cli() {
  local at option word i kind
  local -a program verbs options values
  program=("${words[1]/#\~/$HOME}" --timeout 2s --format csv)
  for (( i = 2; i < CURRENT; i++ )); do
    word=${words[i]}
    if [[ -n $option ]]; then
      [[ $option == (--config|--db) ]] && program+=($option "${word/#\~/$HOME}")
      option=''
      continue
    fi
    case $word in
      (@VALUED@) option=$word ;;
      (-*) ;;
      (*)
        case "$at${at:+ }$word" in
          (@PATHS@) at="$at${at:+ }$word" ;;
        esac
        ;;
    esac
  done
  if [[ -z $option && $PREFIX == --*=* ]]; then
    option=${PREFIX%%=*}
    compset -P '*='
  fi
  case $at in
@COMMANDS@  esac
  if [[ -n $option ]]; then
    kind=text values=()
    case "$at|$option" in
@VALUES@    esac
  elif [[ $PREFIX == -* ]]; then
    options+=(
@GLOBAL@    )
    _describe -o 'option' options
    return
  elif (( $#verbs )); then
    _describe 'verb' verbs
    return
  fi
  case $kind in
    (words) ;;
    (rule) values=(${(f)"$($program @RULES@ 2>/dev/null | tail -n +2 | cut -d , -f 1 | tr -d '\r')"}) ;;
    (alert) values=(${(f)"$($program @ALERTS@ 2>/dev/null | tail -n +2 | cut -d , -f 1 | tr -d '\r')"}) ;;
    (sink) values=(${(f)"$($program @SINKS@ 2>/dev/null | tail -n +2 | cut -d , -f 1 | tr -d '\r')"}) ;;
    (pid) values=(${(f)"$($program @PIDS@ 2>/dev/null | tail -n +2 | tr -d '\r')"}) ;;
    (file) _files; return ;;
    (folder) _files -/; return ;;
    (*) return 1 ;;
  esac
  compadd -a values
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _daemoneye_cli "$@"
else
  compdef _daemoneye_cli daemoneye-cli
fi
)script";

// "name:help", a line each.
std::string described(const std::vector<Parameter>& options, const char* indent) {
  std::string text;
  for (const auto& option : options) {
    for (const auto& name : option.names) text += indent + shell_quoted(name + ':' + option.help) + '\n';
  }
  return text;
}

std::string zsh_script(const Command& program) {
  std::vector<std::string> known;
  for (const auto& path : paths(program)) known.push_back(shell_quoted(path));
  std::string commands;
  each_command(program, [&](const Command& command) {
    commands += "    (" + shell_quoted(command.path) + ")\n";
    if (!command.verbs.empty()) {
      commands += "      verbs=(\n";
      for (const auto& verb : command.verbs) commands += "        " + shell_quoted(verb.name + ':' + verb.help) + '\n';
      commands += "      )\n";
    }
    if (!command.path.empty() && !command.options.empty()) {
      commands += "      options=(\n" + described(command.options, "        ") + "      )\n";
    }
    if (!command.operands.empty()) {
      const auto& operand = command.operands.front();
      commands +=
          std::string("      kind=") + kind_name(operand.kind) + " values=(" + joined(words_of(operand), " ") + ")\n";
    }
    commands += "      ;;\n";
  });
  std::string text = replaced(zsh_template, "@VALUED@", joined(options_with_value(program), "|"));
  text = replaced(std::move(text), "@PATHS@", joined(known, "|"));
  text = replaced(std::move(text), "@COMMANDS@", commands);
  text = replaced(std::move(text), "@VALUES@", cases_of_values(program, "      ", "(", ")"));
  text = replaced(std::move(text), "@GLOBAL@", described(program.options, "      "));
  text = replaced(std::move(text), "@RULES@", ask_for_rules);
  text = replaced(std::move(text), "@ALERTS@", ask_for_alerts);
  text = replaced(std::move(text), "@SINKS@", ask_for_sinks);
  return replaced(std::move(text), "@PIDS@", ask_for_pids);
}

constexpr const char* fish_template =
    R"script(# Completes daemoneye-cli in fish; printed by `daemoneye-cli completion fish`.
# For one user: ~/.config/fish/completions/daemoneye-cli.fish

set -g __daemoneye_cli_valued @VALUED@
set -g __daemoneye_cli_paths @PATHS@

# The verbs that were given.
function __daemoneye_cli_path
    set -l at ''
    set -l is_value 0
    for word in (commandline -opc)[2..-1]
        if test $is_value = 1
            set is_value 0
        else if contains -- $word $__daemoneye_cli_valued
            set is_value 1
        else if not string match -q -- '-*' $word
            set -l next (string trim -- "$at $word")
            contains -- $next $__daemoneye_cli_paths
            and set at $next
        end
    end
    echo $at
end

function __daemoneye_cli_at
    set -l at (__daemoneye_cli_path)
    test "$at" = "$argv[1]"
end

# The first column of what the program answers.
function __daemoneye_cli_ask
    set -l given (commandline -opc)
    set -l program $given[1] --timeout 2s --format csv
    for i in (seq 2 (count $given))
        if contains -- $given[$i] --config --db
            set -a program $given[$i] $given[(math $i + 1)]
        end
    end
    $program $argv 2>/dev/null | tail -n +2 | cut -d , -f 1 | tr -d '\r'
end

complete -c daemoneye-cli -f
)script";

std::string fish_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += (c == '\'' || c == '\\' ? "\\" : "") + std::string(1, c);
  return out + '\'';
}

// What completes the value; nothing: anything.
std::string fish_values(const Parameter& parameter) {
  switch (parameter.kind) {
    case ValueKind::choice:
    case ValueKind::table:
    case ValueKind::key: return " -f -a " + fish_quoted(joined(words_of(parameter), " "));
    case ValueKind::file: return " -F";
    case ValueKind::folder: return " -f -a '(__fish_complete_directories)'";
    case ValueKind::rule: return " -f -a " + fish_quoted("(__daemoneye_cli_ask " + std::string(ask_for_rules) + ")");
    case ValueKind::alert: return " -f -a " + fish_quoted("(__daemoneye_cli_ask " + std::string(ask_for_alerts) + ")");
    case ValueKind::sink: return " -f -a " + fish_quoted("(__daemoneye_cli_ask " + std::string(ask_for_sinks) + ")");
    case ValueKind::pid: return " -f -a " + fish_quoted("(__daemoneye_cli_ask " + std::string(ask_for_pids) + ")");
    case ValueKind::none:
    case ValueKind::text: break;
  }
  return "";
}

std::string fish_script(const Command& program) {
  std::vector<std::string> known;
  for (const auto& path : paths(program)) known.push_back(fish_quoted(path));
  std::string text = replaced(fish_template, "@VALUED@", joined(options_with_value(program), " "));
  text = replaced(std::move(text), "@PATHS@", joined(known, " "));
  each_command(program, [&](const Command& command) {
    const std::string here =
        "complete -c daemoneye-cli -n " + fish_quoted("__daemoneye_cli_at " + fish_quoted(command.path));
    for (const auto& verb : command.verbs) {
      text += here + " -f -a " + fish_quoted(verb.name) + " -d " + fish_quoted(verb.help) + '\n';
    }
    for (const auto& option : command.options) {
      text += command.path.empty() ? "complete -c daemoneye-cli" : here;
      for (const auto& name : option.names) {
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      if (!option.value.empty()) text += " -r" + fish_values(option);
      text += " -d " + fish_quoted(option.help) + '\n';
    }
    if (!command.operands.empty()) {
      if (const auto values = fish_values(command.operands.front()); !values.empty()) text += here + values + '\n';
    }
  });
  return text;
}

}  // namespace

std::optional<std::string> completion_script(const Command& program, std::string_view shell) {
  if (shell == "bash") return bash_script(program);
  if (shell == "zsh") return zsh_script(program);
  if (shell == "fish") return fish_script(program);
  return std::nullopt;
}

void add_completion(CLI::App& app, Action& chosen) {
  auto* completion = add_verb(app, "completion", "Print the script that completes commands in a shell");
  const auto shell = std::make_shared<std::string>();  // shared: the parser fills what the action reads
  const std::vector<std::string> shells(std::begin(completion_shells), std::end(completion_shells));
  completion->add_option("SHELL", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember(shells));
  completion->callback([shell, &app, &chosen] {
    chosen = [shell, &app](Invocation& invocation) -> Outcome<Exit> {
      invocation.out() << completion_script(describe(app), *shell).value_or("");
      return Exit::done;
    };
  });
}

}  // namespace daemoneye::cli
