// Which living processes have other counters than before: cpu_usage, memory_usage and status change with each scan, and
// no event tells of it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "detect/stored_events.h"
#include "store/reader.h"
#include "store/writer.h"

namespace daemoneye::detect {

using CounterSet = std::uint8_t;
inline constexpr CounterSet cpu_counter = 1, memory_counter = 2, status_counter = 4;
// Those that decide for which rows of `processes` a statement gives something, as a stream; 0: none.
CounterSet counters_of(const sql::Compiled& statement);

// One thread at a time. Keeps about 100 bytes a living process.
class LiveChanges {
 public:
  // What changed of one chunk of processes. `events` stand for the processes as they are now; their ids only number
  // them.
  struct Chunk {
    StoredEvents events;
    std::vector<CounterSet> changed;  // by event
    bool last = false;

   private:
    friend class LiveChanges;
    std::vector<std::pair<event::ProcessKey, store::Reader::Counters>> now;
    std::optional<event::ProcessKey> end;
  };

  // What is there now counts as known.
  Result<void> begin(store::Reader& reader);
  // All of a look happens on one snapshot of the reader, from the first chunk to the last; of what changed, those of
  // `wanted` are given. A process that was not there before is compared with what its last event told.
  Result<Chunk> next(store::Reader& reader, CounterSet wanted, std::size_t limit);
  // This chunk was evaluated. One that was not is given again by the next look, which begin_look() begins.
  void take(Chunk&& chunk);
  void begin_look();
  void forget() { known_.clear(); }

 private:
  struct Known {
    store::Reader::Counters counters;
    std::uint32_t look = 0;  // in which it was there last
  };
  std::unordered_map<event::ProcessKey, Known> known_;
  std::uint32_t look_ = 0;
  std::optional<event::ProcessKey> place_;  // the last one of the chunk before
};

// Up to which scan the counters were evaluated, kept in the store with the alerts that came of it; empty: never, and
// when written: as before.
Result<std::string> read_counters_mark(store::Reader& reader);
void write_counters_mark(store::Writer& writer, std::vector<store::Writer::Raise> raises, std::string mark,
                         std::function<void(Result<std::vector<store::RaiseResult>>)> done);

}  // namespace daemoneye::detect
