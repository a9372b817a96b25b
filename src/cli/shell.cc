// shell: statements one after the other. At a terminal with history and completion; otherwise those of stdin, up to the
// first that fails.
#include <CLI/CLI.hpp>
#include <istream>
#include <ostream>

#include "base/text.h"
#include "cli/line_editor.h"
#include "cli/schema.h"
#include "cli/statement.h"
#include "cli/verbs.h"
#include "sql/lexer.h"

namespace daemoneye::cli {
namespace {

constexpr std::string_view help =
    "A statement ends with ; and may take several lines. Ctrl-C forgets a line or cancels what runs.\n"
    ".tables              the tables\n"
    ".schema [TABLE]      columns with type, unit and description\n"
    ".mode [MODE]         table, json, jsonl or csv\n"
    ".param [NAME=VALUE]  a value for :NAME; without one, those that are set\n"
    ".limit [N|off]       at most so many rows of a statement\n"
    ".explain on|off      also tell how a statement is done\n"
    ".timing on|off       also tell how long it took\n"
    ".quit                the end, as Ctrl-D\n";

struct Shell {
  Invocation& invocation;
  std::vector<std::string> parameters;
  std::uint64_t limit = 0;
  bool explain = false, timing = false, ended = false;
  std::string begun;  // the statement so far

  Outcome<Exit> run(const std::string& text) {
    CLI_TRY(const auto compiled, compile_statement(invocation, text));
    RunChoices choices;
    choices.text = text;
    CLI_TRY(choices.parameters, parse_parameters(parameters, compiled, false));
    choices.limit = limit;
    choices.explain = explain;
    choices.timing = timing;
    choices.tell_complete = false;
    choices.deadline = Deadline::after(invocation.timeout());
    // Opened for each statement: nothing of the store is held while somebody thinks.
    CLI_TRY(auto connection, invocation.connect());
    return run_statement(invocation, std::move(connection), compiled, std::move(choices));
  }

  Outcome<Exit> command(std::string_view line) {
    const auto blank = line.find_first_of(" \t");
    const std::string name(line.substr(0, blank));
    const std::string argument(blank == std::string_view::npos ? "" : base::trim(line.substr(blank)));
    if (name == ".quit" || name == ".exit") {
      ended = true;
      return Exit::done;
    }
    if (name == ".help") {
      invocation.out() << help;
      return Exit::done;
    }
    if (name == ".tables") return list_tables(invocation);
    if (name == ".schema") return show_schema(invocation, argument);
    if (name == ".timing") return set_switch(name, argument, timing);
    if (name == ".explain") return set_switch(name, argument, explain);
    if (name == ".mode") return set_mode(argument);
    if (name == ".limit") return set_limit(argument);
    if (name == ".param") return set_parameter(argument);
    const auto& all = shell_commands();
    const auto near = base::nearest(name, {all.begin(), all.end()});
    return std::unexpected(
        Failure(Exit::usage, "no command " + base::printable(name.substr(0, 64)) +
                                 (near.empty() ? "; .help lists them" : "; did you mean " + std::string(near) + "?")));
  }

  static Outcome<Exit> set_switch(const std::string& name, const std::string& argument, bool& value) {
    if (argument != "on" && argument != "off") {
      return std::unexpected(
          Failure(Exit::usage, name + ": found '" + base::printable(argument.substr(0, 64)) + "'; allowed: on, off"));
    }
    value = argument == "on";
    return Exit::done;
  }
  Outcome<Exit> set_mode(const std::string& argument) {
    constexpr std::pair<const char*, Format> modes[] = {
        {"table", Format::table}, {"json", Format::json}, {"jsonl", Format::jsonl}, {"csv", Format::csv}};
    for (const auto& [name, format] : modes) {
      if (argument.empty() && format == invocation.format()) invocation.out() << name << '\n';
      if (argument == name) invocation.set_format(format);
      if (argument == name) return Exit::done;
    }
    if (argument.empty()) return Exit::done;
    return std::unexpected(Failure(Exit::usage, ".mode: found '" + base::printable(argument.substr(0, 64)) +
                                                    "'; allowed: table, json, jsonl, csv"));
  }
  Outcome<Exit> set_limit(const std::string& argument) {
    if (argument.empty()) {
      invocation.out() << (limit == 0 ? "off" : std::to_string(limit)) << '\n';
      return Exit::done;
    }
    const auto rows =
        argument == "off" ? std::optional<std::uint64_t>(0) : base::parse_integer<std::uint64_t>(argument);
    if (!rows) {
      return std::unexpected(Failure(
          Exit::usage, ".limit: found '" + base::printable(argument.substr(0, 64)) + "'; allowed: a number, off"));
    }
    limit = *rows;
    return Exit::done;
  }
  Outcome<Exit> set_parameter(std::string argument) {
    if (argument.empty()) {
      for (const auto& one : parameters) invocation.out() << base::printable(one) << '\n';
      return Exit::done;
    }
    if (argument.front() == ':') argument.erase(0, 1);
    const auto equals = argument.find('=');
    if (equals == std::string::npos || equals == 0) {
      return std::unexpected(
          Failure(Exit::usage, ".param: found '" + base::printable(argument.substr(0, 64)) + "'; allowed: NAME=VALUE"));
    }
    std::erase_if(parameters, [&](const std::string& one) { return one.starts_with(argument.substr(0, equals + 1)); });
    parameters.push_back(std::move(argument));
    return Exit::done;
  }

