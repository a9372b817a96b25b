// The page of `report`: one HTML document that needs nothing else, no script and no network, and says so to the
// browser.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/alert_case.h"
#include "cli/batch_inclusion.h"
#include "cli/html.h"

namespace daemoneye::cli {

// What of it is shown at the most, each with a word of how much more there is.
inline constexpr std::size_t max_title_bytes = 300, max_line_bytes = 600, max_cell_bytes = 4096,
                             max_field_bytes = 64 * 1024, max_sql_bytes = 64 * 1024, max_told_evidence = 20,
                             max_chart_lanes = 28,
                             max_low_bytes = 1000;  // of a value beside its name; a longer one is looked at in a box

struct ReportProofs {
  std::optional<Inclusion> inclusion;  // nothing: `why`
  std::string why;                     // the ledger could not be read, or the proofs not be found
  std::string key, key_path;           // the public key, where it could be read
  // The proofs' checkpoints hold with that key; nothing: there is no key, or there are no proofs.
  std::optional<bool> signatures_hold;
};

struct Report {
  AlertCase found;
  CaseRule rule;
  ReportProofs proofs;
  Timestamp made;
  std::string version, made_by;
};

std::string report_page(const Report& report);

// Its parts, a file each.
struct PageStyle {
  Html::Markup css;
  std::string policy;  // of the page: nothing is loaded, and no style counts but this
};
const PageStyle& page_style();
void add_process_tree(Html& page, const AlertCase& found);
void add_chart(Html& page, const AlertCase& found);
void add_timeline(Html& page, const AlertCase& found);
void add_evidence(Html& page, const AlertCase& found);
void add_rule(Html& page, const CaseRule& rule, const store::Alert& alert);
void add_proofs(Html& page, const ReportProofs& proofs, const AlertCase& found);

// "<tr><th>NAME</th><td>VALUE</td></tr>", nothing when there is no value.
void add_field(Html& page, std::string_view name, std::string_view value, std::size_t max_bytes = max_field_bytes);
void add_value(Html& page, std::string_view value, std::size_t max_bytes);
void add_time(Html& page, Timestamp time);

}  // namespace daemoneye::cli
