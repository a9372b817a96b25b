#include "store/block.h"

#include <gtest/gtest.h>

#include <map>

#include "event/testing/random_event.h"
#include "store/block_builder.h"
#include "store/column_codes.h"
#include "store/column_writers.h"

namespace daemoneye::store {
namespace {

using event::Column;
using event::ProcessEvent;
using event::testing::RandomEvents;

struct Sealed {
  std::map<std::uint8_t, std::string> chunks;
  std::uint32_t rows = 0;
  std::unique_ptr<Block> open() const {
    auto block = Block::open(
        [this](std::uint8_t place) -> Result<std::string> { return open_chunk(chunks.at(place), chunk_id(1, place)); },
        rows);
    EXPECT_TRUE(block) << block.error().message;
    return block ? std::move(*block) : nullptr;
  }
};

Sealed seal(const std::vector<ProcessEvent>& events) {
  BlockBuilder builder;
  const auto canonical = *event::encode_batch(event::Batch{{"test", {}, 1}, events});
  event::BatchView batch;
  EXPECT_TRUE(event::decode_batch(canonical, batch));
  builder.add({1, 1, static_cast<std::uint32_t>(events.size()), {}}, batch.events);
  auto block = builder.finish();
  Sealed sealed;
  sealed.rows = block.events;
  for (auto& [place, body] : block.chunks) sealed.chunks[place] = seal_chunk(body, chunk_id(1, place));
  return sealed;
}

std::vector<ProcessEvent> random_events(std::uint64_t seed, std::size_t count) {
  RandomEvents random(seed, seed % 2 == 0);
  std::vector<ProcessEvent> events;
  while (events.size() < count) {
    // As it arrives: after the canonical encoding, which leaves out what SQL cannot hold.
    event::Batch batch;
    batch.id = {"test", {}, 1};
    batch.events.push_back(random.next());
    if (!events.empty() && random.maybe()) {
      batch.events.back().process.name = events[random.number(0, events.size() - 1)].process.name;
    }
    auto decoded = event::decode_batch(*event::encode_batch(batch));
    events.push_back(decoded->events.front());
  }
  return events;
}

predicate::Condition random_condition(RandomEvents& random, const std::vector<ProcessEvent>& events) {
  using predicate::Operator;
  predicate::Condition condition;
  condition.column = static_cast<Column>(random.number(0, event::column_count - 1));
  const auto any_value = [&] {
    const auto row = random.number(0, events.size() - 1);
    return event::column_value(events[row], static_cast<event::EventId>(row) + 100, condition.column);
  };
  const auto value = any_value();
  const bool is_text = std::holds_alternative<std::string>(value);
  condition.op = static_cast<Operator>(random.number(0, 11));
  if (condition.op == Operator::is_null || condition.op == Operator::is_not_null) return condition;
  if (condition.op == Operator::regexp || std::holds_alternative<std::monostate>(value)) {
    condition.op = Operator::is_null;
    return condition;
  }
  if (condition.op == Operator::like || condition.op == Operator::glob) {
    if (!is_text) {
      condition.op = Operator::equal;
    } else {
      const auto text = std::get<std::string>(value);
      const std::string any = condition.op == Operator::like ? "%" : "*";
      const auto begin = text.substr(0, text.find_first_of("[]*?%_"));
      const auto middle = begin.substr(begin.size() / 3, begin.size() / 3 + 1);
      const std::string patterns[] = {begin + any, any + middle + any, any + middle,
                                      any + begin.substr(0, 1) + any + middle + any};
      condition.values = {patterns[random.number(0, 3)]};
      condition.negated = random.maybe();
      return condition;
    }
  }
  condition.values = {value};
  if (condition.op == Operator::in) {
    condition.values.push_back(any_value());
    condition.negated = random.maybe();
  }
  return condition;
}

TEST(Block, GivesEveryEventBackAsItWas) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const auto events = random_events(seed, 1 + seed * 20);
    const auto sealed = seal(events);
    const auto block = sealed.open();
    ASSERT_NE(block, nullptr);
    for (std::size_t row = 0; row < events.size(); ++row) {
      const auto event = block->event(row);
      ASSERT_TRUE(event) << event.error().message;
      ASSERT_EQ(*event, events[row]) << "seed " << seed << " row " << row;
    }
  }
}