  // One more line; runs what is whole now. `remember` is told each statement and command.
  Outcome<Exit> line(const std::string& text, const std::function<void(const std::string&)>& remember) {
    if (base::trim(begun).empty() && base::trim(text).starts_with('.')) {
      begun.clear();
      const std::string one(base::trim(text));
      remember(one);
      return command(one);
    }
    begun += text + '\n';
    Exit worst = Exit::done;
    for (std::size_t end = 0; (end = sql::end_of_statement(begun)) != std::string::npos;) {
      const std::string whole(base::trim(begun.substr(0, end)));
      begun.erase(0, end);
      if (whole == ";") continue;
      remember(whole);
      CLI_TRY(const Exit exit, run(whole));
      if (exit != Exit::done) worst = exit;
    }
    if (begun.size() > sql::Limits{}.max_text_bytes) {
      begun.clear();
      return std::unexpected(
          Failure(Exit::usage, "a statement has at most " + std::to_string(sql::Limits{}.max_text_bytes) + " bytes"));
    }
    return worst;
  }
};

void say(const Invocation& invocation, const Failure& failure) {
  invocation.out().flush();
  invocation.err() << "error: " << failure.message << '\n';
  for (const auto& detail : failure.details) invocation.err() << "  " << detail << '\n';
}

std::string history_file(Invocation& invocation) {
  const auto sources = invocation.io().sources({}, {});
  const auto of = [&](const char* name) {
    const auto found = sources.environment.find(name);
    return found == sources.environment.end() ? std::string() : found->second;
  };
  if (const auto state = of("XDG_STATE_HOME"); state.starts_with('/')) return state + "/daemoneye/shell_history";
  return sources.home.empty() ? "" : sources.home + "/.local/state/daemoneye/shell_history";
}

Outcome<Exit> at_a_terminal(Shell& shell) {
  Invocation& invocation = shell.invocation;
  LineEditor editor(history_file(invocation),
                    [&shell](std::string_view line) { return complete(shell.begun + std::string(line)); });
  invocation.out() << "DaemonEye " << DAEMONEYE_VERSION << "; statements end with ;   .help lists commands\n";
  while (!shell.ended) {
    invocation.out().flush();
    invocation.io().forget_interrupt();
    std::string text;
    const auto read = editor.read(base::trim(shell.begun).empty() ? "daemoneye> " : "      ...> ", text);
    if (read == LineEditor::Read::end) break;
    if (read == LineEditor::Read::cancelled) {
      shell.begun.clear();
      continue;
    }
    const auto done = shell.line(text, [&](const std::string& one) { editor.remember(one); });
    if (done) continue;
    shell.begun.clear();
    say(invocation, done.error());
  }
  return Exit::done;
}

// At most so much of a line is kept as a statement may have.
bool read_line(std::istream& in, std::string& line) {
  line.clear();
  for (int c = in.get(); c != std::istream::traits_type::eof(); c = in.get()) {
    if (c == '\n') return true;
    if (line.size() <= sql::Limits{}.max_text_bytes) line += static_cast<char>(c);
  }
  return !line.empty();
}

Outcome<Exit> from_a_stream(Shell& shell) {
  Exit worst = Exit::done;
  std::string text;
  while (!shell.ended && read_line(shell.invocation.in(), text)) {
    CLI_TRY(const Exit exit, shell.line(text, [](const std::string&) {}));
    if (exit != Exit::done) worst = exit;
  }
  if (!shell.ended && !base::trim(shell.begun).empty()) {  // the last ; may be left out
    CLI_TRY(const Exit exit, shell.run(std::string(base::trim(shell.begun))));
    if (exit != Exit::done) worst = exit;
  }
  return worst;
}

Outcome<Exit> run_shell(Invocation& invocation) {
  invocation.lift_time_limit();
  Shell shell{.invocation = invocation, .parameters = {}, .begun = {}};
  const bool person = invocation.io().in_terminal && invocation.io().terminal;
  return person ? at_a_terminal(shell) : from_a_stream(shell);
}

}  // namespace

void add_shell(CLI::App& app, Action& chosen) {
  add_verb(app, "shell", "Ask statement after statement, with history and completion; without a terminal, from stdin")
      ->callback([&chosen] { chosen = run_shell; });
}

}  // namespace daemoneye::cli
