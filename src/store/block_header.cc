#include "store/block_header.h"

#include <algorithm>

#include "base/bytes.h"

namespace daemoneye::store {
namespace {

using event::Column;
using predicate::Operator;

bool in_range(const IntegerRange& range, Operator op, std::int64_t value) {
  switch (op) {
    case Operator::equal:
    case Operator::in: return range.min <= value && value <= range.max;
    case Operator::less: return range.min < value;
    case Operator::less_equal: return range.min <= value;
    case Operator::greater: return range.max > value;
    case Operator::greater_equal: return range.max >= value;
    default: return true;
  }
}

}  // namespace

MembershipFilter::MembershipFilter(const std::vector<std::uint64_t>& hashes) {
  if (hashes.empty()) return;
  const std::size_t size = (hashes.size() * filter_bits_per_value + 7) / 8;
  bits_.assign(size, '\0');
  const std::uint64_t positions = size * 8;
  for (const std::uint64_t hash : hashes) {
    const std::uint64_t step = hash >> 32 | 1;
    for (unsigned i = 0; i < filter_probes; ++i) {
      const std::uint64_t bit = (static_cast<std::uint32_t>(hash) + i * step) % positions;
      auto& byte = bits_[static_cast<std::size_t>(bit / 8)];
      byte = static_cast<char>(static_cast<unsigned char>(byte) | 1U << (bit % 8));
    }
  }
}

bool MembershipFilter::may_hold(std::uint64_t hash) const {
  if (bits_.empty()) return false;
  const std::uint64_t positions = bits_.size() * 8;
  const std::uint64_t step = hash >> 32 | 1;
  for (unsigned i = 0; i < filter_probes; ++i) {
    const std::uint64_t bit = (static_cast<std::uint32_t>(hash) + i * step) % positions;
    if ((static_cast<unsigned char>(bits_[static_cast<std::size_t>(bit / 8)]) >> (bit % 8) & 1) == 0) return false;
  }
  return true;
}

void IntegerRange::add(std::int64_t value) {
  if (!any || value < min) min = value;
  if (!any || value > max) max = value;
  any = true;
}

std::optional<std::uint64_t> condition_hash(Column column, const event::Value& value) {
  if (event::info(column).type == event::ColumnType::integer) {
    const auto* number = std::get_if<std::int64_t>(&value);
    if (number == nullptr) return std::nullopt;
    return filter_hash(*number);
  }
  const auto* text = std::get_if<std::string>(&value);
  if (text == nullptr) return std::nullopt;
  if (encoding_of(column) != Encoding::key) return filter_hash(std::string_view(*text));
  const auto key = event::parse_process_key(*text);
  // Text that is no key equals none; 0 stands for it, and a chance hit costs a look, not a wrong answer.
  return key ? filter_hash(*key) : 0;
}

bool BlockHeader::may_match(const predicate::Condition& condition) const {
  if (condition.negated) return true;
  const auto index = static_cast<std::size_t>(condition.column);
  const bool equality = condition.op == Operator::equal || condition.op == Operator::in;
  if (equality && filters[index]) {
    const auto& filter = *filters[index];
    const bool possible = std::any_of(condition.values.begin(), condition.values.end(), [&](const auto& value) {
      const auto hash = condition_hash(condition.column, value);
      return !hash || filter.may_hold(*hash);
    });
    if (!possible) return false;
  }
  return may_be_in_range(condition);
}

bool BlockHeader::may_be_in_range(const predicate::Condition& condition) const {
  if (condition.negated) return true;
  const auto index = static_cast<std::size_t>(condition.column);
  if (!has_number(encoding_of(condition.column))) return true;
  const auto& range = ranges[index];
  if (condition.op == Operator::is_null) return true;
  if (!range.any) return false;
  if (condition.op == Operator::is_not_null || condition.values.empty()) return true;
  return std::any_of(condition.values.begin(), condition.values.end(), [&](const auto& value) {
    const auto* number = std::get_if<std::int64_t>(&value);
    return number == nullptr || in_range(range, condition.op, *number);
  });
}

std::string encode_header(const BlockHeader& header) {
  std::string body;
  base::ByteWriter out(body);
  out.varint(header.rows);
  out.varint(header.gap_rows.size());
  std::uint32_t before = 0;
  for (const std::uint32_t row : header.gap_rows) {
    out.varint(row - before);
    before = row;
  }
  for (std::size_t i = 0; i < event::column_count; ++i) {
    if (!has_number(encoding_of(static_cast<Column>(i)))) continue;
    const auto& range = header.ranges[i];
    out.u8(range.any ? 1 : 0);
    if (!range.any) continue;
    out.zigzag(range.min);
    out.zigzag(range.max);
  }
  for (std::size_t i = 0; i < event::column_count; ++i) {
    if (is_filtered(static_cast<Column>(i))) out.bytes(header.filters[i] ? header.filters[i]->bits() : "");
  }
  return body;
}

Result<BlockHeader> decode_header(std::string_view body) {
  const auto bad = [] { return fail(Errc::corrupt, "block header: short or malformed"); };
  base::ByteReader in(body);
  BlockHeader header;
  const std::uint64_t rows = in.varint();
  const std::uint64_t gaps = in.varint();
  if (!in.ok() || rows > max_block_events || gaps > rows || gaps > in.remaining()) return bad();
  header.rows = static_cast<std::uint32_t>(rows);
  header.gap_rows.resize(static_cast<std::size_t>(gaps));
  std::uint64_t row = 0;
  for (std::size_t i = 0; i < header.gap_rows.size(); ++i) {
    const std::uint64_t step = in.varint();
    if (step >= rows || (i > 0 && step == 0)) return bad();
    row += step;
    if (row >= rows) return bad();
    header.gap_rows[i] = static_cast<std::uint32_t>(row);
  }
  for (std::size_t i = 0; i < event::column_count; ++i) {
    if (!has_number(encoding_of(static_cast<Column>(i)))) continue;
    auto& range = header.ranges[i];
    range.any = in.u8() == 1;
    if (!range.any) continue;
    range.min = in.zigzag();
    range.max = in.zigzag();
  }
  for (std::size_t i = 0; i < event::column_count; ++i) {
    if (is_filtered(static_cast<Column>(i))) header.filters[i].emplace(std::string(in.bytes()));
  }
  if (!in.at_end()) return bad();
  return header;
}

}  // namespace daemoneye::store
