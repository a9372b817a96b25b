#include "store/column_codes.h"

#include <algorithm>
#include <bit>
#include <string>

#include "store/varints.h"

namespace daemoneye::store {
namespace {

// A bit in the place of each byte that is 0.
std::uint64_t zeros_in(std::uint64_t word) { return ~(((word & low_bits) + low_bits) | word) & top_bits; }
std::size_t count_bits(std::uint64_t of_bytes) {
  return static_cast<std::size_t>((of_bytes >> 7) * 0x0101010101010101 >> 56);
}

// Goes through codes forwards, counting the rows that end and the new entries that are passed.
class CodeWalk {
 public:
  explicit CodeWalk(std::string_view codes) : codes_(codes) {}
  [[nodiscard]] std::size_t row() const { return row_; }
  [[nodiscard]] std::size_t at() const { return at_; }
  // To the beginning of the row's code.
  void to_row(std::size_t row) {
    while (codes_.size() - at_ >= sizeof(std::uint64_t)) {
      const auto word = load_word(codes_.data() + at_);
      const auto ends = count_bits(ends_in(word));
      if (row_ + ends >= row) break;
      row_ += ends;
      entries_ += count_bits(zeros_in(word));
      at_ += sizeof(std::uint64_t);
    }
    while (row_ < row && at_ < codes_.size()) step();
  }
  // To the code that brings the entry for the first time; false when none does.
  bool to_entry(std::size_t entry) {
    while (codes_.size() - at_ >= sizeof(std::uint64_t)) {
      const auto word = load_word(codes_.data() + at_);
      const auto zeros = count_bits(zeros_in(word));
      if (entries_ + zeros > entry) break;
      row_ += count_bits(ends_in(word));
      entries_ += zeros;
      at_ += sizeof(std::uint64_t);
    }
    while (at_ < codes_.size()) {
      if (codes_[at_] == 0 && entries_ == entry) return true;
      step();
    }
    return false;
  }
  // To this place in the codes; what is passed brings no entry that is asked for.
  void to_place(std::size_t place) {
    row_ += count_ends(codes_.substr(at_, place - at_));
    at_ = place;
  }
  [[nodiscard]] std::uint32_t entry_here(std::size_t count) const {
    Varints codes(codes_.substr(at_));
    std::uint64_t code = 0;
    if (!codes.next_short(code)) return null_entry;
    const std::uint64_t entry = code == code_next ? entries_ : code - code_first;
    return code == code_null || entry >= count ? null_entry : static_cast<std::uint32_t>(entry);
  }

 private:
  void step() {
    const auto byte = static_cast<unsigned char>(codes_[at_++]);
    row_ += byte < 0x80 ? 1 : 0;
    entries_ += byte == 0 ? 1 : 0;
  }

  std::string_view codes_;
  std::size_t at_ = 0, row_ = 0, entries_ = 0;
};

// Goes through a dictionary of keys forwards: boot, pid, and how far the ticks are from those of the key before.
class KeyWalk {
 public:
  explicit KeyWalk(const LeftKeys& keys) : keys_(keys) {}

  // The next key when it is wanted; false when there is none.
  bool next(event::ProcessKey* key) {
    if constexpr (std::endian::native == std::endian::little) {
      if (keys_.bytes.size() - at_ >= sizeof(std::uint64_t)) {
        const auto word = load_word(keys_.bytes.data() + at_);
        const auto first = ends_in(word), second = first & (first - 1), third = second & (second - 1);
        if (third != 0) {  // all three of them within it, as nearly always
          const int boot_end = std::countr_zero(first) + 1, pid_end = std::countr_zero(second) + 1;
          const int end = std::countr_zero(third) + 1;
          ticks_ += from_zigzag(join_sevens(bits(word, pid_end, end)));
          at_ += static_cast<std::size_t>(end) / 8;
          return key == nullptr ||
                 make(*key, join_sevens(bits(word, 0, boot_end)), join_sevens(bits(word, boot_end, pid_end)));
        }
      }
    }
    Varints numbers(keys_.bytes.substr(at_));
    std::uint64_t boot = 0, pid = 0, difference = 0;
    if (!numbers.next(boot) || !numbers.next(pid) || !numbers.next(difference)) return false;
    ticks_ += from_zigzag(difference);
    at_ = keys_.bytes.size() - numbers.rest().size();
    return key == nullptr || make(*key, boot, pid);
  }

