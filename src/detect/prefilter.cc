#include "detect/prefilter.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "base/bytes.h"
#include "base/text.h"
#include "event/columns.h"
#include "event/event_codec.h"
#include "observe/log.h"

namespace daemoneye::detect {
namespace {

using event::Column;
using sql::NecessaryText;
using AtomId = std::uint32_t;
using Place = NecessaryText::Place;

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void lower_into(std::string_view text, std::string& out) {
  out.assign(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
}

// The characters beyond ASCII that a regular expression may fold to ASCII letters, written as those.
void fold_into(std::string_view text, std::string& out) {
  constexpr std::pair<std::string_view, char> folds[] = {
      {"\xc5\xbf", 's'}, {"\xe2\x84\xaa", 'k'}, {"\xc4\xb0", 'i'}};  // U+017F, U+212A, U+0130
  out.clear();
  for (std::size_t i = 0; i < text.size();) {
    const auto* const fold =
        std::ranges::find_if(folds, [&](const auto& one) { return text.substr(i).starts_with(one.first); });
    const bool folded = fold != std::end(folds);
    out += folded ? fold->second : text[i];
    i += folded ? fold->first.size() : 1;
  }
}

// What tells one value of the column from another, without making the value. Nothing when it is NULL, or when the
// value itself must be made.
struct Key {
  enum class Is : std::uint8_t { null, known, to_be_made } is = Is::to_be_made;
  std::string_view text;
};

template <class Text>
Key key_of(const std::optional<Text>& text) {
  return text ? Key{Key::Is::known, *text} : Key{Key::Is::null, {}};
}

std::string_view bytes_of(const event::Arguments& arguments) { return arguments.nul_terminated(); }
std::string_view bytes_of(const event::ArgumentsView& arguments) { return arguments.bytes; }

// Of a ProcessEvent and of an EventView.
template <class Event>
Key key_of(const Event& event, Column column) {
  switch (column) {
    case Column::kind: return {Key::Is::known, to_string(event.kind)};
    case Column::source: return {Key::Is::known, to_string(event.source)};
    default: break;
  }
  if (event.kind == event::EventKind::gap) return {};
  const auto& process = event.process;
  switch (column) {
    case Column::name: return process.name.empty() ? Key{Key::Is::null, {}} : Key{Key::Is::known, process.name};
    case Column::executable_path: return key_of(process.executable_path);
    case Column::cwd: return key_of(process.cwd);
    case Column::user: return key_of(process.user);
    case Column::comm: return key_of(process.comm);
    case Column::parent_name: return key_of(event.parent_name);
    case Column::parent_executable_path: return key_of(event.parent_executable_path);
    case Column::parent_command_line: return key_of(event.parent_command_line);
    case Column::command_line:
      return process.arguments ? Key{Key::Is::known, bytes_of(*process.arguments)} : Key{Key::Is::null, {}};
    default: return {};
  }
}

// Arguments::command_line() into the buffer that is there.
void join_into(std::string_view arguments, std::string& out) {
  out.assign(arguments.substr(0, arguments.empty() ? 0 : arguments.size() - 1));
  std::ranges::replace(out, '\0', ' ');
}

// What is searched: events read back from the store, or as they were sent.
struct WholeRows {
  const std::vector<StoredEvent>& events;

  [[nodiscard]] std::size_t size() const { return events.size(); }
  [[nodiscard]] const event::ProcessEvent& operator[](std::size_t row) const { return events[row].event; }
  [[nodiscard]] event::Value value(std::size_t row, Column column) const {
    return event::column_value(events[row].event, events[row].id, column);
  }
};

struct SentRows {
  const std::vector<event::EventView>& events;
  event::EventId first;

  [[nodiscard]] std::size_t size() const { return events.size(); }
  [[nodiscard]] const event::EventView& operator[](std::size_t row) const { return events[row]; }
  [[nodiscard]] event::Value value(std::size_t row, Column column) const {
    event::ProcessEvent whole;
    base::ByteReader in(events[row].bytes);
    // It was decoded before, or there would be no view of it.
    if (!event::decode_event(in, whole)) return {};
    return event::column_value(whole, first + static_cast<event::EventId>(row), column);
  }
};

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Wholes = std::unordered_map<std::string, std::vector<AtomId>, TextHash, std::equal_to<>>;

// The atoms of one column.
struct ColumnAtoms {
  Column column{};
  Wholes exact, any_case;
  std::optional<LiteralSet> search;
  std::vector<AtomId> searched;         // by literal of `search`
  std::vector<bool> searched_beyond;    // of it: counts beyond ASCII only
  std::vector<AtomId> in_beyond_ascii;  // in every value that is not ASCII
};

struct Range {
  std::uint32_t begin = 0, end = 0;
};

struct Filtered {
  std::uint32_t rule = 0;
  std::vector<std::vector<AtomId>> others;  // clauses beside the one that found it
};

}  // namespace

struct Prefilter::State {
  std::vector<ColumnAtoms> columns;
  std::size_t atoms = 0;
  std::vector<Filtered> rules;
  std::vector<std::vector<std::uint32_t>> found_by;  // atom -> places in `rules` whose rarest clause has it
  std::vector<std::uint32_t> unfiltered;
  std::string problem;
};

struct Prefilter::Work::State {
  SearchSpace space;
  Result<void> fitted;
  // Open addressing: places in `keys`, by the hash of a value of the column at hand.
  std::vector<std::uint32_t> table;
  std::vector<std::string_view> keys;
  std::vector<std::size_t> hashes;
  std::vector<Range> hits;                          // by key
  std::vector<std::vector<AtomId>> hit_atoms;       // by column; what `hits` are ranges of
  std::vector<std::vector<Range>> row_hits;         // by column, by row
  std::vector<std::uint64_t> atom_seen, rule_seen;  // the round in which it was last
  std::uint64_t round = 0;
  std::vector<std::uint32_t> found;
  std::vector<std::vector<std::uint32_t>> rows;  // by rule of the prefilter
  std::vector<std::uint32_t> touched;
  std::string value, folded;
};

namespace {

// What of a rule's clauses can be looked for.
std::vector<sql::NecessaryClause> usable(const LoadedRule& rule, bool search) {
  auto clauses = rule.compiled->necessary();
  if (search) return clauses;
  std::erase_if(clauses, [](const sql::NecessaryClause& clause) {
    return std::ranges::any_of(clause, [](const NecessaryText& one) { return one.place != Place::whole; });
  });
  return clauses;
}

}  // namespace

bool is_active_stream_rule(const LoadedRule& rule) {
  return rule.rule.status == RuleStatus::active && !rule.rule.evaluate;
}

bool is_active_scheduled_rule(const LoadedRule& rule) {
  return rule.rule.status == RuleStatus::active && rule.rule.evaluate.has_value();
}

Prefilter::Prefilter(std::unique_ptr<State> state) : state_(std::move(state)) {}
Prefilter::~Prefilter() = default;

Result<std::unique_ptr<Prefilter::State>> Prefilter::assemble(const RuleSet& rules, bool search) {
  auto state = std::make_unique<State>();
  std::map<NecessaryText, AtomId> ids;
  const auto id_of = [&](const NecessaryText& one) {
    return ids.emplace(one, static_cast<AtomId>(ids.size())).first->second;
  };
  const auto atoms_of = [&](const sql::NecessaryClause& clause) {
    std::vector<AtomId> atoms;
    for (const auto& one : clause) atoms.push_back(id_of(one));
    return atoms;
  };
  for (std::uint32_t place = 0; place < rules.rules.size(); ++place) {
    if (!is_active_stream_rule(rules.rules[place])) continue;
    const auto clauses = usable(rules.rules[place], search);
    if (clauses.empty()) {
      state->unfiltered.push_back(place);
      continue;
    }
    const auto number = static_cast<std::uint32_t>(state->rules.size());
    Filtered filtered{place, {}};
    for (std::size_t i = 1; i < clauses.size(); ++i) filtered.others.push_back(atoms_of(clauses[i]));
    const auto rarest = atoms_of(clauses.front());
    state->found_by.resize(ids.size());
    for (const auto atom : rarest) state->found_by[atom].push_back(number);
    state->rules.push_back(std::move(filtered));
  }
  state->atoms = ids.size();
  state->found_by.resize(ids.size());

  std::map<Column, std::vector<LiteralSet::Literal>> literals;
  std::map<Column, ColumnAtoms> columns;
  for (const auto& [one, id] : ids) {
    auto& of = columns[one.column];
    of.column = one.column;
    if (one.place == Place::whole) {
      (one.any_case ? of.any_case : of.exact)[one.text].push_back(id);
    } else if (one.text.empty()) {
      of.in_beyond_ascii.push_back(id);
    } else {
      literals[one.column].push_back({one.text, one.any_case, one.place == Place::begin});
      of.searched.push_back(id);
      of.searched_beyond.push_back(one.beyond_ascii);
    }
  }
  for (auto& [column, list] : literals) {
    DE_TRY(columns[column].search, LiteralSet::compile(list));
  }
  for (auto& [column, of] : columns) state->columns.push_back(std::move(of));
  return state;
}

std::shared_ptr<const Prefilter> Prefilter::build(const RuleSet& rules, bool search) {
  auto state = assemble(rules, search);
  if (!state) {
    // Slower, and just as exact. Without a search nothing can fail.
    std::string problem = state.error().message;
    observe::log(observe::Level::error, "detect", "rows cannot be searched for the texts of rules",
                 {{"error", std::string_view(problem)}});
    state = assemble(rules, false);
    (*state)->problem = "rows are not searched for the texts of rules: " + problem;
  }
  return std::shared_ptr<const Prefilter>(new Prefilter(*std::move(state)));
}

Prefilter::Work::Work(const Prefilter& prefilter) : state_(std::make_unique<State>()) {
  const auto& of = *prefilter.state_;
  state_->atom_seen.resize(of.atoms);
  state_->rule_seen.resize(of.rules.size());
  state_->rows.resize(of.rules.size());
  state_->hit_atoms.resize(of.columns.size());
  state_->row_hits.resize(of.columns.size());
  for (const auto& column : of.columns) {
    if (column.search && state_->fitted) state_->fitted = column.search->fit(state_->space);
  }
}

Prefilter::Work::~Work() = default;

namespace {

// The atoms that one value has.
Result<void> find_in_value(const ColumnAtoms& of, std::string_view value, SearchSpace& space,
                           std::vector<std::uint32_t>& found, std::string& buffer, std::vector<AtomId>& out) {
  if (!of.exact.empty()) {
    if (const auto same = of.exact.find(value); same != of.exact.end()) {
      out.insert(out.end(), same->second.begin(), same->second.end());
    }
  }
  if (!of.any_case.empty()) {
    lower_into(value, buffer);
    if (const auto same = of.any_case.find(buffer); same != of.any_case.end()) {
      out.insert(out.end(), same->second.begin(), same->second.end());
    }
  }
  if (!of.search && of.in_beyond_ascii.empty()) return {};
  const bool ascii = is_ascii(value);
  if (!ascii) out.insert(out.end(), of.in_beyond_ascii.begin(), of.in_beyond_ascii.end());
  if (!of.search) return {};
  if (!ascii) {
    fold_into(value, buffer);
    value = buffer;
  }
  found.clear();
  DE_CHECK(of.search->find(value, space, found));
  for (const auto literal : found) {
    if (!ascii || !of.searched_beyond[literal]) out.push_back(of.searched[literal]);
  }
  return {};
}

// Each distinct value of a column once.
class Distinct {
 public:
  Distinct(std::vector<std::uint32_t>& table, std::vector<std::string_view>& keys, std::vector<std::size_t>& hashes,
           std::size_t rows)
      : table_(table), keys_(keys), hashes_(hashes) {
    std::size_t size = 16;
    while (size < rows * 2) size *= 2;
    table_.assign(size, none);
    keys_.clear();
    hashes_.clear();
  }
  // Its number, and whether it is new.
  std::pair<std::uint32_t, bool> add(std::string_view key) {
    const std::size_t hash = std::hash<std::string_view>{}(key);
    const std::size_t mask = table_.size() - 1;
    for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
      auto& slot = table_[at];
      if (slot == none) {
        slot = static_cast<std::uint32_t>(keys_.size());
        keys_.push_back(key);
        hashes_.push_back(hash);
        return {slot, true};
      }
      if (hashes_[slot] == hash && keys_[slot] == key) return {slot, false};
    }
  }

