#include "cli/tree_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

#include "base/text.h"

namespace daemoneye::cli {
namespace {

constexpr std::int64_t ns_per_ms = 1'000'000, ns_per_s = 1'000'000'000;
constexpr unsigned narrow_terminal = 110;  // columns; in fewer the age has to do, without the time of the start
constexpr std::size_t least_command = 12;  // columns of a terminal that are left to it
constexpr double busy = 50, very_busy = 90;

namespace style {
constexpr std::string_view none = "", header = "\x1b[1m", faint = "\x1b[2m", marked = "\x1b[1;36m",
                           warning = "\x1b[33m", alarm = "\x1b[31m", reset = "\x1b[0m";
}  // namespace style

struct Cell {
  std::string text;
  std::string_view style = style::none;
  bool right = false;
};

bool is_over(const event::ProcessInfo& process) {
  return process.status == event::ProcessStatus::exited || process.exit_time.has_value();
}

bool failed(const event::ProcessInfo& process) {
  return process.exit_signal.value_or(0) != 0 || process.exit_code.value_or(0) != 0;
}

std::string_view style_of_status(const event::ProcessInfo& process) {
  if (is_over(process)) return failed(process) ? style::warning : style::faint;
  return process.status == event::ProcessStatus::zombie ? style::warning : style::none;
}

// What runs is not the file that its path names: worth a look.
std::string_view remark_on(const event::ProcessInfo& process) {
  switch (process.executable_state.value_or(event::ExecutableState::ok)) {
    case event::ExecutableState::deleted: return "  (deleted)";
    case event::ExecutableState::replaced: return "  (replaced)";
    case event::ExecutableState::memfd: return "  (memfd)";
    default: return {};
  }
}

class Writer {
 public:
  Writer(std::ostream& out, const RenderOptions& render, const TreeTable& table)
      : out_(out), render_(render), table_(table), wide_(render.width == 0 || render.width >= narrow_terminal) {}

