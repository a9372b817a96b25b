// The writers of one column each; private to block_builder.cc. Layouts: block_format.h, docs/formats/store.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "store/block_header.h"
#include "store/column_data.h"
#include "store/entry_table.h"

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
  template <class T>
  void add(const std::optional<T>& value) {
    presence_.add(value.has_value());
    if (value) put(static_cast<std::int64_t>(*value), before_);
  }
  void add_difference(std::optional<std::int64_t> value, std::int64_t base) {
    presence_.add(value.has_value());
    if (value) put(*value, base);
  }
  [[nodiscard]] const IntegerRange& range() const { return range_; }
  std::string finish() const {
    std::string out;
    presence_.finish(out);
    return out + differences_;
  }

 private:
  void put(std::int64_t value, std::int64_t from) {
    base::ByteWriter(differences_)
        .zigzag(static_cast<std::int64_t>(static_cast<std::uint64_t>(value) - static_cast<std::uint64_t>(from)));
    before_ = value;
    range_.add(value);
  }
  PresenceWriter presence_;
  std::string differences_;
  IntegerRange range_;
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

// Numbers texts in order of first appearance.
class TextWriter {
 public:
  // The entry's number, or null_entry. `likely` is what it may well be: the same process had it in its last row. Then
  // nothing need be hashed or looked for.
  std::uint32_t add(std::optional<std::string_view> value, std::uint32_t likely = null_entry) {
    base::ByteWriter codes(codes_);
    if (!value) {
      codes.varint(code_null);
      return null_entry;
    }
    if (likely != null_entry && text(likely) == *value) {
      codes.varint(code_first + likely);
      return likely;
    }
    const std::uint64_t hash = filter_hash(*value);
    const auto next = static_cast<std::uint32_t>(hashes_.size());
    const std::uint32_t entry = table_.find_or_add(hash, next, [&](std::uint32_t at) { return text(at) == *value; });
    if (entry != next) {
      codes.varint(code_first + entry);
      return entry;
    }
    hashes_.push_back(hash);
    ends_.push_back(texts_.size() + value->size());
    texts_.append(*value);
    codes.varint(code_next);
    return entry;
  }
  [[nodiscard]] std::size_t size() const { return hashes_.size(); }
  [[nodiscard]] std::string_view text(std::size_t entry) const {
    const std::size_t begin = entry == 0 ? 0 : ends_[entry - 1];
    return std::string_view(texts_).substr(begin, ends_[entry] - begin);
  }
  // Of the entries, as they are added.
  [[nodiscard]] const std::vector<std::uint64_t>& hashes() const { return hashes_; }
  // `shown` is what an entry is stored as.
  template <class Shown>
  std::string finish(Shown shown) const {
    std::string out;
    out.reserve(texts_.size() + hashes_.size() * 4 + codes_.size() + 10);
    base::ByteWriter writer(out);
    writer.varint(hashes_.size());
    for (std::size_t entry = 0; entry < hashes_.size(); ++entry) {
      writer.bytes(shown(text(entry)));
      writer.u8(0);
    }
    writer.raw(codes_);
    return out;
  }

 private:
  EntryTable table_;
  std::string texts_, codes_;
  std::vector<std::uint64_t> hashes_;
  std::vector<std::size_t> ends_;
};

class KeyWriter {
 public:
  // The entry's number, or null_entry.
  std::uint32_t add(const std::optional<event::ProcessKey>& key) {
    base::ByteWriter codes(codes_);
    if (!key) {
      codes.varint(code_null);
      return null_entry;
    }
    const auto next = static_cast<std::uint32_t>(order_.size());
    const std::uint32_t entry = table_.find_or_add(std::hash<event::ProcessKey>()(*key), next,
                                                   [&](std::uint32_t at) { return order_[at] == *key; });
    if (entry != next) {
      codes.varint(code_first + entry);
      return entry;
    }
    order_.push_back(*key);
    codes.varint(code_next);
    return entry;
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
  EntryTable table_;
  std::string codes_;
  std::vector<event::ProcessKey> order_;
};

}  // namespace daemoneye::store
