#include "cli/report_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/text.h"
#include "store/testing/temp_store.h"

namespace daemoneye::cli {
namespace {

using store::testing::make_event;
using testing::HasSubstr;
using testing::Not;

constexpr std::int64_t second = 1'000'000'000;

// All of its texts come from here.
struct Texts {
  std::function<std::string()> next;
};

Report report_of(const Texts& texts) {
  const auto& text = texts.next;
  Report report;
  auto& found = report.found;
  auto& alert = found.alert;
  alert.alert_id = text();
  alert.time = alert.last_seen = Timestamp{100 * second};
  alert.rule_id = text();
  alert.title = text();
  alert.description = text();
  alert.status = text();
  alert.process_key = alert.name = alert.executable_path = alert.command_line = text();
  alert.pid = 7;
  alert.row_json = "{" + base::json_quote(text()) + ":" + base::json_quote(text()) + ",\"n\":1,\"none\":null}";
  alert.evidence = {1, 2};
  alert.correlation_id = alert.host = alert.agent_version = text();
  alert.tags = {text(), text()};
  alert.completeness.reasons = {{text(), 3, Timestamp{1}, Timestamp{2}}};
  found.looked.reasons = {{text(), {}, {}, {}}};
  found.changes = {{Timestamp{101 * second}, text(), text(), text(), text()}};
  found.deliveries = {{Timestamp{102 * second}, text(), text(), text(), 1}};
  found.window = {Timestamp{0}, Timestamp{200 * second}};
  for (event::Pid pid : {7, 5, 1, 9}) {
    auto event = make_event(pid == 9 ? event::EventKind::exit : event::EventKind::exec, pid, pid * second, text());
    event.process.arguments = event::Arguments::from_list({text(), text()});
    event.process.executable_path = event.process.user = event.process.cwd = event.process.container_id = text();
    event.process.start_time = Timestamp{pid * second};
    if (pid == 9) event.process.exit_time = Timestamp{90 * second};
    if (pid == 7) event.process.parent_key = store::testing::key_of(5);
    if (pid == 5) event.process.parent_key = store::testing::key_of(1);
    if (pid == 9) event.process.parent_key = store::testing::key_of(7);
    event.detail = "{" + base::json_quote(text()) + ":1}";
    found.family.push_back(event.process);
    found.events.push_back({pid, event, pid == 7});
    event.kind = event::EventKind::change;
    found.events.push_back({pid + 100, event, false});
  }
  found.subject = found.family.front().key;
  found.ancestors = 2;
  found.lost_evidence = {2};
  report.rule.loaded = {text(), text(), text(), text(), text() + '\n' + text(), text(), text(), Timestamp{1}};
  report.rule.text.emplace();
  auto& rule = *report.rule.text;
  rule.description = rule.author = rule.license = text();
  rule.tags = rule.references = rule.falsepositives = rule.except =
      rule.dedup_by = {text(), "https://a.example/" + text()};
  report.rule.notes = {text()};
  report.proofs.inclusion.emplace();
  BatchInclusion batch;
  batch.state = BatchInclusion::State::proven;
  batch.why = batch.id.source = text();
  batch.sealed.emplace();
  batch.sealed->count = 1;
  batch.path.resize(2);
  report.proofs.inclusion->batches = {batch};
  ledger::Proof proof;
  proof.payload = proof.actor = proof.action = proof.checkpoint = text();
  report.proofs.inclusion->proofs.emplace(4, proof);
  report.proofs.key = report.version = report.made_by = text();
  return report;
}

// Reads the page as a browser's tokenizer would, strictly: our markup is all of it that there is.
class Tokens {
 public:
  explicit Tokens(std::string_view page) {
    while (!page.empty()) {
      if (page.front() != '<') {
        take_text(page);
        continue;
      }
      const auto end = page.find('>');
      if (end == std::string_view::npos) {
        ADD_FAILURE() << "a tag that does not end";
        return;
      }
      take_tag(page.substr(1, end - 1));
      const bool style = page.substr(1, end - 1) == "style";
      page.remove_prefix(end + 1);
      if (style) page.remove_prefix(page.find("</style>"));
    }
    EXPECT_TRUE(open_.empty()) << open_.back();
  }
  std::set<std::string> tags, attributes;

