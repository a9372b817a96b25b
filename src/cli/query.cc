// query: SQL of the user's, run on the store.
#include <CLI/CLI.hpp>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/text.h"
#include "cli/explain.h"
#include "cli/statement.h"
#include "cli/verbs.h"

namespace daemoneye::cli {
namespace {

struct QueryOptions {
  std::string sql;
  std::vector<std::string> parameters;
  std::uint64_t limit = 0;
  bool explain = false, validate = false;
};

Outcome<std::string> read_text(const QueryOptions& options, Invocation& invocation) {
  if (options.sql != "-") return options.sql;
  const std::size_t most = sql::Limits{}.max_text_bytes;
  std::string text(most + 1, '\0');
  invocation.in().read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(invocation.in().gcount()));
  if (text.size() > most) {
    return std::unexpected(Failure(Exit::usage, "the SQL on stdin is longer than " + std::to_string(most) + " bytes"));
  }
  return text;
}

// What it would give, without a store.
void show_valid(Invocation& invocation, const sql::Compiled& compiled, bool explain) {
  const auto hints = sql::hints(compiled);
  if (invocation.format() != Format::json) {
    invocation.out() << "valid\n";
    invocation.out().flush();
    if (explain) invocation.err() << explain_text(compiled, nullptr);
    invocation.err() << hints_text(hints);
    return;
  }
  nlohmann::json columns = nlohmann::json::array();
  for (const auto& column : compiled.columns()) columns.push_back(base::to_valid_utf8(column.name));
  invocation.out() << R"({"valid":true,"columns":)" << columns.dump() << R"(,"parameters":)"
                   << nlohmann::json(compiled.parameters()).dump() << R"(,"hints":)" << hints_json(hints);
  if (explain) invocation.out() << R"(,"explain":)" << explain_json(compiled, nullptr);
  invocation.out() << "}\n";
}

Outcome<Exit> run_query(const QueryOptions& options, Invocation& invocation) {
  CLI_TRY(const auto text, read_text(options, invocation));
  CLI_TRY(const auto compiled, compile_statement(invocation, text));
  if (options.validate) {
    show_valid(invocation, compiled, options.explain);
    return Exit::done;
  }
  RunChoices choices;
  choices.text = text;
  CLI_TRY(choices.parameters, parse_parameters(options.parameters, compiled, true));
  choices.limit = options.limit;
  choices.explain = options.explain;
  choices.deadline = invocation.deadline();
  CLI_TRY(auto connection, invocation.connect());
  return run_statement(invocation, std::move(connection), compiled, std::move(choices));
}

}  // namespace

void add_query(CLI::App& app, Action& chosen) {
  auto* verb = add_verb(app, "query", "Run one SELECT over what was seen ('-' reads it from stdin)");
  const auto options = std::make_shared<QueryOptions>();  // shared: the parser fills what the action reads
  verb->add_option("SQL", options->sql, "The SELECT; '-' is stdin")->required();
  verb->add_option("--param", options->parameters,
                   "Value of :NAME; a number, or text (in '' if it looks like a number)")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  verb->add_option("--limit", options->limit, "Stop after so many rows; more rows there are make the result degraded")
      ->type_name("N")
      ->check(whole_number(1));
  verb->add_flag("--explain", options->explain,
                 "Also tell how it is done: what is pushed into the scans, blocks, rows, time, and hints");
  verb->add_flag("--validate", options->validate, "Only check the SQL, and give hints");
  verb->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return run_query(*options, invocation); }; });
}

}  // namespace daemoneye::cli
