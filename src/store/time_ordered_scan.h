// Events in the order of their times. The store keeps them in the order of commit, which is nearly the same: late
// batches and several sources make neighbouring blocks overlap. So the blocks whose times overlap are read side by
// side, and what lies beyond is not read before it is asked for.
#pragma once

#include <memory>
#include <vector>

#include "store/reader.h"

namespace daemoneye::store {

// More than so many blocks at once are not held decoded: then sorting is the better way.
inline constexpr std::size_t max_overlapping_places = 8;

class TimeOrderedScan {
 public:
  // As Reader::scan(), by time and event id, both from the newest when the request says so. Only where
  // Reader::overlapping_places() is not above max_overlapping_places.
  static Result<std::unique_ptr<TimeOrderedScan>> open(Reader& reader, ScanRequest request, Reader::ShouldStop stop);

  Result<bool> next();
  // The scan that stands on the row of next().
  [[nodiscard]] EventScan& at() const { return *open_[best_]->scan; }
  [[nodiscard]] ScanStats stats() const;

 private:
  struct Open {
    std::unique_ptr<EventScan> scan;
    std::vector<std::uint32_t> order;  // places in its rows, by time
    std::size_t next = 0;
    const std::int64_t* times = nullptr;

    [[nodiscard]] std::int64_t time() const { return times[scan->rows()[order[next]]]; }
    [[nodiscard]] event::EventId id() const { return scan->first_event() + scan->rows()[order[next]]; }
  };
  TimeOrderedScan(Reader& reader, ScanRequest request, Reader::ShouldStop stop)
      : reader_(reader), request_(std::move(request)), stop_(std::move(stop)) {}
  Result<void> open_place(const Reader::Place& place);
  void choose();
  [[nodiscard]] bool is_before(const Open& one, const Open& other) const;
  [[nodiscard]] bool may_be_before(const Reader::Place& place) const;
  void add(const ScanStats& stats);

  Reader& reader_;
  ScanRequest request_;
  Reader::ShouldStop stop_;
  std::vector<Reader::Place> places_;  // in the order they are opened
  std::size_t next_place_ = 0;
  std::vector<std::unique_ptr<Open>> open_;
  std::size_t best_ = 0;
  bool begun_ = false;
  ScanStats closed_;  // of those that are behind
};

}  // namespace daemoneye::store
