#include "store/time_ordered_scan.h"

#include <algorithm>
#include <numeric>

namespace daemoneye::store {

Result<std::unique_ptr<TimeOrderedScan>> TimeOrderedScan::open(Reader& reader, ScanRequest request,
                                                               Reader::ShouldStop stop) {
  std::unique_ptr<TimeOrderedScan> scan(new TimeOrderedScan(reader, std::move(request), std::move(stop)));
  DE_TRY(scan->places_, reader.places(scan->request_));
  if (scan->request_.newest_first)
    std::ranges::sort(scan->places_, [](const auto& a, const auto& b) {
      return std::pair(a.last_time, a.first_event) > std::pair(b.last_time, b.first_event);
    });
  else
    std::ranges::sort(scan->places_, [](const auto& a, const auto& b) {
      return std::pair(a.first_time, a.first_event) < std::pair(b.first_time, b.first_event);
    });
  return scan;
}

bool TimeOrderedScan::is_before(const Open& one, const Open& other) const {
  const auto first = std::pair(one.time(), one.id()), second = std::pair(other.time(), other.id());
  return request_.newest_first ? first > second : first < second;
}

bool TimeOrderedScan::may_be_before(const Reader::Place& place) const {
  const auto time = open_[best_]->time();
  return request_.newest_first ? place.last_time.ns >= time : place.first_time.ns <= time;
}

void TimeOrderedScan::choose() {
  best_ = 0;
  for (std::size_t i = 1; i < open_.size(); ++i) {
    if (is_before(*open_[i], *open_[best_])) best_ = i;
  }
}

Result<bool> TimeOrderedScan::next() {
  if (begun_ && !open_.empty() && ++open_[best_]->next == open_[best_]->order.size()) {
    add(open_[best_]->scan->stats());
    open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(best_));
  }
  begun_ = true;
  choose();
  while (next_place_ < places_.size() && (open_.empty() || may_be_before(places_[next_place_]))) {
    if (stop_ && stop_()) return fail(Errc::cancelled, "the scan was stopped");
    DE_CHECK(open_place(places_[next_place_++]));
    choose();
  }
  if (open_.empty()) return false;
  auto& best = *open_[best_];
  best.scan->go_to(best.order[best.next]);
  return true;
}

Result<void> TimeOrderedScan::open_place(const Reader::Place& place) {
  auto wanted = request_;
  wanted.first_event = std::max(request_.first_event.value_or(place.first_event), place.first_event);
  wanted.last_event = std::min(request_.last_event.value_or(place.last_event), place.last_event);
  wanted.newest_first = false;
  auto opened = std::make_unique<Open>();
  DE_TRY(opened->scan, reader_.scan(wanted, stop_));
  auto& scan = *opened->scan;
  DE_TRY(const bool found, scan.next_block());
  if (found) {
    const auto times = scan.integers(event::Column::time);
    if (times) {
      opened->times = times->values;
    } else if (times.error().code == Errc::corrupt) {
      scan.leave_damaged_block();
    } else {
      return std::unexpected(times.error());
    }
  }
  if (opened->times == nullptr) {
    add(scan.stats());
    return {};
  }
  const auto rows = scan.rows();
  opened->order.resize(rows.size());
  std::iota(opened->order.begin(), opened->order.end(), 0U);
  const auto* const times = opened->times;
  const bool newest_first = request_.newest_first;
  std::ranges::sort(opened->order, [&](std::uint32_t a, std::uint32_t b) {
    const auto first = std::pair(times[rows[a]], rows[a]), second = std::pair(times[rows[b]], rows[b]);
    return newest_first ? first > second : first < second;
  });
  open_.push_back(std::move(opened));
  return {};
}

void TimeOrderedScan::add(const ScanStats& stats) {
  closed_.blocks_read += stats.blocks_read;
  closed_.blocks_skipped += stats.blocks_skipped;
  closed_.tail_batches_read += stats.tail_batches_read;
  closed_.rows += stats.rows;
  closed_.damage.insert(closed_.damage.end(), stats.damage.begin(), stats.damage.end());
}

ScanStats TimeOrderedScan::stats() const {
  TimeOrderedScan sum(reader_, {}, {});
  sum.add(closed_);
  for (const auto& one : open_) sum.add(one->scan->stats());
  return sum.closed_;
}

}  // namespace daemoneye::store
