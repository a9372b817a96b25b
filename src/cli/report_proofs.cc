// Of a report: the rule, and what proves its evidence.
#include <algorithm>
#include <chrono>

#include "base/text.h"
#include "cli/report_page.h"
#include "cli/rules.h"

namespace daemoneye::cli {
namespace {

void add_list(Html& page, Html::Markup name, const std::vector<std::string>& items, bool links) {
  if (items.empty()) return;
  page.raw("<tr><th>").raw(name).raw("</th><td>");
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) page.raw("<br>");
    if (links)
      page.link(items[i]);
    else
      page.text(items[i], max_field_bytes);
  }
  page.raw("</td></tr>\n");
}

std::string seconds(std::chrono::nanoseconds span) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(span).count()) + " s";
}

void add_rule_text(Html& page, const detect::Rule& rule) {
  add_field(page, "Description", rule.description);
  add_field(page, "Author", rule.author);
  add_field(page, "License", rule.license);
  add_field(page, "Tags", joined(rule.tags));
  add_list(page, "References", rule.references, true);
  add_list(page, "Known false positives", rule.falsepositives, false);
  add_list(page, "Excused rows", rule.except, false);
  if (rule.evaluate) {
    add_field(page, "Evaluated", "every " + seconds(rule.evaluate->every) + " over " + seconds(rule.evaluate->window));
  }
  add_field(page, "Counted together by", joined(rule.dedup_by));
}

void add_state(Html& page, BatchInclusion::State state) {
  switch (state) {
    case BatchInclusion::State::proven: page.raw("<span class=\"badge proven\">proven</span>"); break;
    case BatchInclusion::State::unsigned_: page.raw("<span class=\"badge open\">not signed yet</span>"); break;
    case BatchInclusion::State::pending: page.raw("<span class=\"badge open\">pending</span>"); break;
    case BatchInclusion::State::unproven: page.raw("<span class=\"badge open\">not proven</span>"); break;
    case BatchInclusion::State::altered: page.raw("<span class=\"badge altered\">altered</span>"); break;
  }
}

void add_batch(Html& page, const BatchInclusion& batch) {
  page.raw("<div class=\"batch\">\n<h3>Batch ").number(static_cast<std::int64_t>(batch.id.sequence)).raw(" ");
  add_state(page, batch.state);
  page.raw("</h3>\n");
  if (!batch.why.empty()) page.raw("<p>").text(batch.why, max_line_bytes).raw("</p>\n");
  page.raw("<table class=\"fields\">\n");
  std::string events;
  for (const auto id : batch.events) events += (events.empty() ? "" : ", ") + std::to_string(id);
  add_field(page, "Events", events);
  add_field(page, "Source", batch.id.source);
  add_field(page, "Epoch", event::to_string(batch.id.epoch));
  add_field(page, "Digest", base::to_hex(batch.digest));
  if (batch.sealed) {
    const auto& sealed = *batch.sealed;
    const auto index = batch.id.sequence - sealed.first;
    add_field(page, "Leaf", std::to_string(index) + " of " + std::to_string(sealed.count));
    std::string path;
    for (const auto& hash : batch.path) path += (path.empty() ? "" : " ") + base::to_hex(hash);
    add_field(page, "Path", path);
    add_field(page, "Root", base::to_hex(sealed.root));
    page.raw("<tr><th>Ledger</th><td>entry ").number(static_cast<std::int64_t>(batch.entry)).raw(", ");
    add_time(page, batch.entry_time);
    page.raw("</td></tr>\n");
  }
  page.raw("</table>\n</div>\n");
}