 private:
  static constexpr std::uint32_t none = 0xffffffff;
  std::vector<std::uint32_t>& table_;
  std::vector<std::string_view>& keys_;
  std::vector<std::size_t>& hashes_;
};

}  // namespace

template <class Rows>
Result<void> Prefilter::find_in(const Rows& events, Work& work, Candidates& out) const {
  const State& self = *state_;
  auto& w = *work.state_;
  out.rules.clear();
  DE_CHECK(w.fitted);
  for (std::size_t c = 0; c < self.columns.size(); ++c) {
    const auto& of = self.columns[c];
    auto& atoms = w.hit_atoms[c];
    auto& rows = w.row_hits[c];
    atoms.clear();
    rows.assign(events.size(), {});
    w.hits.clear();
    Distinct distinct(w.table, w.keys, w.hashes, events.size());
    for (std::size_t row = 0; row < events.size(); ++row) {
      const auto& event = events[row];
      const Key key = key_of(event, of.column);
      if (key.is == Key::Is::null) continue;
      const auto begin = static_cast<std::uint32_t>(atoms.size());
      if (key.is == Key::Is::to_be_made) {
        const auto value = events.value(row, of.column);
        if (const auto* text = std::get_if<std::string>(&value)) {
          DE_CHECK(find_in_value(of, *text, w.space, w.found, w.folded, atoms));
          rows[row] = {begin, static_cast<std::uint32_t>(atoms.size())};
        }
        continue;
      }
      const auto [number, is_new] = distinct.add(key.text);
      if (is_new) {
        std::string_view value = key.text;
        if (of.column == Column::command_line) {
          join_into(key.text, w.value);
          value = w.value;
        }
        DE_CHECK(find_in_value(of, value, w.space, w.found, w.folded, atoms));
        w.hits.push_back({begin, static_cast<std::uint32_t>(atoms.size())});
      }
      rows[row] = w.hits[number];
    }
  }
  const auto seen = [&](const std::vector<AtomId>& clause) {
    return std::ranges::any_of(clause, [&](AtomId atom) { return w.atom_seen[atom] == w.round; });
  };
  w.touched.clear();
  for (std::uint32_t row = 0; row < events.size(); ++row) {
    ++w.round;
    const auto each_hit = [&](auto&& act) {
      for (std::size_t c = 0; c < self.columns.size(); ++c) {
        const Range range = w.row_hits[c][row];
        for (auto i = range.begin; i < range.end; ++i) act(w.hit_atoms[c][i]);
      }
    };
    each_hit([&](AtomId atom) { w.atom_seen[atom] = w.round; });
    each_hit([&](AtomId atom) {
      for (const auto number : self.found_by[atom]) {
        if (w.rule_seen[number] == w.round) continue;
        w.rule_seen[number] = w.round;
        if (!std::ranges::all_of(self.rules[number].others, seen)) continue;
        if (w.rows[number].empty()) w.touched.push_back(number);
        w.rows[number].push_back(row);
      }
    });
  }
  std::sort(w.touched.begin(), w.touched.end());
  for (const auto number : w.touched) {
    out.rules.push_back({self.rules[number].rule, w.rows[number]});
    w.rows[number].clear();
  }
  return {};
}

Result<void> Prefilter::find(const std::vector<StoredEvent>& events, Work& work, Candidates& out) const {
  return find_in(WholeRows{events}, work, out);
}

Result<void> Prefilter::find(const std::vector<event::EventView>& events, event::EventId first, Work& work,
                             Candidates& out) const {
  return find_in(SentRows{events, first}, work, out);
}

const std::vector<std::uint32_t>& Prefilter::unfiltered() const { return state_->unfiltered; }
const std::string& Prefilter::problem() const { return state_->problem; }
std::size_t Prefilter::literals() const { return state_->atoms; }

std::size_t Prefilter::bytes() const {
  std::size_t sum = 0;
  for (const auto& column : state_->columns) {
    if (column.search) sum += column.search->bytes();
  }
  constexpr std::size_t about_an_atom = 160, about_a_rule = 200;
  return sum + state_->atoms * about_an_atom + state_->rules.size() * about_a_rule;
}

std::vector<std::string> literals_text(const sql::Compiled& compiled) {
  std::vector<std::string> lines;
  for (const auto& clause : compiled.necessary()) {
    std::string line;
    for (const auto& one : clause) {
      if (!line.empty()) line += " or ";
      line += event::info(one.column).name;
      if (one.text.empty()) {
        line += " has a character beyond ASCII";
        continue;
      }
      const auto quoted = "'" + base::printable(one.text) + "'";
      switch (one.place) {
        case Place::whole: line += " = "; break;
        case Place::begin: line += " begins with "; break;
        case Place::anywhere: line += " contains "; break;
      }
      line += quoted;
      if (one.any_case) line += " in any case";
      if (one.beyond_ascii) line += " and a character beyond ASCII";
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace daemoneye::detect
