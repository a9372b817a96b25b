#include "store/scan_conditions.h"

#include <algorithm>

namespace daemoneye::store {
namespace {

using predicate::Operator;

bool is_equality(const predicate::Condition& condition) {
  return !condition.negated && (condition.op == Operator::equal || condition.op == Operator::in);
}

// Nothing when a value is of another type than the column's.
std::optional<std::vector<std::uint64_t>> hashes_of(const predicate::Condition& condition) {
  std::vector<std::uint64_t> hashes;
  hashes.reserve(condition.values.size());
  for (const auto& value : condition.values) {
    const auto hash = condition_hash(condition.column, value);
    if (!hash) return std::nullopt;
    hashes.push_back(*hash);
  }
  return hashes;
}

std::optional<KeySet> keys_of(const predicate::Condition& condition) {
  KeySet keys;
  for (const auto& value : condition.values) {
    const auto* const text = std::get_if<std::string>(&value);
    if (text == nullptr) return std::nullopt;
    const auto key = event::parse_process_key(*text);
    // Another spelling of a key is another text, and text that is no key equals none.
    if (key && event::to_string(*key) == *text) keys.insert(*key);
  }
  return keys;
}

}  // namespace

ScanConditions::ScanConditions(const predicate::Predicate& predicate) : predicate_(&predicate) {
  for (const auto& condition : predicate.conditions()) {
    One one;
    if (is_equality(condition)) {
      if (encoding_of(condition.column) == Encoding::key) one.keys = keys_of(condition);
      if (one.keys) {
        one.wanted = Wanted{condition.column, {}};
        for (const auto& key : *one.keys) one.wanted->hashes.push_back(filter_hash(key));
      } else if (is_filtered(condition.column)) {
        if (auto hashes = hashes_of(condition)) one.wanted = Wanted{condition.column, *std::move(hashes)};
      }
    }
    of_.push_back(std::move(one));
  }
}

bool ScanConditions::may_match(const BlockHeader& header) const {
  for (std::size_t i = 0; i < of_.size(); ++i) {
    if (!header.may_be_in_range(predicate_->conditions()[i])) return false;
    const auto& wanted = of_[i].wanted;
    if (!wanted) continue;
    const auto& filter = header.filters[static_cast<std::size_t>(wanted->column)];
    if (!filter) continue;
    if (std::ranges::none_of(wanted->hashes, [&](std::uint64_t hash) { return filter->may_hold(hash); })) return false;
  }
  return true;
}

bool ScanConditions::may_match(const event::ProcessKey& own, const std::optional<event::ProcessKey>& parent) const {
  for (std::size_t i = 0; i < of_.size(); ++i) {
    const auto& keys = of_[i].keys;
    if (!keys) continue;
    const bool is_parent = predicate_->conditions()[i].column == event::Column::parent_key;
    if (is_parent ? !parent || !keys->contains(*parent) : !keys->contains(own)) return false;
  }
  return true;
}

}  // namespace daemoneye::store
