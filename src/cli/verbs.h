// The verbs, a file a group. Each adds its commands to the parser; when one is chosen, its action is left in `chosen`.
#pragma once

#include <cstdint>
#include <functional>

#include "cli/invocation.h"

namespace CLI {
class App;
class Validator;
}  // namespace CLI

namespace daemoneye::cli {

using Action = std::function<Outcome<Exit>(Invocation&)>;

void add_query(CLI::App& app, Action& chosen);
void add_shell(CLI::App& app, Action& chosen);
void add_schema(CLI::App& app, Action& chosen);     // tables, schema
void add_processes(CLI::App& app, Action& chosen);  // ps, tree
void add_rules(CLI::App& app, Action& chosen);
void add_alerts(CLI::App& app, Action& chosen);  // alerts, deliveries
void add_sinks(CLI::App& app, Action& chosen);   // sinks, deadletter
void add_health(CLI::App& app, Action& chosen);  // health, metrics
void add_doctor(CLI::App& app, Action& chosen);
void add_config(CLI::App& app, Action& chosen);
void add_database(CLI::App& app, Action& chosen);    // db
void add_recordings(CLI::App& app, Action& chosen);  // import, export
void add_audit(CLI::App& app, Action& chosen);
void add_bundle(CLI::App& app, Action& chosen);
void add_report(CLI::App& app, Action& chosen);
void add_completion(CLI::App& app, Action& chosen);

// Of an option or operand: refuses all but a whole number, in words that a person can use.
CLI::Validator whole_number(std::uint64_t least, std::uint64_t most = UINT64_MAX);
// A verb that takes global options after it as well.
CLI::App* add_verb(CLI::App& app, const char* name, const char* help);

}  // namespace daemoneye::cli
