#include "store/filter_cache.h"

#include <algorithm>

namespace daemoneye::store {

bool FilterCache::may_match(std::int64_t block, event::EventId first_event, const ScanConditions& conditions) const {
  if (filters_.empty()) return true;
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    const auto& wanted = conditions.wanted(i);
    if (!wanted) continue;
    const auto known = filters_.find({block, first_event, wanted->column});
    if (known == filters_.end()) continue;
    if (std::ranges::none_of(wanted->hashes, [&](std::uint64_t hash) { return known->second.may_hold(hash); }))
      return false;
  }
  return true;
}

void FilterCache::keep(std::int64_t block, event::EventId first_event, const BlockHeader& header,
                       const ScanConditions& conditions) {
  constexpr std::size_t bytes_of_entry = 96;
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    const auto& wanted = conditions.wanted(i);
    if (!wanted) continue;
    const auto& filter = header.filters[static_cast<std::size_t>(wanted->column)];
    if (!filter) continue;
    const std::size_t size = filter->bits().size() + bytes_of_entry;
    const Key key{block, first_event, wanted->column};
    if (filters_.contains(key)) continue;
    while (bytes_ + size > max_bytes && !filters_.empty() && filters_.begin()->first < key) {
      bytes_ -= filters_.begin()->second.bits().size() + bytes_of_entry;
      filters_.erase(filters_.begin());
    }
    if (bytes_ + size > max_bytes) return;
    filters_.emplace(key, *filter);
    bytes_ += size;
  }
}

}  // namespace daemoneye::store
