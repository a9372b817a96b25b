// What the prefilter lets through is enough: alerts with it are those without it.
#include "detect/prefilter.h"

#include <cstdlib>
#include <random>
#include <set>

#include "detect/detect_test_util.h"
#include "detect/evaluator.h"

namespace daemoneye::detect::testing {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t bound) { return engine_() % bound; }
  bool one_in(std::size_t n) { return below(n) == 0; }
  const std::string& pick(const std::vector<std::string>& from) { return from[below(from.size())]; }

 private:
  std::mt19937_64 engine_;
};

// Words that are each other's parts, in both cases, with characters that fold to ASCII, that have meaning in patterns,
// and that are no UTF-8.
const std::vector<std::string> words = {"sh",
                                        "SH",
                                        "bash",
                                        "Bash",
                                        "k",
                                        "\xe2\x84\xaa",
                                        "\xe2\x84\xaa"
                                        "ey",
                                        "key",
                                        "Key",
                                        "\xc5\xbfh",
                                        "\xc4\xb0p",
                                        "ip",
                                        "m\xc3\xbcll",
                                        "M\xc3\x9cLL",
                                        "100%",
                                        "a_b",
                                        "/tmp/x",
                                        "/TMP/x",
                                        "it's",
                                        "-c",
                                        "[x]",
                                        "*",
                                        "\\d",
                                        "wget http",
                                        "\xff"
                                        "sh",
                                        "sh\xc3",
                                        "curl|sh",
                                        "sh  ",
                                        "SH ",
                                        "key ",
                                        "a\nb"};
const std::vector<std::string> text_columns = {
    "name", "comm", "executable_path", "command_line",     "cwd",         "parent_name", "parent_command_line",
    "user", "kind", "source",          "executable_state", "process_key", "container_id"};

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    out += c;
    if (c == '\'') out += c;
  }
  return out + "'";
}

// Text that the front door takes: SQL is UTF-8.
const std::string& utf8_word(Random& random) {
  for (;;) {
    const auto& word = random.pick(words);
    if (word.find('\xff') == std::string::npos && word != "sh\xc3") return word;
  }
}