TEST(Block, GivesTheValuesOfSql) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const auto events = random_events(seed, 200);
    const auto sealed = seal(events);
    const auto block = sealed.open();
    for (std::size_t i = 0; i < event::column_count; ++i) {
      const auto column = static_cast<Column>(i);
      ASSERT_TRUE(block->need(column));
      for (std::size_t row = 0; row < events.size(); ++row) {
        const auto id = static_cast<event::EventId>(row) + 100;
        ASSERT_EQ(to_value(block->value(row, column, 100)), event::column_value(events[row], id, column))
            << event::info(column).name << " seed " << seed << " row " << row;
      }
    }
  }
}

TEST(Block, SelectsWhatEvaluatingEachRowWouldSelect) {
  std::size_t matched = 0, skipped = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const auto events = random_events(seed, 150);
    const auto sealed = seal(events);
    const auto block = sealed.open();
    RandomEvents random(seed * 1000);
    for (int round = 0; round < 60; ++round) {
      std::vector<predicate::Condition> conditions;
      for (auto count = random.number(1, 3); count > 0; --count) conditions.push_back(random_condition(random, events));
      const bool possible = std::all_of(conditions.begin(), conditions.end(),
                                        [&](const auto& condition) { return block->header().may_match(condition); });
      const auto predicate = predicate::Predicate::compile(conditions);
      ASSERT_TRUE(predicate) << predicate.error().message;
      event::TimeRange time;
      if (random.maybe()) time.from = events[random.number(0, events.size() - 1)].time;
      if (random.maybe()) time.to = events[random.number(0, events.size() - 1)].time;
      std::vector<std::uint32_t> expected;
      for (std::uint32_t row = 5; row <= 140; ++row) {
        if (time.overlaps(events[row].time, events[row].time) && predicate->matches(events[row], 100 + row)) {
          expected.push_back(row);
        }
      }
      std::vector<std::uint32_t> selected;
      const auto met = block->select(ScanConditions(*predicate), time, 100, 5, 140, selected);
      ASSERT_TRUE(met) << met.error().message;
      ASSERT_EQ(selected, expected) << predicate->text();
      matched += expected.size();
      if (!possible) {
        ++skipped;
        ASSERT_TRUE(expected.empty()) << predicate->text();
      }
    }
  }
  EXPECT_GT(matched, 1000U);
  EXPECT_GT(skipped, 0U);
}

// Of a column that was not read, few rows are found in its codes; of one that was, in its rows.
TEST(Block, FewRowsAreThoseOfTheWholeColumn) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const auto events = random_events(seed, 400);
    const auto sealed = seal(events);
    RandomEvents random(seed * 1000);
    for (std::size_t i = 0; i < event::column_count; ++i) {
      const auto column = static_cast<Column>(i);
      if (!Block::has_entries(column)) continue;
      const auto block = sealed.open();
      for (const bool is_read : {false, true}) {
        std::vector<std::uint32_t> rows;
        FewValues few;
        for (std::uint32_t row = 0; row < 400; ++row) {
          if (random.number(0, 20) == 0) rows.push_back(row);
        }
        if (is_read) {
          ASSERT_TRUE(block->need(column));
        }
        ASSERT_TRUE(block->few_of(column, rows, few));
        ASSERT_EQ(block->is_decoded(column), is_read);
        for (std::size_t at = 0; at < rows.size(); ++at) {
          const auto id = static_cast<event::EventId>(rows[at]) + 100;
          ASSERT_EQ(to_value(block->value_of(column, few, at)), event::column_value(events[rows[at]], id, column))
              << event::info(column).name << " seed " << seed << " row " << rows[at];
        }
      }
    }
  }
}

// An equality with few values on a block of which nothing was read, alone and after a narrower one.
TEST(Block, FindsTheRowsOfAnEqualityInTheCodes) {
  constexpr Column asked[] = {Column::name,       Column::comm, Column::executable_path, Column::process_key,
                              Column::parent_key, Column::user, Column::parent_name,     Column::detail};
  std::size_t matched = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    auto events = random_events(seed, 400);
    RandomEvents random(seed * 1000);
    for (auto& event : events) {  // of few values each
      const auto& other = events[random.number(0, 30)];
      const bool is_gap = event.kind == event::EventKind::gap || other.kind == event::EventKind::gap;
      if (!is_gap && random.number(0, 3) != 0) {
        event.process = other.process;
        event.parent_name = other.parent_name;
        event.detail = other.detail;
      }
    }
    const auto sealed = seal(events);
    for (int round = 0; round < 100; ++round) {
      std::vector<predicate::Condition> conditions;
      for (auto count = random.number(1, 3); count > 0; --count) {
        predicate::Condition condition;
        condition.column = asked[random.number(0, std::size(asked) - 1)];
        const auto any_value = [&] { return event::column_value(events[random.number(0, 40)], 100, condition.column); };
        condition.op = random.maybe() ? predicate::Operator::equal : predicate::Operator::in;
        condition.values = {any_value()};
        if (condition.op == predicate::Operator::in) {
          while (random.number(0, 3) != 0) condition.values.push_back(any_value());
        }
        if (std::ranges::any_of(condition.values, [](const auto& value) { return value.index() == 0; })) continue;
        conditions.push_back(std::move(condition));
      }
      const auto predicate = predicate::Predicate::compile(conditions);
      ASSERT_TRUE(predicate) << predicate.error().message;
      const auto first = static_cast<std::uint32_t>(random.number(0, 200));
      const auto last = first + static_cast<std::uint32_t>(random.number(0, 199));
      std::vector<std::uint32_t> expected, selected;
      for (std::uint32_t row = first; row <= last; ++row) {
        if (predicate->matches(events[row], 100 + row)) expected.push_back(row);
      }
      const auto block = sealed.open();
      ASSERT_TRUE(block->select(ScanConditions(*predicate), {}, 100, first, last, selected));
      ASSERT_EQ(selected, expected) << predicate->text() << " seed " << seed << " from " << first << " to " << last;
      matched += expected.size();
    }
  }
  EXPECT_GT(matched, 1000U);
}

