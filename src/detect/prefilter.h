// Which rows of a batch can matter to which stream rules, from the texts that each rule needs to find in a row. What it
// leaves out would give nothing; what it lets through the rule's own statement decides. docs/adr/0016 says why.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "detect/literal_set.h"
#include "detect/rule.h"
#include "detect/stored_events.h"
#include "event/event_view.h"

namespace daemoneye::detect {

// Rules by their places in the RuleSet, rows by their places in the batch; both ascending.
struct Candidates {
  struct OfRule {
    std::uint32_t rule = 0;
    std::vector<std::uint32_t> rows;
  };
  std::vector<OfRule> rules;  // those with rows
};

// Compiled from the active stream rules of a set; immutable and thread-safe.
class Prefilter {
 public:
  // Without `search`: as on a processor that cannot run Vectorscan.
  static std::shared_ptr<const Prefilter> build(const RuleSet& rules, bool search = true);
  ~Prefilter();

  // What one thread needs beside it; used again batch by batch.
  class Work {
   public:
    explicit Work(const Prefilter& prefilter);
    ~Work();

   private:
    friend class Prefilter;
    struct State;
    std::unique_ptr<State> state_;
  };
  // An error is Vectorscan's own; then nothing was left out rightly, and every rule must see every row.
  [[nodiscard]] Result<void> find(const std::vector<StoredEvent>& events, Work& work, Candidates& out) const;
  // The same of events as they were sent, the first of which has this id.
  [[nodiscard]] Result<void> find(const std::vector<event::EventView>& events, event::EventId first, Work& work,
                                  Candidates& out) const;

  // Rules of which nothing is known: every row is shown to them. Places in the set.
  [[nodiscard]] const std::vector<std::uint32_t>& unfiltered() const;
  // Why texts are not searched for; empty when they are.
  [[nodiscard]] const std::string& problem() const;
  [[nodiscard]] std::size_t literals() const;
  [[nodiscard]] std::size_t bytes() const;  // about what it takes of memory

 private:
  struct State;
  static Result<std::unique_ptr<State>> assemble(const RuleSet& rules, bool search);
  explicit Prefilter(std::unique_ptr<State> state);
  template <class Rows>
  Result<void> find_in(const Rows& rows, Work& work, Candidates& out) const;
  std::unique_ptr<const State> state_;
};

bool is_active_stream_rule(const LoadedRule& rule);
bool is_active_scheduled_rule(const LoadedRule& rule);

// What is looked for, for people: a line a clause, "name = 'sh' or name = 'bash'", of which each must hold. Empty:
// nothing, every row is shown to the statement.
std::vector<std::string> literals_text(const sql::Compiled& compiled);

}  // namespace daemoneye::detect
