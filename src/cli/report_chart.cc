// The timeline of a report as a picture: a lane a process, from its start to its end, with what happened to it.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "cli/process_tree.h"
#include "cli/report_page.h"
#include "cli/tree_table.h"

namespace daemoneye::cli {
namespace {

constexpr double label_width = 210, plot_width = 770, lane_height = 24, top = 26, bottom = 20, right_margin = 20,
                 half_label = 30;
constexpr std::size_t label_columns = 27;
constexpr std::int64_t most_ticks = 7, ns_per_ms = 1'000'000, ns_per_s = 1'000'000'000, ns_per_day = 86'400 * ns_per_s;
constexpr std::int64_t least_span = 10 * ns_per_ms;

class Chart {
 public:
  Chart(Html& page, const AlertCase& found) : page_(page), found_(found) {
    choose_lanes();
    choose_span();
  }

  void draw() {
    if (lanes_.empty()) return;
    const double height = top + lane_height * static_cast<double>(lanes_.size()) + bottom;
    page_.raw("<figure>\n<svg viewBox=\"0 0 ")
        .number(label_width + plot_width + right_margin)
        .raw(" ")
        .number(height)
        .raw("\" role=\"img\" aria-label=\"Processes and events over time\">\n");
    ticks(height);
    for (std::size_t i = 0; i < lanes_.size(); ++i) lane(i);
    alert_line(height);
    page_.raw(
        "</svg>\n<figcaption>Each bar is a process from its start to its end; one that reaches the edge began "
        "earlier or went on. ● exec, ■ exit, ◆ change, ○ seen by a scan; evidence in yellow. All in the table "
        "below.");
    if (lanes_.size() < found_.family.size()) {
      page_.raw(" ")
          .number(static_cast<std::int64_t>(found_.family.size() - lanes_.size()))
          .raw(" more processes have no bar here.");
    }
    page_.raw("</figcaption>\n</figure>\n");
  }

 private:
  // The process, its nearest ancestors, and the first that it started; drawn in the order of the tree.
  void choose_lanes() {
    constexpr std::size_t nearest = 9;
    std::vector<bool> chosen(found_.family.size());
    std::size_t left = max_chart_lanes;
    for (std::size_t i = 0; i < found_.family.size() && left > 0; ++i) {
      const bool far = i > nearest && i <= found_.ancestors;
      if (far) continue;
      chosen[i] = true;
      --left;
    }
    for (const auto& row : draw_tree(found_.family)) {
      if (chosen[row.process]) lanes_.push_back(&found_.family[row.process]);
    }
  }

  void choose_span() {
    std::int64_t first = found_.alert.time.ns, last = found_.alert.time.ns;
    const auto see = [&](Timestamp time) {
      if (found_.window.from && time < *found_.window.from) return;
      if (found_.window.to && time > *found_.window.to) return;
      first = std::min(first, time.ns);
      last = std::max(last, time.ns);
    };
    for (const auto* process : lanes_) {
      if (process->start_time) see(*process->start_time);
      if (process->exit_time) see(*process->exit_time);
    }
    for (const auto& each : found_.events) see(each.event.time);
    const auto span = std::max(last - first, least_span);
    from_ = first - span / 25;
    to_ = last + span / 25 + (last - first < least_span ? least_span - (last - first) : 0);
  }

  [[nodiscard]] double x(std::int64_t ns) const {
    const double part = static_cast<double>(std::clamp(ns, from_, to_) - from_) / static_cast<double>(to_ - from_);
    return label_width + part * plot_width;
  }

  static std::int64_t step_for(std::int64_t span) {
    constexpr std::int64_t m = 60 * ns_per_s, h = 60 * m;
    constexpr std::int64_t steps[] = {ns_per_ms,       2 * ns_per_ms,
                                      5 * ns_per_ms,   10 * ns_per_ms,
                                      20 * ns_per_ms,  50 * ns_per_ms,
                                      100 * ns_per_ms, 200 * ns_per_ms,
                                      500 * ns_per_ms, ns_per_s,
                                      2 * ns_per_s,    5 * ns_per_s,
                                      10 * ns_per_s,   15 * ns_per_s,
                                      30 * ns_per_s,   m,
                                      2 * m,           5 * m,
                                      10 * m,          15 * m,
                                      30 * m,          h,
                                      2 * h,           6 * h,
                                      12 * h};
    for (const auto step : steps) {
      if (span / step < most_ticks) return step;
    }
    return std::max(ns_per_day, span / most_ticks / ns_per_day * ns_per_day + ns_per_day);
  }