// Codes of one, two and three bytes beside each other.
TEST(ColumnCodes, AreGoneThroughWithoutReadingAll) {
  RandomEvents random(1);
  TextWriter writer;
  std::vector<std::uint32_t> rows;
  for (int row = 0; row < 60'000; ++row) {
    const auto most = random.maybe() ? 40'000U : random.maybe() ? 2'000U : 100U;
    const auto text = std::to_string(random.number(0, most));
    rows.push_back(random.number(0, 9) == 0 ? writer.add(std::nullopt) : writer.add(text));
  }
  const auto body = writer.finish([](std::string_view text) { return text; });
  const auto left = decode_column(Column::name, body, rows.size(), nullptr, Codes::left);
  ASSERT_TRUE(left);
  ASSERT_FALSE((*left)->is_whole());
  ASSERT_GT((*left)->count(), 17'000U);
  for (std::uint32_t entry = 0; entry < (*left)->count(); entry += entry < 300 ? 1 : 97) {
    const auto first = static_cast<std::uint32_t>(random.number(0, 30'000));
    const auto last = first + static_cast<std::uint32_t>(random.number(0, 29'999));
    std::vector<std::uint32_t> expected, found;
    for (auto row = first; row <= last; ++row) {
      if (rows[row] == entry) expected.push_back(row);
    }
    find_rows(**left, entry, first, last, found);
    ASSERT_EQ(found, expected) << "entry " << entry << " from " << first << " to " << last;
  }
  for (const std::uint32_t step : {1U, 7U, 500U, 20'000U}) {
    std::vector<std::uint32_t> asked, expected, found;
    for (auto row = static_cast<std::uint32_t>(random.number(0, step)); row < rows.size(); row += step) {
      asked.push_back(row);
      expected.push_back(rows[row]);
    }
    find_entries(**left, asked, found);
    ASSERT_EQ(found, expected) << "each " << step << " rows";
  }
  ASSERT_TRUE(read_left_codes(Column::name, **left, rows.size()));
  EXPECT_TRUE((*left)->is_whole());
  EXPECT_EQ((*left)->rows, rows);
}

TEST(ColumnCodes, KeysAreThoseOfTheWholeDictionary) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    RandomEvents random(seed, seed % 2 == 0);
    KeyWriter writer;
    KeySet wanted;
    const std::size_t count = random.number(1, 500);
    for (std::size_t i = 0; i < count; ++i) {
      auto key = random.key();
      if (random.maybe()) key = {key.boot, static_cast<event::Pid>(i), i};  // numbers of a byte
      writer.add(key);
      if (random.number(0, 9) == 0) wanted.insert(key);
    }
    const auto keys = writer.keys();
    const auto left = decode_column(Column::process_key, writer.finish(), count, nullptr, Codes::left);
    ASSERT_TRUE(left);
    std::vector<std::uint32_t> expected, found, asked;
    for (std::uint32_t entry = 0; entry < keys.size(); ++entry) {
      if (wanted.contains(keys[entry])) expected.push_back(entry);
    }
    find_keys(**left, wanted, found);
    ASSERT_EQ(found, expected);
    for (int i = 0; i < 30; ++i) {
      asked.push_back(i % 7 == 3 ? null_entry : static_cast<std::uint32_t>(random.number(0, keys.size() - 1)));
    }
    std::vector<event::ProcessKey> read;
    ASSERT_TRUE(read_keys_of(**left, asked, read));
    for (std::size_t i = 0; i < asked.size(); ++i) {
      if (asked[i] == null_entry) continue;
      ASSERT_EQ(read[i], keys[asked[i]]);
    }
    ASSERT_TRUE(read_left_codes(Column::process_key, **left, count));
    ASSERT_EQ((*left)->keys, keys);
  }
}

TEST(Block, FiltersTellWhatIsSurelyNotThere) {
  auto events = random_events(2, 500);
  const auto sealed = seal(events);
  const auto block = sealed.open();
  std::size_t absent = 0;
  for (int i = 0; i < 1000; ++i) {
    const predicate::Condition condition{
        Column::name, predicate::Operator::equal, {std::string("surely-not-there-") + std::to_string(i)}};
    if (!block->header().may_match(condition)) ++absent;
  }
  EXPECT_GT(absent, 950U);
}

TEST(Block, AnyDamagedByteIsFoundOut) {
  const auto events = random_events(3, 60);
  const auto sealed = seal(events);
  for (const auto& [place, chunk] : sealed.chunks) {
    for (std::size_t at = 0; at < chunk.size(); at += 7) {
      std::string damaged = chunk;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x20);
      const auto opened = open_chunk(damaged, chunk_id(1, place));
      ASSERT_FALSE(opened) << "chunk " << int{place} << " byte " << at;
      ASSERT_EQ(opened.error().code, Errc::corrupt);
    }
    ASSERT_FALSE(open_chunk(chunk, chunk_id(2, place))) << "in another block's place";
    ASSERT_FALSE(open_chunk(std::string_view(chunk).substr(0, chunk.size() - 1), chunk_id(1, place)));
  }
}

TEST(Block, RefusesColumnsThatDoNotFitTheirBlock) {
  const auto events = random_events(4, 60);
  const auto sealed = seal(events);
  for (std::size_t i = 0; i < event::column_count; ++i) {
    const auto column = static_cast<Column>(i);
    if (encoding_of(column) == Encoding::none) continue;
    const auto body =
        *open_chunk(sealed.chunks.at(static_cast<std::uint8_t>(i)), chunk_id(1, static_cast<std::uint8_t>(i)));
    ColumnData times;
    times.integers.resize(10'000);
    ASSERT_TRUE(decode_column(column, body, 60, &times)) << event::info(column).name;
    ASSERT_FALSE(decode_column(column, body.substr(0, body.size() / 2), 60, &times)) << event::info(column).name;
    ASSERT_FALSE(decode_column(column, body + '\0', 60, &times)) << event::info(column).name;
    EXPECT_EQ(decode_column(column, body, 9000, &times).has_value(), body.size() == 1) << event::info(column).name;
    // Of codes that are left only the number is known; and what they are, when they are read.
    if (!Block::has_entries(column)) continue;
    ASSERT_FALSE(decode_column(column, body.substr(0, body.size() / 2), 60, &times, Codes::left));
    ASSERT_FALSE(decode_column(column, body + '\0', 60, &times, Codes::left));
    EXPECT_FALSE(decode_column(column, body, 9000, &times, Codes::left));
    auto wrong = body;
    wrong.back() = '\x7f';
    const auto left = decode_column(column, wrong, 60, &times, Codes::left);
    ASSERT_TRUE(left);
    EXPECT_FALSE(read_left_codes(column, **left, 60)) << event::info(column).name;
  }
}

TEST(BatchList, KeepsIdentityAndDigestOfEveryBatch) {
  std::vector<BatchEntry> batches;
  for (std::uint64_t i = 0; i < 100; ++i) {
    batches.push_back({static_cast<std::int64_t>(i % 3), i * i + 1, static_cast<std::uint32_t>(i), {}});
    batches.back().digest.fill(static_cast<std::uint8_t>(i));
  }
  const auto body = encode_batches(batches);
  const auto decoded = decode_batches(body);
  ASSERT_TRUE(decoded);
  ASSERT_EQ(decoded->size(), batches.size());
  for (std::size_t i = 0; i < batches.size(); ++i) {
    EXPECT_EQ((*decoded)[i].epoch, batches[i].epoch);
    EXPECT_EQ((*decoded)[i].sequence, batches[i].sequence);
    EXPECT_EQ((*decoded)[i].events, batches[i].events);
    EXPECT_EQ((*decoded)[i].digest, batches[i].digest);
  }
  EXPECT_FALSE(decode_batches(std::string_view(body).substr(0, body.size() - 1)));
  EXPECT_FALSE(decode_batches(body + "x"));
}

}  // namespace
}  // namespace daemoneye::store
