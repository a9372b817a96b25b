// How the page of `report` looks: on light and dark screens and on paper. Plain characters only, and no "<".
#include "base/hash.h"
#include "cli/report_page.h"
#include "ledger/note.h"

namespace daemoneye::cli {
namespace {

constexpr const char css[] = R"css(
:root {
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --faint: #5b6470; --line: #d5dae1; --accent: #0b5cad;
  --good: #1a7f37; --good-panel: #e9f7ed; --warn: #8a5a00; --warn-panel: #fff5dc; --bad: #b3261e; --bad-panel: #fdebea;
  --low: #33658a; --medium: #8a5a00; --high: #c2410c; --critical: #a3123a; --bar: #b7c4d4; --subject: #0b5cad;
  --mark: #fff1b8; --mark-ink: #5c4300;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #12161b; --panel: #1a2027; --ink: #e3e8ee; --faint: #9aa5b1; --line: #313a44; --accent: #7db7f5;
    --good: #5fd07f; --good-panel: #14281b; --warn: #e8b64c; --warn-panel: #2c2412; --bad: #ff8a80; --bad-panel: #341817;
    --low: #3f7ea8; --medium: #946410; --high: #c2501c; --critical: #c02a52; --bar: #44515f; --subject: #7db7f5;
    --mark: #4a3c12; --mark-ink: #ffe39a;
  }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
main { padding-top: 1.5rem; }
h1 { font-size: 1.55rem; line-height: 1.3; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
h3 { font-size: .95rem; margin: 1rem 0 .4rem; color: var(--faint); }
p { margin: 0 0 .6rem; }
a { color: var(--accent); overflow-wrap: anywhere; }
code, pre, .mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .86em; }
code { overflow-wrap: anywhere; }
pre { margin: 0; padding: .7rem .9rem; background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
pre.command { border-left: 4px solid var(--subject); max-height: 22rem; overflow: auto; }
section { margin: 2rem 0; }
footer { color: var(--faint); font-size: .85rem; border-top: 1px solid var(--line); padding-top: .8rem;
  padding-bottom: 2rem; }
.over { color: var(--faint); font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; margin-bottom: .3rem; }
.lead { color: var(--faint); max-width: 50rem; }
.none { color: var(--faint); font-style: italic; }
.pill { display: inline-block; padding: .1rem .6rem; border-radius: 999px; font-size: .72rem; font-weight: 700;
  text-transform: uppercase; letter-spacing: .05em; color: #ffffff; vertical-align: .18rem; }
.pill.low { background: var(--low); } .pill.medium { background: var(--medium); }
.pill.high { background: var(--high); } .pill.critical { background: var(--critical); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.card { border: 1px solid var(--line); border-left-width: 5px; border-radius: 6px; padding: .7rem .9rem; }
.card h2 { font-size: 1rem; margin: 0 0 .25rem; }
.card p, .card ul { margin: 0; font-size: .88rem; }
.card ul { padding-left: 1.1rem; }
.good { border-color: var(--good); background: var(--good-panel); } .good h2 { color: var(--good); }
.warn { border-color: var(--warn); background: var(--warn-panel); } .warn h2 { color: var(--warn); }
.bad { border-color: var(--bad); background: var(--bad-panel); } .bad h2 { color: var(--bad); }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; unicode-bidi: isolate; }
table.fields { table-layout: fixed; }
table.fields th { width: 11rem; overflow-wrap: anywhere; color: var(--faint); font-weight: 500; }
table.list { font-size: .88rem; }
table.list thead th { color: var(--faint); font-weight: 600; border-bottom: 2px solid var(--line); white-space: nowrap; }
table.list td.kind { white-space: nowrap; } table.list td.who { min-width: 8rem; }
table.list td.what { min-width: 16rem; }
table.list td.when { white-space: nowrap; font-variant-numeric: tabular-nums; }
table.list td.after { white-space: nowrap; text-align: right; color: var(--faint); font-variant-numeric: tabular-nums; }
tr.evidence, tr.evidence td { background: var(--mark); color: var(--mark-ink); }
tr.evidence .spelled { outline: 1px solid currentColor; }
table.list tr.evidence td.after, tr.evidence .more { color: inherit; }
tr.alert td { border-top: 2px solid var(--bad); border-bottom: 2px solid var(--bad); color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; }
.tall { max-height: 14rem; overflow: auto; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 4px; padding: 0 .35rem; font-size: .75rem; }
.badge.proven { color: var(--good); } .badge.open { color: var(--warn); } .badge.altered { color: var(--bad); }
.spelled { background: var(--mark); color: var(--mark-ink); border-radius: 3px; padding: 0 .1em;
  font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; }
.more { color: var(--faint); font-style: italic; }
ul.tree, ul.tree ul { list-style: none; margin: 0; padding-left: 1.15rem; border-left: 1px solid var(--line); }
ul.tree { padding-left: 0; border-left: 0; overflow-x: auto; }
ul.tree li { padding: .15rem 0; }
.process { display: inline-block; max-width: 100%; padding: .2rem .55rem; border-radius: 6px; }
.process .meta { color: var(--faint); font-size: .82rem; margin-left: .4rem; }
.process code { display: block; }
.process.subject { background: var(--panel); border: 1px solid var(--subject); }
.process.subject b { color: var(--subject); }
figure { margin: 0 0 1rem; padding: .6rem; border: 1px solid var(--line); border-radius: 6px; background: var(--panel); }
figcaption { color: var(--faint); font-size: .82rem; margin-top: .3rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg text.tick { fill: var(--faint); font-size: 11px; }
svg text.subject { fill: var(--subject); font-weight: 700; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .bar { fill: var(--bar); } svg .bar.subject { fill: var(--subject); fill-opacity: .55; }
svg .alert { stroke: var(--bad); stroke-width: 2; } svg text.alert { fill: var(--bad); stroke: none; font-weight: 700; }
svg .mark { fill: var(--ink); stroke: var(--paper); stroke-width: 1; } svg .mark.seen { fill: var(--paper); stroke: var(--ink); }
svg .mark.proof { fill: var(--warn); stroke: var(--ink); }
.batch { border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; margin: 0 0 .8rem; }
ol.steps li { margin-bottom: .6rem; }
@media (max-width: 40rem) { table.fields th { width: 7rem; } }
@media print {
  @page { margin: 14mm; }
  body { font-size: 10pt; }
  h1 { font-size: 1.25rem; }
  table.list { font-size: 8pt; }
  main, footer { max-width: none; padding: 0; }
  section, header { margin: 0 0 1.2rem; }
  h2, h3 { break-after: avoid; }
  table.list tr, .card, figure, .process { break-inside: avoid; }
  .wide, ul.tree { overflow: visible; }
  pre.command, .tall { max-height: none; overflow: visible; }
  .card, .good, .warn, .bad, .pill, pre, tr.evidence td, .spelled, figure { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  a { color: inherit; }
}
)css";

std::string policy_of(std::string_view style) {
  return "default-src 'none'; style-src 'sha256-" + ledger::to_base64(base::as_bytes(base::sha256(style))) +
         "'; base-uri 'none'; form-action 'none'";
}

}  // namespace

const PageStyle& page_style() {
  static const PageStyle style{css, policy_of(css)};
  return style;
}

}  // namespace daemoneye::cli
