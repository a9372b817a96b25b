#include "store/filter_cache.h"

#include <algorithm>

namespace daemoneye::store {
namespace {

constexpr std::size_t bytes_of_entry = 96;

}  // namespace

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

std::optional<BlockHeader> FilterCache::header(std::int64_t block, event::EventId first_event,
                                               const ScanConditions& conditions) const {
  const auto known = headers_.find({block, first_event});
  if (known == headers_.end()) return std::nullopt;
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    const auto& wanted = conditions.wanted(i);
    if (wanted && !filters_.contains({block, first_event, wanted->column})) return std::nullopt;
  }
  auto header = decode_header(known->second);
  if (!header) return std::nullopt;
  header->filters = {};
  return *std::move(header);
}

void FilterCache::keep_rest(std::int64_t block, event::EventId first_event, BlockHeader header) {
  header.filters = {};
  auto body = encode_header(header);
  const std::size_t size = body.size() + bytes_of_entry;
  const std::pair key{block, first_event};
  if (headers_.contains(key)) return;
  while (header_bytes_ + size > max_header_bytes && !headers_.empty() && headers_.begin()->first < key) {
    header_bytes_ -= headers_.begin()->second.size() + bytes_of_entry;
    headers_.erase(headers_.begin());
  }
  if (header_bytes_ + size > max_header_bytes) return;
  headers_.emplace(key, std::move(body));
  header_bytes_ += size;
}

void FilterCache::keep(std::int64_t block, event::EventId first_event, const BlockHeader& header,
                       const ScanConditions& conditions) {
  keep_rest(block, first_event, header);
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
