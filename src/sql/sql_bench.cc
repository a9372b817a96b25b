// What the front end costs: parse, bind and print of a typical rule.
#include <benchmark/benchmark.h>

#include "sql/sql.h"

namespace {

constexpr std::string_view rule =
    "SELECT e.pid, e.name, e.executable_path, e.command_line, e.process_key FROM process_events e "
    "WHERE e.kind = 'exec' AND e.name IN ('sh','bash','dash') AND (e.command_line LIKE '%/dev/tcp/%' OR e.command_line "
    "REGEXP 'nc\\s+-e') AND has_ancestor(e.process_key, 'nginx') AND e.time > ago('10m')";

void compile_a_rule(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(daemoneye::sql::compile(rule));
}
BENCHMARK(compile_a_rule)->Unit(benchmark::kMicrosecond);

}  // namespace
