// Digests by file, the least recently used forgotten first. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <unordered_map>
#include <utility>

#include "sensor/source.h"

namespace daemoneye::sensor {

struct FileIdentityHash {
  std::size_t operator()(const FileIdentity& file) const noexcept {
    std::uint64_t mixed = 0;
    for (const std::uint64_t part : {file.device, file.inode, file.size, static_cast<std::uint64_t>(file.mtime_ns),
                                     static_cast<std::uint64_t>(file.ctime_ns)}) {
      mixed = (mixed ^ part) * 0x9e3779b97f4a7c15ULL;
      mixed ^= mixed >> 29;
    }
    return static_cast<std::size_t>(mixed);
  }
};

// `Hash` and `Equal` may be transparent: then find() takes whatever they take.
template <class Key, class Value, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>>
class LruMap {
 public:
  explicit LruMap(std::size_t capacity) : capacity_(capacity == 0 ? 1 : capacity) {}

  // Null when unknown. Valid until the next put().
  template <class Like>
  [[nodiscard]] const Value* find(const Like& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return &found->second->second;
  }
  void put(const Key& key, Value value) {
    if (const auto found = index_.find(key); found != index_.end()) {
      found->second->second = std::move(value);
      order_.splice(order_.begin(), order_, found->second);
      return;
    }
    if (index_.size() >= capacity_) {
      index_.erase(order_.back().first);
      order_.pop_back();
      ++evictions_;
    }
    order_.emplace_front(key, std::move(value));
    index_.emplace(key, order_.begin());
  }
  [[nodiscard]] std::size_t size() const { return index_.size(); }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  [[nodiscard]] std::uint64_t evictions() const { return evictions_; }

 private:
  using Order = std::list<std::pair<Key, Value>>;  // most recently used first
  std::size_t capacity_;
  Order order_;
  std::unordered_map<Key, typename Order::iterator, Hash, Equal> index_;
  std::uint64_t evictions_ = 0;
};

}  // namespace daemoneye::sensor