 private:
  void take_text(std::string_view& page) {
    const auto text = page.substr(0, page.find('<'));
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      ASSERT_TRUE(c == '\n' || (byte >= 0x20 && byte != 0x7f)) << "a control character";
      ASSERT_TRUE(c != '>' && c != '"') << text;
    }
    ASSERT_EQ(base::to_valid_utf8(text), text);
    page.remove_prefix(text.size());
  }
  void take_tag(std::string_view tag) {
    if (tag == "!DOCTYPE html") return;
    if (tag.starts_with('/')) {
      ASSERT_FALSE(open_.empty());
      ASSERT_EQ(open_.back(), tag.substr(1));
      open_.pop_back();
      return;
    }
    const auto name_end = std::min(tag.find(' '), tag.size());
    const std::string name(tag.substr(0, name_end));
    tags.insert(name);
    const bool closed = tag.ends_with('/');
    auto rest = tag.substr(name_end, tag.size() - name_end - (closed ? 1 : 0));
    while (!rest.empty()) {
      ASSERT_EQ(rest.front(), ' ');
      const auto equals = rest.find("=\"");
      ASSERT_NE(equals, std::string_view::npos) << tag;
      attributes.insert(std::string(rest.substr(1, equals - 1)));
      const auto quote = rest.find('"', equals + 2);
      ASSERT_NE(quote, std::string_view::npos) << tag;
      ASSERT_EQ(rest.substr(equals + 2, quote - equals - 2).find_first_of("<>"), std::string_view::npos) << tag;
      rest.remove_prefix(quote + 1);
    }
    if (!closed && name != "meta" && name != "br") open_.push_back(name);
  }

