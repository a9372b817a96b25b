#include "cli/explain.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace daemoneye::cli {
namespace {

using nlohmann::json;

std::string span_text(std::chrono::nanoseconds span) {
  const auto us = std::chrono::duration<double, std::micro>(span).count();
  if (us < 1000) return fmt::format("{:.0f} us", us);
  if (us < 1'000'000) return fmt::format("{:.1f} ms", us / 1000);
  return fmt::format("{:.2f} s", us / 1'000'000);
}

std::string joined(const std::vector<std::string>& words, std::string_view between) {
  std::string all;
  for (const auto& word : words) all += (all.empty() ? "" : std::string(between)) + base::printable(word);
  return all;
}

std::string counted(std::uint64_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string step_text(const sql::Step& step, std::size_t number) {
  std::string out = fmt::format("  {}. {}", number, base::printable(step.table));
  if (!step.alias.empty() && step.alias != step.table) out += " " + base::printable(step.alias);
  if (!step.rewrite.empty()) out += ", " + base::printable(step.rewrite);
  if (!step.order.empty()) out += ", " + base::printable(step.order);
  if (step.begun > 1) out += fmt::format(", begun {} times", step.begun);
  out += '\n';
  const auto line = [&](std::string_view name, const std::string& text) {
    if (!text.empty()) out += fmt::format("     {:<12}{}\n", name, text);
  };
  line("pushed down", joined(step.pushed, " AND "));
  line("by SQLite", joined(step.left, " AND "));
  line("columns", joined(step.columns, ", "));
  if (step.blocks_total > 0 || step.tail_batches_read > 0) {
    line("blocks", fmt::format("{} skipped, {} read of {}; {}", step.blocks_skipped, step.blocks_read,
                               step.blocks_total, counted(step.tail_batches_read, "recent batch", "recent batches")));
  }
  line("rows", fmt::format("{} met what is pushed down, {} handed on", step.rows_scanned, step.rows));
  line("time", span_text(step.elapsed));
  return out;
}

std::string rule_text(const sql::Compiled& compiled) {
  return compiled.driving() ? "can stream, driven by " + compiled.driving()->table
                            : "cannot stream: " + compiled.not_streamable();
}

}  // namespace

std::string explain_text(const sql::Compiled& compiled, const sql::RunStats* stats) {
  std::string out = "derived SQL: " + base::printable(compiled.sql()) + "\nas a rule: " + rule_text(compiled) + '\n';
  if (stats == nullptr) return out;
  if (!stats->steps.empty()) out += "steps:\n";
  std::chrono::nanoseconds within{0};
  for (std::size_t i = 0; i < stats->steps.size(); ++i) {
    out += step_text(stats->steps[i], i + 1);
    within += stats->steps[i].elapsed;
  }
  const auto& scan = stats->scan;
  out +=
      fmt::format("blocks: {} skipped, {} read; {}; {} scanned\n", scan.blocks_skipped, scan.blocks_read,
                  counted(scan.tail_batches_read, "recent batch", "recent batches"), counted(scan.rows, "row", "rows"));
  out += fmt::format("result: {} in {}", counted(stats->rows, "row", "rows"), span_text(stats->elapsed));
  if (within.count() > 0) out += fmt::format(", {} of it in the scans", span_text(within));
  return out + '\n';
}

std::string explain_json(const sql::Compiled& compiled, const sql::RunStats* stats) {
  json out = {{"derived_sql", base::to_valid_utf8(compiled.sql())},
              {"streams", compiled.driving().has_value()},
              {"as_rule", rule_text(compiled)}};
  if (stats != nullptr) {
    json steps = json::array();
    for (const auto& step : stats->steps) {
      steps.push_back({{"table", step.table},
                       {"alias", step.alias},
                       {"pushed", step.pushed},
                       {"left", step.left},
                       {"columns", step.columns},
                       {"rewrite", step.rewrite},
                       {"order", step.order},
                       {"begun", step.begun},
                       {"blocks_total", step.blocks_total},
                       {"blocks_skipped", step.blocks_skipped},
                       {"blocks_read", step.blocks_read},
                       {"tail_batches_read", step.tail_batches_read},
                       {"rows_scanned", step.rows_scanned},
                       {"rows", step.rows},
                       {"elapsed_us", std::chrono::duration_cast<std::chrono::microseconds>(step.elapsed).count()}});
    }
    out["steps"] = std::move(steps);
    out["blocks_skipped"] = stats->scan.blocks_skipped;
    out["blocks_read"] = stats->scan.blocks_read;
    out["rows"] = stats->rows;
    out["elapsed_us"] = std::chrono::duration_cast<std::chrono::microseconds>(stats->elapsed).count();
  }
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string hints_text(const std::vector<sql::Hint>& hints) {
  std::string out;
  for (const auto& hint : hints) out += "hint: " + base::printable(sql::to_string(hint)) + '\n';
  return out;
}

std::string hints_json(const std::vector<sql::Hint>& hints) {
  json out = json::array();
  for (const auto& hint : hints) {
    out.push_back({{"kind", hint.kind},
                   {"line", hint.line},
                   {"column", hint.column},
                   {"message", hint.message},
                   {"suggestion", hint.suggestion}});
  }
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace daemoneye::cli
