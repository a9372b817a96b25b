// The writers of one column each; private to block_builder.cc. Layouts: block_format.h, docs/formats/store.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "store/block_format.h"

namespace daemoneye::store {

class PresenceWriter {
 public:
  void add(bool present) {
    if (rows_ % 8 == 0) bits_.push_back('\0');
    if (present) {
      bits_.back() = static_cast<char>(static_cast<unsigned char>(bits_.back()) | 1U << (rows_ % 8));
      ++present_;
    }
    ++rows_;
  }
  void finish(std::string& out) const {
    base::ByteWriter writer(out);
    const auto kind = present_ == 0 ? Presence::none : present_ == rows_ ? Presence::all : Presence::bitmap;
    writer.u8(static_cast<std::uint8_t>(kind));
    if (kind == Presence::bitmap) writer.raw(bits_);
  }

 private:
  std::string bits_;
  std::size_t rows_ = 0, present_ = 0;
};

// Differences wrap, so that any two values have one.
class IntegerWriter {
 public:
  void add(std::optional<std::int64_t> value, std::optional<std::int64_t> base = std::nullopt) {
    presence_.add(value.has_value());
    if (!value) return;
    const auto from = static_cast<std::uint64_t>(base ? *base : before_);
    base::ByteWriter(differences_).zigzag(static_cast<std::int64_t>(static_cast<std::uint64_t>(*value) - from));
    before_ = *value;
  }
  std::string finish() const {
    std::string out;
    presence_.finish(out);
    return out + differences_;
  }

 private:
  PresenceWriter presence_;
  std::string differences_;
  std::int64_t before_ = 0;
};

class RealWriter {
 public:
  void add(std::optional<double> value) {
    presence_.add(value.has_value());
    if (value) base::ByteWriter(values_).f64(*value);
  }
  std::string finish() const {
    std::string out;
    presence_.finish(out);
    return out + values_;
  }

 private:
  PresenceWriter presence_;
  std::string values_;
};

// Numbers texts in order of first appearance. Open addressing over hashes: one allocation a growth, none a value.
class TextWriter {
 public:
  void add(std::optional<std::string_view> value) {
    base::ByteWriter codes(codes_);
    if (!value) return codes.varint(code_null);
    if ((hashes_.size() + 1) * 2 > slots_.size()) grow();
    const std::uint64_t hash = filter_hash(*value);
    std::size_t slot = static_cast<std::size_t>(hash) & (slots_.size() - 1);
    for (; slots_[slot] != 0; slot = (slot + 1) & (slots_.size() - 1)) {
      const std::uint32_t entry = slots_[slot] - 1;
      if (hashes_[entry] == hash && text(entry) == *value) return codes.varint(code_first + entry);
    }
    slots_[slot] = static_cast<std::uint32_t>(hashes_.size() + 1);
    hashes_.push_back(hash);
    base::ByteWriter entries(entries_);
    entries.varint(value->size());
    places_.push_back({entries_.size(), value->size()});
    entries.raw(*value);
    entries.u8(0);
    codes.varint(code_next);
  }
  [[nodiscard]] const std::vector<std::uint64_t>& hashes() const { return hashes_; }
  std::string finish() const {
    std::string out;
    out.reserve(entries_.size() + codes_.size() + 10);
    base::ByteWriter writer(out);
    writer.varint(hashes_.size());
    writer.raw(entries_);
    writer.raw(codes_);
    return out;
  }

 private:
  struct Place {
    std::size_t offset, size;
  };
  [[nodiscard]] std::string_view text(std::uint32_t entry) const {
    return std::string_view(entries_).substr(places_[entry].offset, places_[entry].size);
  }
  void grow() {
    slots_.assign(std::max<std::size_t>(64, slots_.size() * 2), 0);
    for (std::size_t entry = 0; entry < hashes_.size(); ++entry) {
      std::size_t slot = static_cast<std::size_t>(hashes_[entry]) & (slots_.size() - 1);
      while (slots_[slot] != 0) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = static_cast<std::uint32_t>(entry + 1);
    }
  }
  std::string entries_, codes_;
  std::vector<std::uint64_t> hashes_;
  std::vector<Place> places_;
  std::vector<std::uint32_t> slots_;  // entry number + 1; 0: free
};

class KeyWriter {
 public:
  void add(const std::optional<event::ProcessKey>& key) {
    base::ByteWriter codes(codes_);
    if (!key) return codes.varint(code_null);
    const auto [found, inserted] = entries_.try_emplace(*key, static_cast<std::uint32_t>(order_.size()));
    if (!inserted) return codes.varint(code_first + found->second);
    order_.push_back(*key);
    codes.varint(code_next);
  }
  [[nodiscard]] const std::vector<event::ProcessKey>& keys() const { return order_; }
  std::string finish() const {
    std::vector<event::BootId> boots;
    std::string entries;
    base::ByteWriter writer(entries);
    std::uint64_t ticks = 0;
    for (const auto& key : order_) {
      auto boot = std::find(boots.begin(), boots.end(), key.boot);
      if (boot == boots.end()) boot = boots.insert(boot, key.boot);
      writer.varint(static_cast<std::uint64_t>(boot - boots.begin()));
      writer.varint(key.pid);
      writer.zigzag(static_cast<std::int64_t>(key.start_ticks - ticks));
      ticks = key.start_ticks;
    }
    std::string out;
    base::ByteWriter head(out);
    head.varint(boots.size());
    for (const auto& boot : boots) head.raw({reinterpret_cast<const char*>(boot.data()), boot.size()});
    head.varint(order_.size());
    head.raw(entries);
    head.raw(codes_);
    return out;
  }

 private:
  std::string codes_;
  std::unordered_map<event::ProcessKey, std::uint32_t> entries_;
  std::vector<event::ProcessKey> order_;
};

}  // namespace daemoneye::store