  [[nodiscard]] std::string label_of(std::int64_t ns, std::int64_t step) const {
    const auto iso = base::to_iso(Timestamp{ns});  // 2026-11-21T20:48:23.123456789Z
    if (step < ns_per_s) return iso.substr(11, 12);
    if (to_ - from_ > ns_per_day) return iso.substr(5, 5) + ' ' + iso.substr(11, 5);
    return iso.substr(11, 8);
  }

  void line(double x1, double y1, double x2, double y2, Html::Markup kind) {
    page_.raw("<line class=\"").raw(kind).raw("\" x1=\"").number(x1).raw("\" y1=\"").number(y1);
    page_.raw("\" x2=\"").number(x2).raw("\" y2=\"").number(y2).raw("\"/>\n");
  }

  void ticks(double height) {
    const auto step = step_for(to_ - from_);
    for (auto at = from_ / step * step + step; at < to_; at += step) {
      line(x(at), top - 4, x(at), height, "grid");
      const bool at_edge = x(at) > label_width + plot_width - half_label;
      page_.raw("<text class=\"tick\" text-anchor=\"").raw(at_edge ? Html::Markup("end") : Html::Markup("middle"));
      page_.raw("\" x=\"").number(x(at)).raw("\" y=\"").number(top - 10);
      page_.raw("\">").attribute(label_of(at, step)).raw("</text>\n");
    }
  }

  void lane(std::size_t number) {
    const auto& process = *lanes_[number];
    const bool subject = found_.subject == process.key;
    const double y = top + lane_height * static_cast<double>(number);
    page_.raw("<g>\n<title>").attribute(command_for_people(process), max_line_bytes).raw("</title>\n<text");
    if (subject) page_.raw(" class=\"subject\"");
    page_.raw(" x=\"4\" y=\"").number(y + 16).raw("\">");
    page_.attribute(shortened(base::printable(process_for_people(process)), label_columns)).raw("</text>\n");
    const double left = x(process.start_time ? process.start_time->ns : from_);
    const double right = x(process.exit_time ? process.exit_time->ns : to_);
    page_.raw("<rect class=\"bar");
    if (subject) page_.raw(" subject");
    page_.raw("\" rx=\"3\" x=\"").number(left).raw("\" y=\"").number(y + 6).raw("\" width=\"");
    page_.number(std::max(right - left, 2.0)).raw("\" height=\"12\"/>\n");
    for (const auto& each : found_.events) {
      if (each.event.process.key == process.key) mark(each, y + 12);
    }
    page_.raw("</g>\n");
  }

  void mark(const CaseEvent& each, double y) {
    const double at = x(each.event.time.ns);
    page_.raw("<g><title>")
        .attribute(base::to_iso(each.event.time))
        .raw(" ")
        .attribute(to_string(each.event.kind))
        .raw(": ")
        .attribute(event_for_people(each.event), max_line_bytes)
        .raw("</title>");
    switch (each.event.kind) {
      case event::EventKind::exit:
        page_.raw("<rect").raw(class_of(each)).raw(" x=\"").number(at - 4).raw("\" y=\"").number(y - 4);
        page_.raw("\" width=\"8\" height=\"8\"/>");
        break;
      case event::EventKind::change:
        page_.raw("<path").raw(class_of(each)).raw(" d=\"M").number(at).raw(" ").number(y - 6);
        page_.raw("l6 6l-6 6l-6 -6z\"/>");
        break;
      default:
        page_.raw("<circle").raw(class_of(each)).raw(" cx=\"").number(at).raw("\" cy=\"").number(y).raw("\" r=\"5\"/>");
    }
    page_.raw("</g>\n");
  }

  static Html::Markup class_of(const CaseEvent& each) {
    if (each.evidence) return " class=\"mark proof\"";
    return each.event.kind == event::EventKind::seen ? Html::Markup(" class=\"mark seen\"")
                                                     : Html::Markup(" class=\"mark\"");
  }

  void alert_line(double height) {
    const double at = x(found_.alert.time.ns);
    line(at, top - 4, at, height, "alert");
    page_.raw("<text class=\"alert\" x=\"").number(at + 4).raw("\" y=\"").number(height - 4).raw("\"");
    constexpr double its_width = 40;
    if (at > label_width + plot_width - its_width) page_.raw(" text-anchor=\"end\" dx=\"-8\"");
    page_.raw(">alert</text>\n");
  }

  Html& page_;
  const AlertCase& found_;
  std::vector<const event::ProcessInfo*> lanes_;
  std::int64_t from_ = 0, to_ = 1;
};

}  // namespace

void add_chart(Html& page, const AlertCase& found) { Chart(page, found).draw(); }

}  // namespace daemoneye::cli
