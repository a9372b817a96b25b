#include "store/group_scan.h"

#include <algorithm>

#include "store/group_table.h"

namespace daemoneye::store {
namespace {

using event::Column;

constexpr unsigned max_split = 12;  // reads of all events: at most 4096
constexpr std::uint32_t not_asked = 0xffffffff;
constexpr std::uint64_t null_hash = 0x9e3779b97f4a7c15ULL;

bool has_texts(Column column) { return event::info(column).type == event::ColumnType::text; }

// Which of the groups a reading of the events is about: those whose hash begins with these bits.
struct Part {
  unsigned bits = 0;
  std::uint64_t value = 0;
  [[nodiscard]] bool holds(std::uint64_t hash) const { return bits == 0 || hash >> (64 - bits) == value; }
};

struct Extreme {
  bool any = false;
  std::int64_t least = 0, most = 0;
  double least_real = 0, most_real = 0;

  void add(std::int64_t value) {
    least = any ? std::min(least, value) : value;
    most = any ? std::max(most, value) : value;
    any = true;
  }
  void add(double value) {
    least_real = any ? std::min(least_real, value) : value;
    most_real = any ? std::max(most_real, value) : value;
    any = true;
  }
};

}  // namespace

struct GroupScan::Impl {
  Reader& reader;
  GroupRequest request;
  Reader::ShouldStop stop;
  std::unique_ptr<EventScan> scan;     // under way
  ScanStats earlier;                   // of the readings before
  std::vector<Part> parts = {Part{}};  // still to be read
  Part part;

  // The values of each column, and the groups: of one column its numbers; of more, pairs of a group of the columns
  // before and a number of the next.
  std::vector<TextNumbers> texts;
  std::vector<IntegerNumbers> integers;
  std::vector<IntegerNumbers> pairs;
  std::vector<std::uint64_t> counts;  // by group
  std::vector<Extreme> extremes;      // groups x columns

  // Of the place being counted.
  struct Place {
    TextColumn texts;
    IntegerColumn integers;
    std::vector<std::uint32_t> numbers;  // by entry, as far as asked for
    std::vector<std::uint64_t> hashes;
  };
  std::vector<Place> places;
  std::vector<IntegerColumn> extreme_integers;
  std::vector<RealColumn> extreme_reals;
  std::vector<std::uint32_t> part_rows, groups;  // groups: by place in the rows
  std::vector<std::uint64_t> keys;

  bool giving = false;
  std::size_t given = 0;  // groups passed
  std::size_t current = 0;

  Impl(Reader& of, GroupRequest asked, Reader::ShouldStop should_stop)
      : reader(of), request(std::move(asked)), stop(std::move(should_stop)) {
    places.resize(request.by.size());
    forget();
  }

  void forget() {
    texts.clear();
    texts.resize(request.by.size());
    integers.clear();
    integers.resize(request.by.size());
    pairs.clear();
    pairs.resize(request.by.empty() ? 0 : request.by.size() - 1);
    counts.clear();
    counts.shrink_to_fit();
    extremes.clear();
    extremes.shrink_to_fit();
    given = 0;
  }

  [[nodiscard]] std::size_t bytes() const {
    std::size_t sum = counts.capacity() * sizeof(std::uint64_t) + extremes.capacity() * sizeof(Extreme);
    for (const auto& one : texts) sum += one.bytes();
    for (const auto& one : integers) sum += one.bytes();
    for (const auto& one : pairs) sum += one.bytes();
    return sum;
  }

