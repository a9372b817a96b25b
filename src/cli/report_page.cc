#include "cli/report_page.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/tree_table.h"

namespace daemoneye::cli {
namespace {

using nlohmann::ordered_json;

void add_head(Html& page, const Report& report) {
  page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
      .raw("<meta http-equiv=\"Content-Security-Policy\" content=\"")
      .attribute(page_style().policy)
      .raw(
          "\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"color-scheme\" content=\"light "
          "dark\">\n")
      .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>")
      .attribute(report.found.alert.title, max_title_bytes)
      .raw("</title>\n<style>")
      .raw(page_style().css)
      .raw("</style>\n</head>\n");
}

void add_severity(Html& page, store::Severity severity) {
  switch (severity) {
    case store::Severity::low: page.raw("<span class=\"pill low\">low</span>"); break;
    case store::Severity::medium: page.raw("<span class=\"pill medium\">medium</span>"); break;
    case store::Severity::high: page.raw("<span class=\"pill high\">high</span>"); break;
    case store::Severity::critical: page.raw("<span class=\"pill critical\">critical</span>"); break;
  }
}

void add_title(Html& page, const Report& report) {
  const auto& alert = report.found.alert;
  page.raw("<header>\n<p class=\"over\">DaemonEye alert report</p>\n<h1>");
  add_severity(page, alert.severity);
  page.raw(" ").text(alert.title, max_title_bytes).raw("</h1>\n");
  if (!alert.description.empty()) page.raw("<p class=\"lead\">").text(alert.description, max_field_bytes).raw("</p>\n");
  page.raw("</header>\n");
}

void add_reasons(Html& page, const event::Completeness& completeness) {
  page.raw("<ul>\n");
  for (const auto& reason : completeness.reasons) {
    page.raw("<li><code>").text(reason.reason, max_line_bytes).raw("</code>");
    if (reason.count) page.raw(", ").number(static_cast<std::int64_t>(*reason.count));
    if (reason.from) {
      page.raw(", from ");
      add_time(page, *reason.from);
    }
    if (reason.to) {
      page.raw(" to ");
      add_time(page, *reason.to);
    }
    page.raw("</li>\n");
  }
  page.raw("</ul>\n");
}

void add_evidence_verdict(Html& page, const AlertCase& found) {
  const auto kept = static_cast<std::int64_t>(std::ranges::count_if(found.events, &CaseEvent::evidence));
  const auto all = static_cast<std::int64_t>(found.alert.evidence.size());
  if (all == 0) {
    page.raw(
        "<div class=\"card\"><h2>No single event</h2><p>The rule's statement puts rows together: no event by itself is "
        "its evidence.</p></div>\n");
    return;
  }
  if (kept == all)
    page.raw("<div class=\"card good\"><h2>Evidence kept</h2><p>");
  else
    page.raw("<div class=\"card warn\"><h2>Evidence not all here</h2><p>");
  page.number(kept).raw(" of ").number(all).raw(" events");
  if (!found.lost_evidence.empty()) {
    page.raw("; ").number(static_cast<std::int64_t>(found.lost_evidence.size())).raw(" no longer kept or not readable");
  }
  if (found.more_evidence > 0) {
    page.raw("; ").number(static_cast<std::int64_t>(found.more_evidence)).raw(" more are left out here");
  }
  page.raw(".</p></div>\n");
}

void add_proof_verdict(Html& page, const Report& report) {
  const auto& inclusion = report.proofs.inclusion;
  const bool broken = (inclusion && inclusion->altered()) || report.proofs.signatures_hold == false;
  if (!broken && report.found.alert.evidence.empty()) {
    page.raw(
        "<div class=\"card\" id=\"integrity\"><h2>Nothing to prove</h2><p>There is no evidence to lead to the signed "
        "audit ledger.</p></div>\n");
    return;
  }
  const auto proven =
      inclusion ? std::ranges::count(inclusion->batches, BatchInclusion::State::proven, &BatchInclusion::state) : 0;
  const bool good = inclusion && !inclusion->batches.empty() && inclusion->more_batches == 0 &&
                    proven == static_cast<std::ptrdiff_t>(inclusion->batches.size());
  if (broken)
    page.raw("<div class=\"card bad\" id=\"integrity\"><h2>Altered</h2><p>");
  else if (good)
    page.raw("<div class=\"card good\" id=\"integrity\"><h2>Proven</h2><p>");
  else
    page.raw("<div class=\"card warn\" id=\"integrity\"><h2>Not all proven</h2><p>");
  if (inclusion) {
    page.number(static_cast<std::int64_t>(proven))
        .raw(" of ")
        .number(static_cast<std::int64_t>(inclusion->batches.size() + inclusion->more_batches))
        .raw(" batches of evidence lead to the signed audit ledger.");
  } else {
    page.text(report.proofs.why, max_line_bytes);
  }
  page.raw("</p></div>\n");
}

// The three questions a reader has first: is all of it here, is it what was recorded, is it proven?
void add_verdicts(Html& page, const Report& report) {
  const auto& found = report.found;
  page.raw("<div class=\"cards\">\n");
  const auto whole = completeness_of(found);
  if (whole.complete()) {
    page.raw(
        "<div class=\"card good\" id=\"completeness\"><h2>Complete</h2><p>Nothing is known to be missing, when it "
        "was raised and in the time shown here.</p></div>\n");
  } else {
    page.raw("<div class=\"card warn\" id=\"completeness\"><h2>Degraded</h2>");
    if (!found.alert.completeness.complete()) {
      page.raw("<p>When it was raised, missing:</p>");
      add_reasons(page, found.alert.completeness);
    }
    if (!found.looked.complete()) {
      page.raw("<p>Of the time shown here, missing:</p>");
      add_reasons(page, found.looked);
    }
    page.raw("</div>\n");
  }
  add_evidence_verdict(page, found);
  add_proof_verdict(page, report);
  page.raw("</div>\n");
}

void add_hash(Html& page, const AlertCase& found, const event::ProcessInfo& process) {
  if (!process.executable_hash) return;
  page.raw("<tr><th>SHA-256</th><td>").text(*process.executable_hash);
  if (found.hashed_after_end) {
    page.raw(" <span class=\"none\">(computed after its end, ");
    add_time(page, *found.hashed_after_end);
    page.raw(")</span>");
  }
  page.raw("</td></tr>\n");
}

void add_summary(Html& page, const Report& report) {
  const auto& alert = report.found.alert;
  page.raw("<section id=\"summary\">\n<h2>What happened</h2>\n<table class=\"fields\">\n");
  add_field(page, "Alert", alert.alert_id);
  page.raw("<tr><th>Raised</th><td>");
  add_time(page, alert.time);
  page.raw("</td></tr>\n");
  if (alert.count > 1) {
    page.raw("<tr><th>Counted</th><td>").number(static_cast<std::int64_t>(alert.count)).raw(" times, last ");
    add_time(page, alert.last_seen);
    page.raw("</td></tr>\n");
  }
  add_field(page, "Status", alert.status);
  add_field(page, "Rule", alert.rule_id);
  add_field(page, "Host", alert.host);
  add_field(page, "Process", alert.name.value_or("") + (alert.pid ? " (pid " + std::to_string(*alert.pid) + ")" : ""));
  add_field(page, "Executable", alert.executable_path.value_or(""));
  if (report.found.subject && !report.found.family.empty()) {
    const auto& process = report.found.family.front();
    add_hash(page, report.found, process);
    add_field(page, "User", process.user.value_or(process.uid ? std::to_string(*process.uid) : ""));
    add_field(page, "Working folder", process.cwd.value_or(""));
    if (process.start_time) {
      page.raw("<tr><th>Started</th><td>");
      add_time(page, *process.start_time);
      page.raw("</td></tr>\n");
    }
    add_field(page, "Became of it", status_for_people(process));
    add_field(page, "Container", process.container_id.value_or(""));
  }
  std::string tags;
  for (const auto& tag : alert.tags) tags += (tags.empty() ? "" : ", ") + tag;
  add_field(page, "Tags", tags);
  add_field(page, "Process key", alert.process_key.value_or(""));
  add_field(page, "Correlation", alert.correlation_id);
  page.raw("</table>\n");
  if (alert.command_line) {
    page.raw("<h3>Command line</h3>\n<pre class=\"command\">")
        .text(*alert.command_line, max_field_bytes)
        .raw("</pre>\n");
  }
  page.raw("</section>\n");
}

void add_row(Html& page, const store::Alert& alert) {
  page.raw("<section id=\"row\">\n<h2>The matched row</h2>\n");
  const auto row = ordered_json::parse(alert.row_json, nullptr, false);
  if (!row.is_object() || row.empty()) {
    page.raw("<p class=\"none\">The alert keeps no row.</p>\n</section>\n");
    return;
  }
  page.raw("<table class=\"fields\">\n");
  for (const auto& [name, value] : row.items()) {
    page.raw("<tr><th>").text(name, max_line_bytes).raw("</th><td>");
    if (value.is_null())
      page.raw("<span class=\"none\">NULL</span>");
    else
      add_value(page,
                value.is_string() ? value.get_ref<const std::string&>()
                                  : value.dump(-1, ' ', false, ordered_json::error_handler_t::replace),
                max_cell_bytes);
    page.raw("</td></tr>\n");
  }
  page.raw("</table>\n</section>\n");
}

void add_history(Html& page, const AlertCase& found) {
  if (found.changes.empty() && found.deliveries.empty()) return;
  page.raw(
      "<section id=\"history\">\n<h2>What became of the alert</h2>\n<div class=\"wide\"><table class=\"list\">\n"
      "<thead><tr><th>Time</th><th>Who</th><th>What</th></tr></thead>\n<tbody>\n");
  for (const auto& change : found.changes) {
    page.raw("<tr><td>");
    add_time(page, change.time);
    page.raw("</td><td>").text(change.actor, max_line_bytes).raw("</td><td>");
    page.text(change.from, max_line_bytes).raw(" → ").text(change.to, max_line_bytes);
    if (!change.note.empty()) page.raw(": ").text(change.note, max_field_bytes);
    page.raw("</td></tr>\n");
  }
  for (const auto& delivery : found.deliveries) {
    page.raw("<tr><td>");
    add_time(page, delivery.time);
    page.raw("</td><td>sink ").text(delivery.sink, max_line_bytes).raw("</td><td>");
    page.text(delivery.outcome, max_line_bytes).raw(", attempt ").number(delivery.attempt);
    if (!delivery.error.empty()) page.raw(": ").text(delivery.error, max_line_bytes);
    page.raw("</td></tr>\n");
  }
  page.raw("</tbody>\n</table></div>\n");
  if (found.deliveries.size() >= max_case_deliveries)
    page.raw("<p class=\"none\">Later deliveries are left out.</p>\n");
  page.raw("</section>\n");
}

void add_foot(Html& page, const Report& report) {
  page.raw("<footer>\n<p>Made ");
  add_time(page, report.made);
  page.raw(" by ")
      .text(report.made_by, max_line_bytes)
      .raw(" with daemoneye-cli ")
      .text(report.version, max_line_bytes);
  page.raw("; the alert is of DaemonEye ").text(report.found.alert.agent_version, max_line_bytes);
  page.raw(
      ". All times are UTC. This page loads nothing and runs nothing. Characters that a browser would not show are "
      "spelled out <span class=\"spelled\">like \\x1b</span>.</p>\n</footer>\n");
}

}  // namespace

void add_field(Html& page, std::string_view name, std::string_view value, std::size_t max_bytes) {
  if (value.empty()) return;
  page.raw("<tr><th>").text(name).raw("</th><td>");
  add_value(page, value, max_bytes);
  page.raw("</td></tr>\n");
}

void add_value(Html& page, std::string_view value, std::size_t max_bytes) {
  const bool tall = value.size() > max_low_bytes;
  if (tall) page.raw("<div class=\"tall\">");
  page.text(value, max_bytes);
  if (tall) page.raw("</div>");
}

void add_time(Html& page, Timestamp time) {
  const auto iso = base::to_iso(time);
  // To the millisecond for the eye; all of it for whoever needs it.
  page.raw("<time datetime=\"").attribute(iso).raw("\">").text(iso.substr(0, iso.size() - 7)).raw("Z</time>");
}

std::string report_page(const Report& report) {
  Html page;
  add_head(page, report);
  page.raw("<body>\n<main>\n");
  add_title(page, report);
  add_verdicts(page, report);
  add_summary(page, report);
  add_row(page, report.found.alert);
  add_process_tree(page, report.found);
  add_timeline(page, report.found);
  add_evidence(page, report.found);
  add_rule(page, report.rule, report.found.alert);
  add_proofs(page, report.proofs, report.found);
  add_history(page, report.found);
  page.raw("</main>\n");
  add_foot(page, report);
  page.raw("</body>\n</html>\n");
  return page.take();
}

}  // namespace daemoneye::cli