std::string regexp(Random& random, int depth = 2) {
  const auto literal = [&] {
    std::string out;
    for (const char c : utf8_word(random)) {
      if (std::string_view("|*\\[]().+?{}^$").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
    return out;
  };
  if (depth == 0) return literal();
  switch (random.below(9)) {
    case 0: return "(" + regexp(random, depth - 1) + "|" + regexp(random, depth - 1) + ")";
    case 1: return regexp(random, depth - 1) + ".*" + regexp(random, depth - 1);
    case 2: return "(?i:" + regexp(random, depth - 1) + ")";
    case 3: return "(" + regexp(random, depth - 1) + ")?" + literal();
    case 4: return "[bk\xc3\xbc]" + regexp(random, depth - 1);
    case 5: return "\\b" + regexp(random, depth - 1);
    case 6: return "^" + regexp(random, depth - 1) + "$";
    case 7: return "(" + regexp(random, depth - 1) + ")+";
    default: return literal();
  }
}

std::string pattern(Random& random, char any, char one) {
  std::string out;
  for (std::size_t i = 0; i < 1 + random.below(3); ++i) {
    if (random.one_in(2)) out += random.one_in(4) ? one : any;
    out += utf8_word(random);
  }
  if (random.one_in(2)) out += any;
  return out;
}

// With classes of characters, those that hold ] - ^ and *, and one that never ends.
std::string glob_pattern(Random& random) {
  static const std::vector<std::string> classes = {
      "[a-z]", "[^a-z]", "[]x]", "[^]]", "[*]", "[?k]", "[x-]", "[SHk]", "[[]", "[", "[\xc3\xbc-\xe2\x84\xaa]"};
  std::string out;
  for (std::size_t i = 0; i < 1 + random.below(3); ++i) {
    if (random.one_in(2)) out += random.pick(classes);
    out += pattern(random, '*', '?');
  }
  return out;
}

std::string collate(Random& random) {
  static const std::vector<std::string> collations = {"BINARY", "NOCASE", "RTRIM"};
  return " COLLATE " + random.pick(collations);
}

// The column through functions and collations, in any order and depth.
std::string wrapped(Random& random, std::string of) {
  while (!random.one_in(3)) {
    switch (random.below(3)) {
      case 0: of = "lower(" + of + ")"; break;
      case 1: of = "upper(" + of + ")"; break;
      default: of = "(" + of + collate(random) + ")"; break;
    }
  }
  return of;
}

std::string atom(Random& random, const std::string& table) {
  std::string column;
  do {
    column = random.pick(text_columns);
  } while (table == "processes" && (column == "kind" || column == "source" || column.starts_with("parent_")));
  const std::string of = "e." + column;
  const auto literal = [&] { return quoted(utf8_word(random)) + (random.one_in(3) ? collate(random) : ""); };
  switch (random.below(23)) {
    case 18: return of + " GLOB " + quoted(glob_pattern(random));
    case 19: return "glob(" + quoted(glob_pattern(random)) + ", " + wrapped(random, of) + ")";
    case 20: return "like(" + quoted(pattern(random, '%', '_')) + ", " + wrapped(random, of) + ")";
    case 21: return "like(" + quoted(pattern(random, '%', '!')) + ", " + of + ", '!')";
    case 22: return wrapped(random, of) + " REGEXP " + quoted(regexp(random));
    case 14: return wrapped(random, of) + (random.one_in(2) ? " = " : " IS ") + literal();
    case 15: return literal() + (random.one_in(2) ? " = " : " IS ") + wrapped(random, of);
    case 16: return wrapped(random, of) + " IN (" + literal() + ", 'sh', 'SH')";
    case 17:
      return random.one_in(2) ? wrapped(random, of) + " LIKE " + quoted(pattern(random, '%', '_'))
                              : "instr(" + wrapped(random, of) + ", " + quoted(utf8_word(random)) + ") > 0";
    case 0: return of + " = " + quoted(utf8_word(random));
    case 1: return quoted(utf8_word(random)) + " IS " + of;
    case 2: return of + " = " + quoted(utf8_word(random)) + " COLLATE NOCASE";
    case 3: return of + " IN (" + quoted(utf8_word(random)) + ", NULL, " + quoted(utf8_word(random)) + ")";
    case 4: return "lower(" + of + ") IN (" + quoted(utf8_word(random)) + ", 'sh')";
    case 5: return of + " LIKE " + quoted(pattern(random, '%', '_'));
    case 6: return of + " LIKE " + quoted(pattern(random, '%', '!')) + " ESCAPE '!'";
    case 7: return of + " GLOB " + quoted(pattern(random, '*', '?'));
    case 8: return of + " REGEXP " + quoted(regexp(random));
    case 9: return "instr(" + of + ", " + quoted(utf8_word(random)) + ") > 0";
    case 10: return of + " IS NULL";
    case 11: return "upper(" + of + ") LIKE " + quoted(pattern(random, '%', '_'));
    case 12: return "e.kind_ IN ('exec', 'exit')";
    default: return "e.uid < 2";
  }
}

std::string condition(Random& random, const std::string& table, int depth) {
  if (depth > 0 && !random.one_in(3)) {
    std::string out = "(" + condition(random, table, depth - 1);
    const std::string op = random.one_in(2) ? " AND " : " OR ";
    for (std::size_t i = 0; i < 1 + random.below(2); ++i) out += op + condition(random, table, depth - 1);
    return (random.one_in(8) ? "NOT " : "") + out + ")";
  }
  auto text = atom(random, table);
  if (const auto at = text.find("e.kind_"); at != std::string::npos) {
    text = table == "processes" ? "e.status <> 'exited'" : text.replace(at, 7, "e.kind");
  }
  return text;
}

std::string statement(Random& random) {
  const std::string table = random.one_in(5) ? "processes" : "process_events";
  const std::string where = condition(random, table, 3);
  // A rule over `processes` cannot join them.
  switch (table == "processes" ? 2 + random.below(4) : random.below(6)) {
    case 0:
      return "SELECT e.pid, e.process_key, p.name AS parent FROM " + table +
             " e JOIN processes p ON p.process_key = e.parent_key AND " + condition(random, table, 1) + " WHERE " +
             where;
    case 1:
      return "SELECT e.pid, e.process_key, p.name AS parent FROM " + table +
             " e LEFT JOIN processes p ON p.process_key = e.parent_key AND " + condition(random, table, 1) + " WHERE " +
             where + " ORDER BY e.pid";
    case 2:
      return "SELECT e.pid, e.process_key FROM " + table + " e WHERE has_ancestor(e.process_key, 'sh') AND " + where;
    case 3:
      if (table == "processes") return "SELECT e.pid, e.name FROM processes e WHERE " + where;
      return "SELECT e.pid, e.process_key, (SELECT count(*) FROM process_events h WHERE h.name = e.name AND h.time < "
             "ago('1s')) AS before FROM " +
             table + " e WHERE " + where;
    case 4: return "WITH x AS (SELECT 'sh' AS n) SELECT e.pid, x.n FROM x, " + table + " e WHERE " + where;
    default: return "SELECT * FROM " + table + " e WHERE " + where;
  }
}

std::optional<std::string> some_text(Random& random) {
  if (random.one_in(5)) return std::nullopt;
  std::string text;
  for (std::size_t i = 0; i < 1 + random.below(2); ++i) text += random.pick(words);
  if (random.one_in(12)) text += std::string("\0sh", 3);
  return text;
}

event::ProcessEvent random_event(Random& random, event::Pid pid, const std::vector<event::ProcessEvent>& before) {
  if (random.one_in(25)) {
    return event::make_gap_event({"events_lost", {test_epoch_ns}, {test_epoch_ns + 1}, 5}, event::EventSource::ebpf,
                                 {test_epoch_ns + static_cast<std::int64_t>(pid)});
  }
  std::vector<std::string> arguments;
  for (std::size_t i = 0; i < random.below(4); ++i) arguments.push_back(random.pick(words));
  auto event = make_exec(pid, random.pick(words), arguments);
  if (!before.empty() && random.one_in(3)) {
    event.process.key = before[random.below(before.size())].process.key;
    event.kind = random.one_in(2) ? event::EventKind::exit : event::EventKind::change;
  } else if (random.one_in(4)) {
    event.kind = event::EventKind::seen;
  }
  auto& process = event.process;
  if (random.one_in(9)) process.arguments.reset();
  process.executable_path = some_text(random);
  process.cwd = some_text(random);
  process.comm = some_text(random);
  process.user = some_text(random);
  process.container_id = some_text(random);
  event.parent_name = some_text(random);
  event.parent_command_line = some_text(random);
  process.uid = static_cast<std::uint32_t>(random.below(4));
  if (random.one_in(3)) process.executable_state = event::ExecutableState::deleted;
  if (!before.empty() && random.one_in(2)) process.parent_key = before[random.below(before.size())].process.key;
  return event;
}

// All of an alert but its random id.
std::string shown(const store::Writer::Raise& raise) {
  auto alert = raise.alert;
  alert.alert_id.clear();
  return store::to_json(alert) + alert.process_json + alert.dedup_key;
}

std::multiset<std::string> shown(const std::vector<store::Writer::Raise>& raises) {
  std::multiset<std::string> all;
  for (const auto& raise : raises) all.insert(shown(raise));
  return all;
}

std::uint64_t seeds() {
  const char* const more = std::getenv("DE_TEST_SEEDS");
  return more == nullptr ? 12 : std::strtoull(more, nullptr, 10);
}

TEST(Prefilter, GivesExactlyTheAlertsOfShowingEveryRowToEveryRule) {
  std::size_t alerts = 0, rows_shown = 0, rows_in_all = 0;
  for (std::uint64_t seed = 1; seed <= seeds(); ++seed) {
    Random random(seed);
    Rig rig;
    RuleSet set;
    for (int i = 0; set.rules.size() < 48; ++i) {
      const auto sql = statement(random);
      Rule rule;
      rule.id = std::string(i < 100 ? (i < 10 ? "r00" : "r0") : "r") + std::to_string(i);
      rule.title = "{{name}}";
      rule.sql = sql;
      auto compiled = sql::compile(sql);
      if (!compiled) continue;  // an expression too large, a pattern that is none
      ASSERT_EQ(compiled->not_streamable(), "") << sql;
      set.rules.push_back({std::move(rule), std::make_shared<const sql::Compiled>(*std::move(compiled))});
    }
    const auto rules = std::make_shared<const RuleSet>(std::move(set));
    RuleBoard filtered_board, plain_board;
    filtered_board.replace(*rules, {}, true);
    plain_board.replace(*rules, {}, true);
    auto one = sql::Connection::open(rig.options.store_path, "");
    auto other = sql::Connection::open(rig.options.store_path, "");
    ASSERT_TRUE(one && other);
    RuleLimits limits(0, {});
    const LiveLimits live(rig.options);
    Evaluator filtered(*std::move(one), rig.options, live, filtered_board, limits);
    Evaluator plain(*std::move(other), rig.options, live, plain_board, limits);
    filtered.use(rules, Prefilter::build(*rules, /*search=*/seed % 5 != 0));
    plain.use(rules);
    std::vector<event::ProcessEvent> all;
    event::Pid pid = 1;
    for (int batch = 0; batch < 5; ++batch) {
      std::vector<event::ProcessEvent> events;
      for (std::size_t i = 0; i < 1 + random.below(30); ++i) {
        events.push_back(random_event(random, ++pid, all));
        if (events.back().kind != event::EventKind::gap) all.push_back(events.back());
      }
      const auto commit = rig.commit(std::move(events));
      const auto stored = read_events(filtered.reader(), commit.first_event, commit.last_event, 1000);
      ASSERT_TRUE(stored);
      // As read back from the store, and as it was sent.
      event::BatchView sent;
      ASSERT_TRUE(commit.canonical && event::decode_batch(*commit.canonical, sent));
      const auto with = batch % 2 == 0 ? filtered.stream(*stored, commit.time, commit.time, {})
                                       : filtered.stream(sent, commit.first_event, commit.time, commit.time, {});
      const auto without = plain.stream(*stored, commit.time, commit.time, {});
      ASSERT_TRUE(with) << with.error().message;
      ASSERT_TRUE(without) << without.error().message;
      ASSERT_EQ(shown(*with), shown(*without)) << "seed " << seed;
      alerts += with->size();
      rows_in_all += stored->events.size() * rules->rules.size();
    }
    Engine::State state;
    filtered_board.describe(state);
    for (const auto& rule : state.rules) rows_shown += rule.candidates;
  }
  EXPECT_GT(alerts, 100 * seeds());
  EXPECT_LT(rows_shown * 2, rows_in_all) << "the prefilter filters little";
}

StoredEvents stored(std::vector<event::ProcessEvent> events) {
  StoredEvents all;
  for (auto& event : events) {
    all.events.push_back({static_cast<event::EventId>(all.events.size() + 1), std::move(event)});
  }
  return all;
}

RuleSet rules_of(const std::vector<std::string>& conditions) {
  RuleSet set;
  for (const auto& condition : conditions) {
    Rule rule;
    rule.id = "r" + std::to_string(set.rules.size());
    auto compiled = sql::compile("SELECT e.pid FROM process_events e WHERE " + condition);
    if (!compiled) ADD_FAILURE() << condition << ": " << compiled.error().message;
    set.rules.push_back({std::move(rule), std::make_shared<const sql::Compiled>(*std::move(compiled))});
  }
  return set;
}

std::string found(const Prefilter& prefilter, const StoredEvents& events) {
  Prefilter::Work work(prefilter);
  Candidates candidates;
  const auto outcome = prefilter.find(events.events, work, candidates);
  if (!outcome) return outcome.error().message;
  std::string out;
  for (const auto& of : candidates.rules) {
    out += (out.empty() ? "" : " ") + std::to_string(of.rule) + ":";
    for (const auto row : of.rows) out += std::to_string(row);
  }
  return out;
}

TEST(Prefilter, ShowsARuleOnlyRowsThatHoldWhatItNeeds) {
  const auto set = rules_of({"e.name = 'sh' AND e.command_line LIKE '%WGET%'", "e.name IN ('nc', 'sh')",
                             "e.command_line REGEXP '(?i)kill'", "e.uid = 0", "e.executable_path GLOB '/tmp/*'"});
  const auto events = stored({make_exec(1, "sh", {"sh", "-c", "wget x"}), make_exec(2, "sh", {"sh"}),
                              make_exec(3, "nc", {"nc", "\xe2\x84\xaaILL"}), make_exec(4, "wget", {"wget"})});
  const auto prefilter = Prefilter::build(set);
  EXPECT_EQ(found(*prefilter, events), "0:0 1:012 2:2");
  EXPECT_EQ(prefilter->unfiltered(), std::vector<std::uint32_t>{3});
  EXPECT_EQ(prefilter->problem(), "");
  // Without a search only whole values tell rules apart.
  const auto without = Prefilter::build(set, false);
  EXPECT_EQ(found(*without, events), "0:01 1:012");
  EXPECT_EQ(without->unfiltered(), (std::vector<std::uint32_t>{2, 3, 4}));
}

TEST(Prefilter, KnowsOnlyActiveStreamRules) {
  auto set = rules_of({"e.name = 'sh'", "e.name = 'sh'", "e.uid = 0"});
  set.rules[0].rule.status = RuleStatus::draft;
  set.rules[1].rule.evaluate = Rule::Evaluate{std::chrono::seconds(1), std::chrono::seconds(1)};
  set.rules[2].rule.status = RuleStatus::disabled;
  const auto prefilter = Prefilter::build(set);
  EXPECT_EQ(prefilter->literals(), 0U);
  EXPECT_TRUE(prefilter->unfiltered().empty());
}

TEST(Prefilter, SaysWhatItLooksForInWords) {
  const auto set = rules_of({"e.name IN ('sh', 'nc') AND e.command_line LIKE 'curl%'", "e.uid = 0"});
  EXPECT_EQ(literals_text(*set.rules[0].compiled),
            (std::vector<std::string>{"name = 'nc' or name = 'sh'", "command_line begins with 'curl' in any case"}));
  EXPECT_TRUE(literals_text(*set.rules[1].compiled).empty());
}

TEST(LiteralSet, FindsLiteralsWithTheirCaseAndPlace) {
  const auto set = LiteralSet::compile(
      {{"abc", false, false}, {"abc", true, false}, {"ab", false, true}, {std::string("a\0b", 3), false, false}});
  ASSERT_TRUE(set) << set.error().message;
  SearchSpace space;
  ASSERT_TRUE(set->fit(space));
  const auto in = [&](std::string_view text) {
    std::vector<std::uint32_t> found;
    EXPECT_TRUE(set->find(text, space, found));
    std::ranges::sort(found);
    return found;
  };
  using Found = std::vector<std::uint32_t>;
  EXPECT_EQ(in("xabcabc"), (Found{0, 1}));
  EXPECT_EQ(in("ABC"), Found{1});
  EXPECT_EQ(in("abab"), Found{2});
  EXPECT_EQ(in(std::string_view("xa\0b", 4)), Found{3});
  EXPECT_EQ(in(""), Found{});
}

}  // namespace
}  // namespace daemoneye::detect::testing