  std::vector<std::string> open_;
};

const std::set<std::string> our_tags = {"html",       "head",    "meta",  "title", "style", "body", "main", "header",
                                        "footer",     "section", "h1",    "h2",    "h3",    "p",    "div",  "span",
                                        "table",      "thead",   "tbody", "tr",    "th",    "td",   "ul",   "ol",
                                        "li",         "b",       "code",  "pre",   "a",     "time", "br",   "figure",
                                        "figcaption", "svg",     "g",     "line",  "text",  "rect", "path", "circle"};
const std::set<std::string> our_attributes = {
    "lang",    "charset", "http-equiv", "content", "name", "class", "id", "rel",        "href", "datetime",
    "viewBox", "role",    "aria-label", "x",       "y",    "x1",    "y1", "x2",         "y2",   "width",
    "height",  "rx",      "cx",         "cy",      "r",    "d",     "dx", "text-anchor"};

void expect_only_ours(const std::string& page) {
  const Tokens tokens(page);
  for (const auto& tag : tokens.tags) EXPECT_TRUE(our_tags.contains(tag)) << tag;
  for (const auto& attribute : tokens.attributes) EXPECT_TRUE(our_attributes.contains(attribute)) << attribute;
}

TEST(ReportPage, HoldsEverythingOfTheAlert) {
  int count = 0;
  const auto page = report_page(report_of({[&] { return "text-" + std::to_string(++count) + ';'; }}));
  for (int n = 1; n <= count; ++n) EXPECT_THAT(page, HasSubstr("text-" + std::to_string(n) + ';'));
  for (const auto* id : {"summary", "row", "tree", "timeline", "evidence", "rule", "proofs", "history"}) {
    EXPECT_THAT(page, HasSubstr("<section id=\"" + std::string(id) + "\">"));
  }
  expect_only_ours(page);
}

TEST(ReportPage, LetsNothingHostileIn) {
  std::mt19937 random(5);  // NOLINT: the same each time
  constexpr std::string_view pieces[] = {"<script>alert(1)</script>",
                                         "\"><img src=x onerror=alert(1)>",
                                         "' onmouseover='x",
                                         "</title></style></pre>",
                                         "]]><svg onload=x>",
                                         "-->",
                                         "&lt;",
                                         "\u202e",
                                         "\x1b[2J",
                                         "\xff\xfe",
                                         "\n",
                                         "javascript:alert(1)"};
  for (int round = 0; round < 60; ++round) {
    const auto page = report_page(report_of({[&] {
      std::string text;
      for (auto n = 1 + random() % 3; n > 0; --n) text += pieces[random() % std::size(pieces)];
      return text;
    }}));
    expect_only_ours(page);
    EXPECT_THAT(page, Not(HasSubstr("href=\"javascript")));
    if (HasFailure()) return;
  }
}

TEST(ReportPage, IsBounded) {
  auto report = report_of({[] { return std::string(max_field_bytes + 1000, '<'); }});
  const auto one = report.found.events.back();
  for (std::size_t n = 0; n < max_case_events; ++n) report.found.events.push_back(one);
  report.found.more_events = 12;
  const auto page = report_page(report);
  EXPECT_LT(page.size(), std::size_t{32} * 1024 * 1024);
  EXPECT_NE(page.find("bytes more"), std::string::npos);
  EXPECT_NE(page.find("12 more, farther from the alert"), std::string::npos);
}

TEST(ReportPage, ForbidsTheBrowserEverythingButItsOwnStyle) {
  const auto& style = page_style();
  EXPECT_THAT(style.policy, testing::StartsWith("default-src 'none'; style-src 'sha256-"));
  EXPECT_EQ(style.css.text().find('<'), std::string_view::npos);
  EXPECT_EQ(style.css.text().find("url("), std::string_view::npos);
  EXPECT_EQ(style.css.text().find("@import"), std::string_view::npos);
}

TEST(ReportPage, AnAlertOfManyRowsHasNothingToProve) {
  auto report = report_of({[] { return std::string("x"); }});
  report.found.alert.evidence.clear();
  report.found.lost_evidence.clear();
  report.found.events.clear();
  report.found.family.clear();
  report.found.subject.reset();
  report.found.ancestors = 0;
  report.proofs.inclusion->batches.clear();
  report.proofs.signatures_hold.reset();
  const auto page = report_page(report);
  EXPECT_THAT(page, HasSubstr("<div class=\"card\"><h2>No single event</h2>"));
  EXPECT_THAT(page, HasSubstr("<div class=\"card\" id=\"integrity\"><h2>Nothing to prove</h2>"));
  EXPECT_THAT(page, HasSubstr("so there are no events of it"));
  EXPECT_THAT(page, Not(HasSubstr("0 of 0")));
  EXPECT_THAT(page, Not(HasSubstr("Events of these processes from")));
  expect_only_ours(page);
  report.proofs.signatures_hold = false;
  EXPECT_THAT(report_page(report), HasSubstr("<h2>Altered</h2>"));
}

TEST(ReportPage, SaysWhenAHashCameAfterTheEnd) {
  auto report = report_of({[] { return std::string("x"); }});
  EXPECT_THAT(report_page(report), Not(HasSubstr("SHA-256</th>")));
  report.found.family.front().executable_hash = std::string(64, 'a');
  EXPECT_THAT(report_page(report), HasSubstr("<th>SHA-256</th><td>" + std::string(64, 'a') + "</td>"));
  report.found.hashed_after_end = Timestamp{101 * second};
  const auto page = report_page(report);
  EXPECT_THAT(page, HasSubstr("(computed after its end, <time datetime=\"1970-01-01T00:01:41"));
  expect_only_ours(page);
}

TEST(ReportPage, BoundsTheHeightOfLongValues) {
  auto report = report_of({[] { return std::string("x"); }});
  EXPECT_THAT(report_page(report), Not(HasSubstr("class=\"tall\"")));
  report.found.alert.row_json = "{\"a\":\"" + std::string(9000, 'A') + "\"}";
  const auto page = report_page(report);
  EXPECT_THAT(page, HasSubstr("<th>a</th><td><div class=\"tall\">AAAA"));
  expect_only_ours(page);
}

TEST(ReportPage, SaysWhatIsWrongFirst) {
  auto report = report_of({[] { return std::string("x"); }});
  EXPECT_THAT(report_page(report), HasSubstr("<h2>Proven</h2>"));
  report.proofs.inclusion->batches.front().state = BatchInclusion::State::altered;
  EXPECT_THAT(report_page(report), HasSubstr("<h2>Altered</h2>"));
  report.proofs.inclusion->batches.front().state = BatchInclusion::State::pending;
  EXPECT_THAT(report_page(report), HasSubstr("<h2>Not all proven</h2>"));
  report.proofs.inclusion.reset();
  report.proofs.why = "no ledger";
  EXPECT_THAT(report_page(report), HasSubstr("no ledger"));
  EXPECT_THAT(report_page(report), HasSubstr("<h2>Degraded</h2>"));
  report.found.looked = report.found.alert.completeness = {};
  EXPECT_THAT(report_page(report), HasSubstr("<h2>Complete</h2>"));
}

}  // namespace
}  // namespace daemoneye::cli
