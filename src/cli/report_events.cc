// Of a report: the process tree, the timeline and the evidence.
#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "cli/process_tree.h"
#include "cli/report_page.h"
#include "cli/tree_table.h"

namespace daemoneye::cli {
namespace {

// "+1.234 s", "−12m05s": how long after the alert.
std::string distance(Timestamp time, Timestamp from) {
  const auto ns = time.ns - from.ns;
  const auto size = ns < 0 ? -ns : ns;
  constexpr std::int64_t ns_per_s = 1'000'000'000, few_seconds = 60 * ns_per_s;
  const auto* sign = ns < 0 ? "−" : "+";
  if (size < few_seconds) return fmt::format("{}{:.3f} s", sign, static_cast<double>(size) / ns_per_s);
  return sign + span_for_people(size);
}

void add_process(Html& page, const AlertCase& found, const event::ProcessInfo& process) {
  if (found.subject == process.key)
    page.raw("<span class=\"process subject\">");
  else
    page.raw("<span class=\"process\">");
  page.raw("<b>").text(process.name.empty() ? "?" : process.name, max_line_bytes).raw("</b><span class=\"meta\">pid ");
  page.number(static_cast<std::int64_t>(process.key.pid));
  if (process.user) page.raw(" · ").text(*process.user, max_line_bytes);
  if (process.start_time) {
    page.raw(" · started ");
    add_time(page, *process.start_time);
  }
  page.raw(" · ").text(status_for_people(process));
  if (process.start_time && process.exit_time) {
    page.raw(" after ").text(span_for_people(process.exit_time->ns - process.start_time->ns));
  }
  page.raw("</span><code>").text(command_for_people(process), max_line_bytes).raw("</code></span>");
}

void add_event_row(Html& page, const AlertCase& found, const CaseEvent& each) {
  if (each.evidence)
    page.raw("<tr class=\"evidence\"><td class=\"when\">");
  else
    page.raw("<tr><td class=\"when\">");
  add_time(page, each.event.time);
  page.raw("</td><td class=\"after\">")
      .text(distance(each.event.time, found.alert.time))
      .raw("</td><td class=\"kind\">");
  page.text(to_string(each.event.kind));
  if (each.evidence) page.raw("<br><span class=\"badge\">evidence</span>");
  page.raw("</td><td class=\"who\">");
  if (each.event.kind != event::EventKind::gap) page.text(process_for_people(each.event.process), max_line_bytes);
  page.raw("</td><td class=\"what mono\">").text(event_for_people(each.event), max_line_bytes).raw("</td></tr>\n");
}

void add_alert_row(Html& page, const AlertCase& found) {
  page.raw("<tr class=\"alert\"><td class=\"when\">");
  add_time(page, found.alert.time);
  page.raw("</td><td class=\"after\">0</td><td>alert</td><td>")
      .text(found.alert.rule_id, max_line_bytes)
      .raw("</td><td class=\"what\">")
      .text(found.alert.title, max_title_bytes)
      .raw("</td></tr>\n");
}

void add_event(Html& page, const CaseEvent& each) {
  page.raw("<h3 class=\"event\">Event ").number(each.id).raw("</h3>\n<table class=\"fields\">\n");
  for (const auto& info : event::columns()) {
    if (info.column == event::Column::event_id) continue;
    const auto value = event::column_value(each.event, each.id, info.column);
    if (const auto text = value_text(value, info.is_time, false)) {
      // Not value_text's form of a text, in which bytes that are no UTF-8 are lost.
      const auto* held = std::get_if<std::string>(&value);
      add_field(page, info.name, held != nullptr ? *held : *text, max_cell_bytes);
    }
  }
  page.raw("</table>\n");
}

}  // namespace

void add_process_tree(Html& page, const AlertCase& found) {
  page.raw("<section id=\"tree\">\n<h2>Process tree</h2>\n");
  if (found.family.empty()) {
    page.raw("<p class=\"none\">The alert names no process, and none is kept.</p>\n</section>\n");
    return;
  }
  page.raw(
      "<p class=\"lead\">Ancestors as they were when the alert was raised, and what the process started since, as "
      "far as it is kept.</p>\n<ul class=\"tree\">\n");
  std::size_t depth = 0;
  bool first = true;
  for (const auto& row : draw_tree(found.family)) {
    if (!first && row.depth > depth) {
      page.raw("\n<ul>\n");
    } else if (!first) {
      page.raw("</li>\n");
      for (; depth > row.depth; --depth) page.raw("</ul></li>\n");
    }
    depth = row.depth;
    first = false;
    page.raw("<li>");
    add_process(page, found, found.family[row.process]);
  }
  page.raw("</li>\n");
  for (; depth > 0; --depth) page.raw("</ul></li>\n");
  page.raw("</ul>\n");
  if (found.more_descendants) {
    page.raw("<p class=\"none\">It started more than the ")
        .number(static_cast<std::int64_t>(max_case_descendants))
        .raw(" shown here.</p>\n");
  }
  page.raw("</section>\n");
}

void add_timeline(Html& page, const AlertCase& found) {
  page.raw("<section id=\"timeline\">\n<h2>Timeline</h2>\n");
  if (found.family.empty() && found.events.empty()) {
    page.raw("<p class=\"none\">The alert names no process, so there are no events of it.</p>\n</section>\n");
    return;
  }
  if (found.window.from && found.window.to) {
    page.raw("<p class=\"lead\">Events of these processes from ");
    add_time(page, *found.window.from);
    page.raw(" to ");
    add_time(page, *found.window.to);
    page.raw(".</p>\n");
  }
  add_chart(page, found);
  page.raw(
      "<div class=\"wide\"><table class=\"list\">\n<thead><tr><th>Time</th><th>To the alert</th><th>Event</th>"
      "<th>Process</th><th>What</th></tr></thead>\n<tbody>\n");
  bool raised = false;
  for (const auto& each : found.events) {
    if (!raised && each.event.time > found.alert.time) {
      add_alert_row(page, found);
      raised = true;
    }
    add_event_row(page, found, each);
  }
  if (!raised) add_alert_row(page, found);
  page.raw("</tbody>\n</table></div>\n");
  if (found.more_events > 0 || found.more_events_uncounted) {
    page.raw("<p class=\"none\">");
    if (found.more_events_uncounted) page.raw("At least ");
    page.number(static_cast<std::int64_t>(found.more_events)).raw(" more, farther from the alert.</p>\n");
  }
  page.raw("</section>\n");
}

void add_evidence(Html& page, const AlertCase& found) {
  page.raw("<section id=\"evidence\">\n<h2>Evidence</h2>\n");
  std::size_t told = 0;
  std::int64_t more = static_cast<std::int64_t>(found.more_evidence);
  for (const auto& each : found.events) {
    if (!each.evidence) continue;
    if (told++ < max_told_evidence)
      add_event(page, each);
    else
      ++more;
  }
  if (found.alert.evidence.empty())
    page.raw("<p class=\"none\">The rule's statement names no event.</p>\n");
  else if (told == 0)
    page.raw("<p class=\"none\">None of it is kept.</p>\n");
  if (more > 0) page.raw("<p class=\"none\">").number(more).raw(" more events of evidence.</p>\n");
  for (const auto id : found.lost_evidence) {
    page.raw("<p class=\"none\">Event ").number(id).raw(" is no longer kept, or cannot be read.</p>\n");
  }
  page.raw("</section>\n");
}

}  // namespace daemoneye::cli