  void run(const std::vector<event::ProcessInfo>& processes) {
    std::vector<std::vector<Cell>> lines = {headers()};
    const auto drawn = draw_tree(processes);
    for (const auto& row : drawn) lines.push_back(cells(processes[row.process]));
    std::vector<std::size_t> widths(lines.front().size());
    for (const auto& line : lines) {
      for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], display_width(line[i].text));
    }
    std::size_t used = display_width(table_.indent);
    for (const auto width : widths) used += width + gap;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      out_ << table_.indent;
      for (std::size_t column = 0; column < widths.size(); ++column) put(lines[i][column], widths[column]);
      if (i == 0)
        put_styled("process", style::header);
      else
        put_process(processes[drawn[i - 1].process], drawn[i - 1].drawing, used);
      out_ << '\n';
    }
  }

 private:
  static constexpr std::size_t gap = 2;

  [[nodiscard]] std::vector<Cell> headers() const {
    std::vector<Cell> cells = {{"pid", style::header, true}, {"user", style::header}};
    if (!table_.past) cells.push_back({"status", style::header});
    if (wide_) cells.push_back({"started", style::header});
    cells.push_back({"age", style::header, true});
    if (!table_.past) cells.push_back({"cpu %", style::header, true});
    return cells;
  }

  [[nodiscard]] std::vector<Cell> cells(const event::ProcessInfo& process) const {
    const auto base = is_over(process) && !table_.past ? style::faint : style::none;
    std::vector<Cell> cells = {{std::to_string(process.key.pid), base, true},
                               {base::printable(process.user.value_or("-")), base}};
    if (!table_.past) cells.push_back({status_for_people(process), style_of_status(process)});
    if (wide_) {
      std::string started = "-";
      if (process.start_time) {
        started = render_.raw ? std::to_string(process.start_time->ns) : seconds_for_people(*process.start_time);
      }
      cells.push_back({std::move(started), base});
    }
    cells.push_back({age_of(process), base, true});
    if (!table_.past) cells.push_back(cpu_of(process, base));
    return cells;
  }

  // Of the living until now, of the ended until their end.
  [[nodiscard]] std::string age_of(const event::ProcessInfo& process) const {
    if (!process.start_time) return "-";
    const bool over = !table_.past && is_over(process);
    if (over && !process.exit_time) return "-";
    return span_for_people((over ? *process.exit_time : table_.now).ns - process.start_time->ns);
  }

  static Cell cpu_of(const event::ProcessInfo& process, std::string_view base) {
    if (!process.cpu_usage || is_over(process)) return {"-", base, true};
    const auto style = *process.cpu_usage >= very_busy ? style::alarm
                       : *process.cpu_usage >= busy    ? style::warning
                                                       : base;
    return {fmt::format("{:.1f}", *process.cpu_usage), style, true};
  }

  void put_styled(std::string_view text, std::string_view style) {
    if (!render_.colour || style.empty() || text.empty())
      out_ << text;
    else
      out_ << style << text << style::reset;
  }

  void put(const Cell& cell, std::size_t width) {
    const std::string padding(width - std::min(width, display_width(cell.text)), ' ');
    if (cell.right) out_ << padding;
    put_styled(cell.text, cell.style);
    if (!cell.right) out_ << padding;
    out_ << std::string(gap, ' ');
  }

  void put_process(const event::ProcessInfo& process, const std::string& drawing, std::size_t used) {
    const bool marked = table_.marked == process.key;
    const auto remark = remark_on(process);
    constexpr std::string_view mark = "  <";
    auto command = base::printable(command_for_people(process));
    if (render_.width > 0) {
      const std::size_t taken = used + display_width(drawing) + remark.size() + (marked ? mark.size() : 0);
      command =
          shortened(command, std::max(least_command, render_.width - std::min<std::size_t>(taken, render_.width)));
    }
    put_styled(drawing, style::faint);
    const bool kernel = process.executable_state == event::ExecutableState::kernel;
    const bool faint = kernel || (is_over(process) && !table_.past);
    put_styled(command, marked ? style::marked : faint ? style::faint : style::none);
    put_styled(remark, style::alarm);
    if (marked) put_styled(mark, style::marked);
  }

  std::ostream& out_;
  const RenderOptions& render_;
  const TreeTable& table_;
  bool wide_;
};

}  // namespace

std::string span_for_people(std::int64_t ns) {
  if (ns < 0) return "-";
  if (ns < ns_per_s) return fmt::format("{}ms", ns / ns_per_ms);
  const auto seconds = ns / ns_per_s;
  if (seconds < 10) return fmt::format("{}.{}s", seconds, ns % ns_per_s / (100 * ns_per_ms));
  if (seconds < 60) return fmt::format("{}s", seconds);
  const auto minutes = seconds / 60, hours = minutes / 60;
  if (hours == 0) return fmt::format("{}m{:02}s", minutes, seconds % 60);
  if (hours < 24) return fmt::format("{}h{:02}m", hours, minutes % 60);
  return fmt::format("{}d{:02}h", hours / 24, hours % 24);
}

std::string status_for_people(const event::ProcessInfo& process) {
  if (!is_over(process)) return std::string(to_string(process.status));
  if (process.exit_signal.value_or(0) != 0) return fmt::format("signal {}", *process.exit_signal);
  if (process.exit_code) return fmt::format("exit {}", *process.exit_code);
  return "ended";
}

std::string command_for_people(const event::ProcessInfo& process) {
  auto command = process.arguments ? process.arguments->command_line() : std::string();
  return command.empty() ? '[' + process.name + ']' : command;
}

std::string seconds_for_people(Timestamp time) {
  return base::to_iso(time).substr(0, std::string_view("2026-11-21T20:48:23").size()) + 'Z';
}

void write_tree_table(std::ostream& out, const RenderOptions& render, const TreeTable& table,
                      const std::vector<event::ProcessInfo>& processes) {
  Writer(out, render, table).run(processes);
}

}  // namespace daemoneye::cli