void add_instructions(Html& page, const ReportProofs& proofs) {
  page.raw("<h3>To verify it elsewhere</h3>\n<ol class=\"steps\">\n")
      .raw(
          "<li>Save a proof above to a file and give it to <code>daemoneye-cli audit verify-proof FILE --key "
          "checkpoint.key.pub</code>, or to anything that reads <code>c2sp.org/tlog-proof@v1</code>. It shows that the "
          "entry, with the root of the batches in its payload, is in the ledger that this key signed. Take the key "
          "from "
          "where you kept it, not from this page.</li>\n")
      .raw(
          "<li>From a batch to that root: the leaf is SHA-256 of a zero byte and the digest&#39;s 32 bytes; with the "
          "leaf&#39;s number, the count and the path follow RFC 9162, 2.1.3.2. The result is the root in the "
          "entry.</li>\n")
      .raw(
          "<li>From the events to the digest: on the host <code>daemoneye-cli audit verify --events</code> encodes "
          "every "
          "batch anew and holds all of them against the ledger; a copy made by <code>daemoneye-cli db backup</code> "
          "and the ledger&#39;s folder do for another machine.</li>\n</ol>\n");
  if (proofs.key.empty()) return;
  page.raw("<p>The public key on this host, to compare with yours:</p>\n<pre id=\"key\">")
      .text(proofs.key)
      .raw("</pre>\n");
}

}  // namespace

void add_rule(Html& page, const CaseRule& rule, const store::Alert& alert) {
  page.raw("<section id=\"rule\">\n<h2>The rule</h2>\n");
  for (const auto& note : rule.notes) page.raw("<p class=\"none\">").text(note).raw("</p>\n");
  page.raw("<table class=\"fields\">\n");
  add_field(page, "Rule", alert.rule_id);
  if (rule.loaded) {
    const auto& loaded = *rule.loaded;
    add_field(page, "Title", loaded.title);
    add_field(page, "Severity", loaded.severity);
    add_field(page, "Status", loaded.status + ", " + loaded.state);
    add_field(page, "File", loaded.file);
    add_field(page, "Version", loaded.version);
    page.raw("<tr><th>Loaded</th><td>");
    add_time(page, loaded.loaded_at);
    page.raw("</td></tr>\n");
  }
  if (rule.text) add_rule_text(page, *rule.text);
  page.raw("</table>\n");
  if (rule.loaded) {
    page.raw("<h3>Statement</h3>\n<pre id=\"sql\">").lines(base::trim(rule.loaded->sql), max_sql_bytes).raw("</pre>\n");
  }
  page.raw("</section>\n");
}

void add_proofs(Html& page, const ReportProofs& proofs, const AlertCase& found) {
  page.raw("<section id=\"proofs\">\n<h2>Proof of the evidence</h2>\n");
  if (!proofs.inclusion) {
    page.raw("<p class=\"none\">").text(proofs.why, max_line_bytes).raw("</p>\n</section>\n");
    return;
  }
  const auto& inclusion = *proofs.inclusion;
  page.raw(
      "<p class=\"lead\">Before events are stored, the digest of their batch is bound into the audit ledger, which "
      "the collector alone writes and signs. These are the batches that the evidence came in.</p>\n");
  if (proofs.signatures_hold == false) {
    page.raw(
        "<div class=\"card bad\"><h2>Not signed by this key</h2><p>A proof below does not hold with the public key of "
        "this host: the ledger, the key or both are not what they were.</p></div>\n");
  }
  if (inclusion.batches.empty()) {
    page.raw("<p class=\"none\">No event of the evidence is kept, so there is nothing to prove.</p>\n");
  }
  for (const auto& batch : inclusion.batches) add_batch(page, batch);
  if (inclusion.more_batches > 0) {
    page.raw("<p class=\"none\">")
        .number(static_cast<std::int64_t>(inclusion.more_batches))
        .raw(" more batches.</p>\n");
  }
  for (const auto& [sequence, proof] : inclusion.proofs) {
    page.raw("<h3>Ledger entry ").number(static_cast<std::int64_t>(sequence)).raw("</h3>\n<p><code>");
    page.text(proof.payload, max_field_bytes).raw("</code></p>\n<pre class=\"proof\" id=\"proof-");
    page.number(static_cast<std::int64_t>(sequence)).raw("\">").lines(proof.text()).raw("</pre>\n");
  }
  if (!inclusion.proofs.empty()) add_instructions(page, proofs);
  if (found.lost_evidence.empty()) {
    page.raw("</section>\n");
    return;
  }
  page.raw("<p class=\"none\">Of evidence that is no longer kept nothing is shown here.</p>\n</section>\n");
}

}  // namespace daemoneye::cli
