// Groups of events counted a column at a time: from the dictionaries of the blocks, without a value being made for each
// row, and from their headers alone where those say it all.
#pragma once

#include <memory>
#include <vector>

#include "store/reader.h"

namespace daemoneye::store {

struct GroupRequest {
  event::TimeRange time;
  std::optional<event::EventId> first_event, last_event;  // both inclusive
  std::vector<predicate::Condition> conditions;           // all must hold; applied exactly
  std::vector<event::Column> by;                          // of texts and integers
  std::vector<event::Column> extremes;                    // of integers and reals: their least and most in each group
  // Each group is given once, and the events are read again for the rest of the groups when they do not fit in the
  // memory. Otherwise a group may come several times, each time with a part of its events.
  bool whole = false;
  std::size_t max_bytes = 16 * 1024 * 1024;
};

class GroupScan {
 public:
  // As Reader::scan(); must end before the reader does.
  static Result<std::unique_ptr<GroupScan>> open(Reader& reader, GroupRequest request, Reader::ShouldStop stop);
  ~GroupScan();

  // To the next group; false at the end. limit_exceeded when not even a 4096th of the groups fits in the memory.
  Result<bool> next();
  [[nodiscard]] std::uint64_t count() const;               // of events; at least one
  [[nodiscard]] ValueView by(std::size_t place) const;     // valid until next() is called again
  [[nodiscard]] ValueView least(std::size_t place) const;  // of extremes; NULL when all are
  [[nodiscard]] ValueView most(std::size_t place) const;
  [[nodiscard]] ScanStats stats() const;
  [[nodiscard]] std::size_t bytes() const;  // taken for the groups now

 private:
  struct Impl;
  explicit GroupScan(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace daemoneye::store