  Result<bool> next();
  Result<bool> begin();
  Result<bool> add_place();
  Result<bool> from_header();
  Result<void> open_columns();
  void count_rows();
  void count_one_text(Place& place, std::span<const std::uint32_t> rows);
  std::uint32_t number(std::size_t column, std::size_t row);
  std::uint64_t hash(std::size_t column, std::size_t row);
  std::span<const std::uint32_t> rows_of_part();
  void grow(std::size_t group);
  ScanStats stats() const;
};

ScanStats GroupScan::Impl::stats() const {
  ScanStats sum = earlier;
  if (!scan) return sum;
  const auto& now = scan->stats();
  sum.blocks_read += now.blocks_read;
  sum.blocks_skipped += now.blocks_skipped;
  sum.tail_batches_read += now.tail_batches_read;
  sum.rows += now.rows;
  for (const auto& damage : now.damage) {
    if (std::ranges::find(sum.damage, damage) == sum.damage.end()) sum.damage.push_back(damage);
  }
  return sum;
}

Result<bool> GroupScan::Impl::begin() {
  if (parts.empty()) return false;
  part = parts.back();
  parts.pop_back();
  forget();
  ScanRequest wanted;
  wanted.time = request.time;
  wanted.first_event = request.first_event;
  wanted.last_event = request.last_event;
  wanted.conditions = request.conditions;
  DE_TRY(scan, reader.scan(wanted, stop));
  return true;
}

Result<bool> GroupScan::Impl::next() {
  while (true) {
    if (giving) {
      while (given < counts.size()) {
        current = given++;
        if (counts[current] > 0) return true;
      }
      giving = false;
      forget();
    }
    if (!scan) {
      DE_TRY(const bool begun, begin());
      if (!begun) return false;
    }
    DE_TRY(const bool more, scan->next_block());
    if (!more) {
      earlier = stats();
      scan.reset();
      giving = true;
      continue;
    }
    DE_TRY(const bool added, add_place());
    if (!added) {
      scan->leave_damaged_block();
      continue;
    }
    if (bytes() <= request.max_bytes) continue;
    if (!request.whole) {
      giving = true;
    } else {
      // Too many: half of them now, the others in a reading of their own.
      if (part.bits == max_split) return fail(Errc::limit_exceeded, "the groups do not fit in the memory for them");
      earlier = stats();
      scan.reset();
      parts.push_back({part.bits + 1, part.value << 1 | 1});
      parts.push_back({part.bits + 1, part.value << 1});
    }
  }
}

// False when the place is damaged.
Result<bool> GroupScan::Impl::add_place() {
  DE_TRY(const bool told, from_header());
  if (told) return true;
  if (auto opened = open_columns(); !opened) {
    if (opened.error().code != Errc::corrupt) return std::unexpected(opened.error());
    return false;
  }
  count_rows();
  return true;
}

// Without columns to group by, and with the extremes in the header, nothing needs to be decoded.
Result<bool> GroupScan::Impl::from_header() {
  if (!request.by.empty() || (!request.extremes.empty() && !scan->has_all_rows())) return false;
  std::vector<IntegerBounds> bounds;
  for (const auto column : request.extremes) {
    const auto range = scan->range(column);
    if (!range) return false;
    bounds.push_back(*range);
  }
  grow(0);
  counts[0] += scan->rows().size();
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    extremes[i].add(bounds[i].min);
    extremes[i].add(bounds[i].max);
  }
  return true;
}

Result<void> GroupScan::Impl::open_columns() {
  for (std::size_t i = 0; i < request.by.size(); ++i) {
    auto& place = places[i];
    place = {};
    if (has_texts(request.by[i])) {
      DE_TRY(place.texts, scan->texts(request.by[i]));
      place.numbers.assign(place.texts.count, not_asked);
      if (part.bits > 0) {
        place.hashes.resize(place.texts.count);
        for (std::uint32_t entry = 0; entry < place.texts.count; ++entry) place.hashes[entry] = 0;
      }
    } else {
      DE_TRY(place.integers, scan->integers(request.by[i]));
    }
  }
  extreme_integers.assign(request.extremes.size(), {});
  extreme_reals.assign(request.extremes.size(), {});
  for (std::size_t i = 0; i < request.extremes.size(); ++i) {
    if (event::info(request.extremes[i]).type == event::ColumnType::real) {
      DE_TRY(extreme_reals[i], scan->reals(request.extremes[i]));
    } else {
      DE_TRY(extreme_integers[i], scan->integers(request.extremes[i]));
    }
  }
  return {};
}

std::uint64_t GroupScan::Impl::hash(std::size_t column, std::size_t row) {
  auto& place = places[column];
  if (place.texts.entries == nullptr) {
    if (place.integers.values == nullptr || !place.integers.has_value(row)) return null_hash;
    return mix_hash(static_cast<std::uint64_t>(place.integers.values[row]));
  }
  const auto entry = place.texts.entries[row];
  if (entry == null_entry) return null_hash;
  auto& known = place.hashes[entry];
  if (known == 0) known = filter_hash(scan->text(request.by[column], entry)) | 1;
  return known;
}

std::uint32_t GroupScan::Impl::number(std::size_t column, std::size_t row) {
  auto& place = places[column];
  if (place.texts.entries == nullptr) {
    if (place.integers.values == nullptr || !place.integers.has_value(row)) return 0;
    return integers[column].number(static_cast<std::uint64_t>(place.integers.values[row]));
  }
  const auto entry = place.texts.entries[row];
  if (entry == null_entry) return 0;
  auto& known = place.numbers[entry];
  if (known == not_asked) {
    const auto text = scan->text(request.by[column], entry);
    known = texts[column].number(text, filter_hash(text));
  }
  return known;
}

void GroupScan::Impl::grow(std::size_t group) {
  if (group < counts.size()) return;
  counts.resize(group + 1);
  extremes.resize((group + 1) * request.extremes.size());
}