 private:
  // At most six bytes of it.
  static std::uint64_t bits(std::uint64_t word, int from, int to) {
    return word >> from & ((std::uint64_t{1} << (to - from)) - 1);
  }
  bool make(event::ProcessKey& key, std::uint64_t boot, std::uint64_t pid) const {
    if (boot >= keys_.boots.size() || pid > std::numeric_limits<event::Pid>::max()) return false;
    key = {keys_.boots[static_cast<std::size_t>(boot)], static_cast<event::Pid>(pid), ticks_};
    return true;
  }

  const LeftKeys& keys_;
  std::size_t at_ = 0;
  std::uint64_t ticks_ = 0;
};

}  // namespace

std::size_t count_ends(std::string_view bytes) {
  std::size_t count = 0, at = 0;
  for (; bytes.size() - at >= sizeof(std::uint64_t); at += sizeof(std::uint64_t))
    count += count_bits(ends_in(load_word(bytes.data() + at)));
  for (; at < bytes.size(); ++at) count += static_cast<unsigned char>(bytes[at]) < 0x80 ? 1 : 0;
  return count;
}

std::optional<std::size_t> end_of(std::string_view bytes, std::size_t count) {
  std::size_t at = 0;
  for (; bytes.size() - at >= sizeof(std::uint64_t); at += sizeof(std::uint64_t)) {
    const auto ends = count_bits(ends_in(load_word(bytes.data() + at)));
    if (ends >= count) break;
    count -= ends;
  }
  for (; count > 0 && at < bytes.size(); ++at) count -= static_cast<unsigned char>(bytes[at]) < 0x80 ? 1 : 0;
  return count == 0 ? std::optional(at) : std::nullopt;
}

void find_rows(const ColumnData& data, std::uint32_t entry, std::uint32_t first, std::uint32_t last,
               std::vector<std::uint32_t>& out) {
  const auto codes = data.codes;
  CodeWalk walk(codes);
  if (!walk.to_entry(entry)) return;
  const auto add = [&](std::size_t row) {
    if (row >= first && row <= last) out.push_back(static_cast<std::uint32_t>(row));
  };
  add(walk.row());
  std::string wanted;
  base::ByteWriter(wanted).varint(code_first + std::uint64_t{entry});
  for (auto at = codes.find(wanted, walk.at() + 1); at != std::string_view::npos; at = codes.find(wanted, at + 1)) {
    if (static_cast<unsigned char>(codes[at - 1]) >= 0x80) continue;  // within another code
    walk.to_place(at);
    if (walk.row() > last) return;
    add(walk.row());
  }
}

void find_entries(const ColumnData& data, std::span<const std::uint32_t> rows, std::vector<std::uint32_t>& out) {
  CodeWalk walk(data.codes);
  out.clear();
  for (const std::uint32_t row : rows) {
    walk.to_row(row);
    out.push_back(walk.entry_here(data.count()));
  }
}

void find_keys(const ColumnData& data, const KeySet& wanted, std::vector<std::uint32_t>& out) {
  KeyWalk walk(data.left_keys);
  event::ProcessKey key;
  for (std::uint32_t entry = 0; entry < data.left_keys.count && walk.next(&key); ++entry) {
    if (wanted.contains(key)) out.push_back(entry);
  }
}

bool read_keys_of(const ColumnData& data, std::span<const std::uint32_t> entries, std::vector<event::ProcessKey>& out) {
  std::vector<std::uint32_t> order(entries.begin(), entries.end());
  std::ranges::sort(order);
  const auto repeated = std::ranges::unique(order);
  order.erase(repeated.begin(), order.end());
  if (!order.empty() && order.back() == null_entry) order.pop_back();
  std::vector<event::ProcessKey> keys(order.size());
  KeyWalk walk(data.left_keys);
  std::uint32_t passed = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (; passed < order[i]; ++passed) {
      if (!walk.next(nullptr)) return false;
    }
    if (!walk.next(&keys[i])) return false;
    ++passed;
  }
  out.resize(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i] == null_entry) continue;
    out[i] = keys[static_cast<std::size_t>(std::ranges::lower_bound(order, entries[i]) - order.begin())];
  }
  return true;
}

}  // namespace daemoneye::store
