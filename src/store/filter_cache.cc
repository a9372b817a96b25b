#include "store/filter_cache.h"

#include <algorithm>

namespace daemoneye::store {
namespace {

bool is_equality(const predicate::Condition& condition) {
  return !condition.negated && is_filtered(condition.column) &&
         (condition.op == predicate::Operator::equal || condition.op == predicate::Operator::in);
}

}  // namespace

bool FilterCache::may_match(std::int64_t block, event::EventId first_event,
                            std::span<const predicate::Condition> conditions) const {
  if (filters_.empty()) return true;
  return std::ranges::all_of(conditions, [&](const predicate::Condition& condition) {
    if (!is_equality(condition)) return true;
    const auto known = filters_.find({block, first_event, condition.column});
    return known == filters_.end() || std::ranges::any_of(condition.values, [&](const event::Value& value) {
             const auto hash = condition_hash(condition.column, value);
             return !hash || known->second.may_hold(*hash);
           });
  });
}

void FilterCache::keep(std::int64_t block, event::EventId first_event, const BlockHeader& header,
                       std::span<const predicate::Condition> conditions) {
  constexpr std::size_t bytes_of_entry = 96;
  for (const auto& condition : conditions) {
    const auto& filter = header.filters[static_cast<std::size_t>(condition.column)];
    if (!is_equality(condition) || !filter) continue;
    const std::size_t size = filter->bits().size() + bytes_of_entry;
    const Key key{block, first_event, condition.column};
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