// The entries of the dictionary are counted first: most rows then cost one addition.
void GroupScan::Impl::count_one_text(Place& place, std::span<const std::uint32_t> rows) {
  std::vector<std::uint32_t> by_entry(place.texts.count + 1);
  const auto last = static_cast<std::uint32_t>(place.texts.count);  // NULL's
  for (const std::uint32_t row : rows) ++by_entry[std::min(place.texts.entries[row], last)];
  if (by_entry[last] > 0) {
    grow(0);
    counts[0] += by_entry[last];
  }
  for (std::uint32_t entry = 0; entry < last; ++entry) {
    if (by_entry[entry] == 0) continue;
    const auto text = scan->text(request.by[0], entry);
    const auto number = texts[0].number(text, filter_hash(text));
    grow(number);
    counts[number] += by_entry[entry];
  }
}

std::span<const std::uint32_t> GroupScan::Impl::rows_of_part() {
  const auto all = scan->rows();
  if (part.bits == 0) return all;
  part_rows.clear();
  for (const std::uint32_t row : all) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < request.by.size(); ++i) sum = mix_hash(sum * 31 + hash(i, row));
    if (part.holds(sum)) part_rows.push_back(row);
  }
  return part_rows;
}

void GroupScan::Impl::count_rows() {
  const auto rows = rows_of_part();
  if (request.by.size() == 1 && request.extremes.empty() && places[0].texts.entries != nullptr) {
    return count_one_text(places[0], rows);
  }
  // A column at a time: the numbers of its values, then those of the pairs that they make with what was before.
  groups.assign(rows.size(), 0);
  for (std::size_t i = 0; i < rows.size() && !request.by.empty(); ++i) groups[i] = number(0, rows[i]);
  for (std::size_t column = 1; column < request.by.size(); ++column) {
    keys.resize(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) keys[i] = std::uint64_t{groups[i]} << 32 | number(column, rows[i]);
    pairs[column - 1].numbers(keys, groups.data());
  }
  if (groups.empty()) return;
  grow(*std::ranges::max_element(groups));
  for (const auto group : groups) ++counts[group];
  for (std::size_t column = 0; column < request.extremes.size(); ++column) {
    const auto add = [&](const auto& values) {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (values.has_value(rows[i]))
          extremes[groups[i] * request.extremes.size() + column].add(values.values[rows[i]]);
      }
    };
    if (extreme_integers[column].values != nullptr)
      add(extreme_integers[column]);
    else if (extreme_reals[column].values != nullptr)
      add(extreme_reals[column]);
  }
}

GroupScan::GroupScan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GroupScan::~GroupScan() = default;

Result<std::unique_ptr<GroupScan>> GroupScan::open(Reader& reader, GroupRequest request, Reader::ShouldStop stop) {
  for (const auto column : request.by) {
    if (event::info(column).type == event::ColumnType::real) return fail(Errc::internal, "reals cannot be grouped by");
  }
  return std::unique_ptr<GroupScan>(new GroupScan(std::make_unique<Impl>(reader, std::move(request), std::move(stop))));
}

Result<bool> GroupScan::next() { return impl_->next(); }
std::uint64_t GroupScan::count() const { return impl_->counts[impl_->current]; }
ScanStats GroupScan::stats() const { return impl_->stats(); }
std::size_t GroupScan::bytes() const { return impl_->bytes(); }

ValueView GroupScan::by(std::size_t place) const {
  // From the last pair back to the column asked for.
  auto number = static_cast<std::uint32_t>(impl_->current);
  for (std::size_t i = impl_->request.by.size() - 1; i > 0; --i) {
    const auto pair = impl_->pairs[i - 1].value(number);
    if (i == place) {
      number = static_cast<std::uint32_t>(pair);
      break;
    }
    number = static_cast<std::uint32_t>(pair >> 32);
  }
  if (number == 0) return {};
  if (has_texts(impl_->request.by[place])) return impl_->texts[place].text(number);
  return static_cast<std::int64_t>(impl_->integers[place].value(number));
}

ValueView GroupScan::least(std::size_t place) const {
  const auto& extreme = impl_->extremes[impl_->current * impl_->request.extremes.size() + place];
  if (!extreme.any) return {};
  const bool is_real = event::info(impl_->request.extremes[place]).type == event::ColumnType::real;
  return is_real ? ValueView(extreme.least_real) : ValueView(extreme.least);
}

ValueView GroupScan::most(std::size_t place) const {
  const auto& extreme = impl_->extremes[impl_->current * impl_->request.extremes.size() + place];
  if (!extreme.any) return {};
  const bool is_real = event::info(impl_->request.extremes[place]).type == event::ColumnType::real;
  return is_real ? ValueView(extreme.most_real) : ValueView(extreme.most);
}

}  // namespace daemoneye::store
