// query: SQL of the user's, run on the store.
#include <CLI/CLI.hpp>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/hash.h"
#include "base/text.h"
#include "cli/verbs.h"

namespace daemoneye::cli {
namespace {

struct QueryOptions {
  std::string sql;
  std::vector<std::string> parameters;
  std::uint64_t limit = 0;
  bool explain = false, validate = false;
};

// The agent records refusals in the ledger; when it is not there the refusal stands all the same.
constexpr std::chrono::milliseconds refusal_deadline{200};

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

// Whole numbers and decimals are numbers, 'quoted' and all else is text.
event::Value parameter_value(const std::string& text) {
  if (text.size() >= 2 && text.front() == '\'' && text.back() == '\'') return text.substr(1, text.size() - 2);
  if (const auto number = base::parse_integer<std::int64_t>(text); number && std::to_string(*number) == text) {
    return *number;
  }
  double real = 0;
  const bool decimal = !text.empty() && text.find_first_not_of("-.0123456789") == std::string::npos &&
                       text.find('.') != std::string::npos;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), real);
  if (decimal && error == std::errc{} && end == text.data() + text.size()) return real;
  return text;
}

Outcome<std::map<std::string, event::Value>> parse_parameters(const QueryOptions& options,
                                                              const sql::Compiled& compiled) {
  std::map<std::string, event::Value> values;
  std::vector<std::string_view> wanted(compiled.parameters().begin(), compiled.parameters().end());
  for (const auto& text : options.parameters) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return std::unexpected(
          Failure(Exit::usage, "--param: found '" + base::printable(text.substr(0, 64)) + "'; allowed: NAME=VALUE"));
    }
    std::string name = text.substr(0, equals);
    if (name.front() == ':') name.erase(0, 1);
    if (!compiled.parameters().contains(name)) {
      const auto near = base::nearest(name, wanted);
      return std::unexpected(
          Failure(Exit::usage, "--param: the SQL has no parameter :" + base::printable(name) +
                                   (near.empty() ? "" : "; did you mean :" + std::string(near) + "?")));
    }
    values[name] = parameter_value(text.substr(equals + 1));
  }
  std::vector<std::string> missing;
  for (const auto& name : compiled.parameters()) {
    if (!values.contains(name)) missing.push_back(':' + name + " has no value: give --param " + name + "=VALUE");
  }
  if (!missing.empty()) return std::unexpected(Failure(Exit::usage, "a parameter has no value", missing));
  return values;
}

// First line of the refusal; its remaining lines (the source with a caret) are details.
Failure refused(const sql::SqlError& error, const std::string& text) {
  std::vector<std::string> details;
  std::string first;
  const std::string whole = sql::to_string(error, text);  // the lines below are views into it
  for (const auto line : base::split(whole, '\n')) {
    if (first.empty())
      first = line;
    else if (!line.empty())
      details.emplace_back(line);
  }
  return {Exit::usage, first, details};
}

void report_refusal(Invocation& invocation, const std::string& text, const std::string& reason) {
  const auto deadline = Deadline::after(refusal_deadline);
  const auto agent = invocation.agent(deadline);
  if (!agent) return;
  const nlohmann::json payload = {{"digest", base::to_hex(base::sha256(text))},
                                  {"reason", base::to_valid_utf8(std::string_view(reason).substr(0, 512))}};
  // Best effort by design: the user's answer does not depend on it.
  (void)(*agent)->call(ipc::RequestKind::record_refusal, payload.dump(), deadline);
}

void explain(Invocation& invocation, const sql::Compiled& compiled, const sql::RunStats* stats) {
  invocation.out().flush();
  auto& err = invocation.err();
  err << "derived SQL: " << base::printable(compiled.sql()) << '\n';
  if (!compiled.driving())
    err << "as a rule: cannot be a stream rule: " << compiled.not_streamable() << '\n';
  else
    err << "as a rule: driven by " << compiled.driving()->table << '\n';
  if (stats == nullptr) return;
  const auto& scan = stats->scan;
  err << "rows: " << stats->rows << "; scanned: " << scan.rows << " rows, " << scan.blocks_read << " blocks read, "
      << scan.blocks_skipped << " skipped, " << scan.tail_batches_read << " recent batches; "
      << std::chrono::duration_cast<std::chrono::microseconds>(stats->elapsed).count() << " us\n";
}

Outcome<Exit> run_query(const QueryOptions& options, Invocation& invocation) {
  CLI_TRY(const auto text, read_text(options, invocation));
  const auto compiled = sql::compile(text);
  if (!compiled) {
    report_refusal(invocation, text, compiled.error().message);
    return std::unexpected(refused(compiled.error(), text));
  }
  if (options.validate) {
    invocation.out() << "valid\n";
    if (options.explain) explain(invocation, *compiled, nullptr);
    return Exit::done;
  }
  CLI_TRY(auto parameters, parse_parameters(options, *compiled));
  CLI_TRY(const auto connection, invocation.connect());

  sql::RunOptions run_options;
  run_options.parameters = std::move(parameters);
  run_options.deadline = invocation.deadline();
  run_options.row_limit = options.limit;
  CLI_TRY(const auto stats, invocation.write_results(*compiled, "NULL", options.limit, [&](const auto& each) {
    return connection->run(*compiled, run_options, each);
  }));
  invocation.tell(stats.completeness, true);
  if (options.explain) explain(invocation, *compiled, &stats);
  return exit_for(stats.completeness);
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
      ->check(CLI::PositiveNumber);
  verb->add_flag("--explain", options->explain, "Then print the derived SQL and what was scanned, on stderr");
  verb->add_flag("--validate", options->validate, "Only check the SQL");
  verb->callback(
      [options, &chosen] { chosen = [options](Invocation& invocation) { return run_query(*options, invocation); }; });
}

}  // namespace daemoneye::cli
