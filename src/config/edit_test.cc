#include "config/edit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace daemoneye::config {
namespace {

using testing::HasSubstr;

Node yaml(const std::string& text) {
  auto node = parse_yaml(text);
  EXPECT_TRUE(node) << text;
  return node ? *node : Node{};
}

std::string set(const std::string& text, const std::string& key, const std::string& value) {
  auto edited = with_key_set(text, key, yaml(value));
  return edited ? *edited : "REFUSED " + edited.error().message;
}

std::string removed(const std::string& text, const std::string& key) {
  auto edited = with_key_removed(text, key);
  return edited ? *edited : "REFUSED " + edited.error().message;
}

struct Change {
  const char *what, *before, *key, *value, *after;
};

TEST(Edit, SetsAKeyAndLeavesEveryOtherByte) {
  const Change changes[] = {
      {"an empty file", "", "app.batch_size", "5", "app:\n  batch_size: 5\n"},
      {"only comments", "# mine\n", "app.batch_size", "5", "# mine\napp:\n  batch_size: 5\n"},
      {"only a comment without a line end", "# mine", "app.batch_size", "5", "# mine\napp:\n  batch_size: 5\n"},
      {"a document's begin", "---\n", "app.batch_size", "5", "---\napp:\n  batch_size: 5\n"},
      {"a value before a comment", "app:\n  batch_size: 7   # small\n", "app.batch_size", "5",
       "app:\n  batch_size: 5   # small\n"},
      {"no line end", "app:\n  batch_size: 7", "app.batch_size", "5", "app:\n  batch_size: 5"},
      {"a new key where there is no line end", "app:\n  batch_size: 7", "app.scan_interval_ms", "500",
       "app:\n  batch_size: 7\n  scan_interval_ms: 500"},
      {"DOS lines", "app:\r\n  batch_size: 7\r\n", "app.scan_interval_ms", "500",
       "app:\r\n  batch_size: 7\r\n  scan_interval_ms: 500\r\n"},
      {"a value in DOS lines", "app:\r\n  batch_size: 7\r\n", "app.batch_size", "500", "app:\r\n  batch_size: 500\r\n"},
      {"a byte order mark",
       "\xef\xbb\xbf"
       "app:\n  batch_size: 7\n",
       "app.batch_size", "5",
       "\xef\xbb\xbf"
       "app:\n  batch_size: 5\n"},
      {"double quotes with an escape", "app:\n  state_dir: \"/a\\\"b\" # x\n", "app.state_dir", "/c",
       "app:\n  state_dir: /c # x\n"},
      {"single quotes twice", "app:\n  state_dir: '/a''b'\n", "app.state_dir", "/c", "app:\n  state_dir: /c\n"},
      {"a hash within a text", "app:\n  state_dir: /a#b\n", "app.state_dir", "/c", "app:\n  state_dir: /c\n"},
      {"a quoted key", "'app':\n  \"batch_size\" : 7\n", "app.batch_size", "5", "'app':\n  \"batch_size\" : 5\n"},
      {"a key without a value, before a comment", "app:\n  batch_size: # later\n", "app.batch_size", "5",
       "app:\n  batch_size: 5 # later\n"},
      {"null", "app:\n  batch_size: ~\n", "app.batch_size", "5", "app:\n  batch_size: 5\n"},
      {"a level without keys", "app:\n\n# end\n", "app.batch_size", "5", "app:\n  batch_size: 5\n\n# end\n"},
      {"a level that is null", "app: null # none\n", "app.batch_size", "5", "app: {batch_size: 5} # none\n"},
      {"a new level", "app:\n    user: x\n# end\n", "alerting.retry.max_retries", "5",
       "app:\n    user: x\nalerting:\n    retry:\n        max_retries: 5\n# end\n"},
      {"a level between", "alerting:\n  dedup_window_ms: 1\n\ndatabase:\n  max_size_mb: 9\n",
       "alerting.retry.max_retries", "5",
       "alerting:\n  dedup_window_ms: 1\n  retry:\n    max_retries: 5\n\ndatabase:\n  max_size_mb: 9\n"},
      {"after a comment in the line", "app:\n  user: x # who\ndatabase:\n", "app.batch_size", "5",
       "app:\n  user: x # who\n  batch_size: 5\ndatabase:\n"},
      {"after a list", "detection:\n  rule_paths:\n  - /a\n  - /b # last\nzzz: 1\n", "detection.rule_timeout_ms", "5",
       "detection:\n  rule_paths:\n  - /a\n  - /b # last\n  rule_timeout_ms: 5\nzzz: 1\n"},
      {"after a text of several lines",
       "alerting:\n  sinks:\n    - type: stdout\n      template: |\n        # not a comment\n\n        {{title}}\nx: "
       "1\n",
       "alerting.dedup_window_ms", "5",
       "alerting:\n  sinks:\n    - type: stdout\n      template: |\n        # not a comment\n\n        {{title}}\n"
       "  dedup_window_ms: 5\nx: 1\n"},
      {"after a plain text that goes on below", "app:\n  user: a\n    b\nx: 1\n", "app.batch_size", "5",
       "app:\n  user: a\n    b\n  batch_size: 5\nx: 1\n"},
      {"brackets", "{app: {batch_size: 7, user: x}, b: [1, 2]}\n", "app.batch_size", "5",
       "{app: {batch_size: 5, user: x}, b: [1, 2]}\n"},
      {"a new key in brackets", "app: {user: x} # c\n", "app.batch_size", "5", "app: {user: x, batch_size: 5} # c\n"},
      {"a new level in JSON", "{\"app\": {\"user\": \"a,}b\"}}", "alerting.retry.max_retries", "5",
       "{\"app\": {\"user\": \"a,}b\"}, \"alerting\": {\"retry\": {\"max_retries\": 5}}}"},
      {"JSON in lines", "{\n  \"app\": {\n    \"user\": \"x\"\n  }\n}\n", "app.batch_size", "5",
       "{\n  \"app\": {\n    \"user\": \"x\",\n    \"batch_size\": 5\n  }\n}\n"},
      {"empty brackets", "app: {}\n", "app.batch_size", "5", "app: {batch_size: 5}\n"},
      {"an empty file of JSON", "{}", "app.batch_size", "5", "{app: {batch_size: 5}}"},
      {"a list in brackets over lines", "detection:\n  rule_paths: [/a,\n    /b]\nx: 1\n", "detection.rule_paths",
       "[/c]", "detection:\n  rule_paths: [/c]\nx: 1\n"},
      {"items that stay keep their lines",
       "detection:\n  rule_paths:\n    # ours\n    - /a   # first\n    - '/b'\n    - /c\n", "detection.rule_paths",
       "[/a, /x, /c, /d]", "detection:\n  rule_paths:\n    # ours\n    - /a   # first\n    - /x\n    - /c\n    - /d\n"},
      {"all items go", "detection:\n  rule_paths:\n    - /a\n    - /b\nx: 1\n", "detection.rule_paths", "[]",
       "detection:\n  rule_paths: []\nx: 1\n"},
      {"an item after the last, which has no line end", "detection:\n  rule_paths:\n  - /a", "detection.rule_paths",
       "[/a, /b]", "detection:\n  rule_paths:\n  - /a\n  - /b"},
      {"another last item, which has no line end", "detection:\n  rule_paths:\n  - /a\n  - /c", "detection.rule_paths",
       "[/a, /b]", "detection:\n  rule_paths:\n  - /a\n  - /b"},
      {"sinks that stay keep their lines",
       "alerting:\n  sinks:\n    - type: stdout   # for me\n      min_severity: high\n    - {type: file, path: /x}\n",
       "alerting.sinks", "[{min_severity: high, type: stdout}, {type: syslog}]",
       "alerting:\n  sinks:\n    - type: stdout   # for me\n      min_severity: high\n    - {type: syslog}\n"},
      {"a text that needs quotes", "app:\n  user: x\n", "app.user", "'5'", "app:\n  user: \"5\"\n"},
      {"a text with a colon", "metrics:\n  listen: off\n", "metrics.listen", "127.0.0.1:9100",
       "metrics:\n  listen: \"127.0.0.1:9100\"\n"},
      {"deep levels in brackets within lines", "alerting:\n  retry: {max_retries: 1,\n          max_delay_ms: 2}\n",
       "alerting.retry.max_delay_ms", "3", "alerting:\n  retry: {max_retries: 1,\n          max_delay_ms: 3}\n"},
      {"text before the document's end", "app:\n  user: x\n...\n", "app.batch_size", "5",
       "app:\n  user: x\n  batch_size: 5\n...\n"},
  };
  for (const auto& change : changes) {
    EXPECT_EQ(set(change.before, change.key, change.value), change.after) << change.what;
  }
}

TEST(Edit, RefusesWhatItCannotChangeByLineAndNamesTheLine) {
  EXPECT_THAT(set("app:\n\tbatch_size: 7\n", "app.batch_size", "5"), HasSubstr("REFUSED line"));
  EXPECT_THAT(set("a: 1\na: 2\n", "app.batch_size", "5"), HasSubstr("is there twice; first in line 1"));
  EXPECT_THAT(set("app:\n  user: &u x\n", "app.user", "y"), HasSubstr("line 2: an anchor or tag"));
  EXPECT_THAT(set("app: &a\n  user: x\n", "app.user", "y"), HasSubstr("line 1: an anchor or tag"));
  EXPECT_THAT(set("app:\n  user: &u x\nb: *u\n", "app.user", "y"), HasSubstr("aliases are not accepted"));
  EXPECT_THAT(set("app:\n  user: |\n    x\n", "app.user", "y"), HasSubstr("line 2: a text of several lines"));
  EXPECT_THAT(set("app:\n  user: a\n    b\n", "app.user", "y"), HasSubstr("line 2: a text of several lines"));
  EXPECT_THAT(set("detection:\n  rule_paths: [/a, # ours\n    /b]\n", "detection.rule_paths", "[/c]"),
              HasSubstr("line 2: there is a comment in these brackets"));
  EXPECT_THAT(set("app:\r  user: x\r", "app.user", "y"), HasSubstr("REFUSED line 1: a carriage return alone"));
  EXPECT_THAT(set("- a\n- b\n", "app.user", "y"), HasSubstr("line 1: found no map of keys"));
  EXPECT_THAT(set("app: 5\n", "app.user", "y"), HasSubstr("line 1: found no map of keys"));
  EXPECT_THAT(set("app: {\n", "app.user", "y"), HasSubstr("REFUSED line"));
  EXPECT_THAT(set("a: 1\n---\nb: 2\n", "app.user", "y"), HasSubstr("a second YAML document"));
}

TEST(Edit, TakesAKeyOutAndTheLevelsThatHeldNothingElse) {
  EXPECT_EQ(removed("app:\n  user: x # who\n  batch_size: 7\n", "app.user"), "app:\n  batch_size: 7\n");
  EXPECT_EQ(removed("# top\nalerting:\n  retry:\n    max_retries: 1\nx: 1\n", "alerting.retry.max_retries"),
            "# top\nx: 1\n");
  EXPECT_EQ(removed("app:\n  # why\n  user: x\nx: 1\n", "app.user"), "app:\n  # why\nx: 1\n");
  EXPECT_EQ(removed("app: {user: x, batch_size: 7, memory_budget_mb: 9}\n", "app.batch_size"),
            "app: {user: x, memory_budget_mb: 9}\n");
  EXPECT_EQ(removed("app: {user: x, batch_size: 7}\n", "app.batch_size"), "app: {user: x}\n");
  EXPECT_EQ(removed("{\"app\": {\"user\": \"x\"}, \"b\": 1}", "app.user"), "{\"b\": 1}");
  EXPECT_EQ(removed("detection:\n  rule_paths:\n    - /a\n    - /b\n  rule_timeout_ms: 5\n", "detection.rule_paths"),
            "detection:\n  rule_timeout_ms: 5\n");
  EXPECT_EQ(removed("app:\n  user: x", "app.user"), "");
  EXPECT_EQ(with_key_removed("app:\n  user: x\n", "app.batch_size").error().code, Errc::not_found);
}

TEST(Edit, WritesValuesThatReadBack) {
  for (const char* text : {"5", "true", "~", "'5'", "plain", "\"a: b # c\"", "[1, 'x y', [a]]",
                           "{a: 1, 'b c': {d: \"e\\nf\"}, g: [{h: i}]}", "-1.5", "\"\"", "'- x'"}) {
    const auto node = yaml(text);
    EXPECT_TRUE(same_value(node, yaml(write_node(node)))) << text << " as " << write_node(node);
  }
}

}  // namespace
}  // namespace daemoneye::config
