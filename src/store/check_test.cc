// A sound store is told from a damaged one, and the place of the damage; a reader of a damaged one is never wrong
// without saying so.
#include "store/check.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include "store/block_format.h"
#include "store/store_file.h"
#include "store/testing/event_generator.h"
#include "store/testing/temp_store.h"

namespace daemoneye::store {
namespace {

using namespace store::testing;

std::string bytes_of(const std::string& path) {
  const std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}
void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class CheckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto options = folder_.options();
    options.block_events = 500;
    auto writer = Writer::open(options);
    ASSERT_TRUE(writer) << writer.error().message;
    EventGenerator events(1);
    for (std::uint64_t sequence = 1; sequence <= 27; ++sequence) {
      std::vector<event::ProcessEvent> batch;
      for (int i = 0; i < 60; ++i) batch.push_back(events.next());
      ASSERT_TRUE(commit(**writer, make_batch(sequence, std::move(batch))));
    }
    ASSERT_TRUE((*writer)->drain(Deadline::after(std::chrono::seconds(10))));
  }
  CheckReport check(CheckOptions options = {}) const {
    auto report = check_store(folder_.file(), options);
    EXPECT_TRUE(report) << report.error().message;
    return report ? *report : CheckReport{};
  }
  // As the damage would be made by a program that writes pages as they should be.
  void alter(const std::string& sql) const {
    auto database = open_store_for_writing(folder_.file(), "");
    ASSERT_TRUE(database) << database.error().message;
    const auto done = (*database)->execute(sql);
    ASSERT_TRUE(done) << done.error().message;
  }
  TempFolder folder_;
};

TEST_F(CheckTest, ASoundStoreIsToldSoWithItsCounts) {
  const auto report = check();
  EXPECT_EQ(report.damages, 0U) << (report.damage.empty() ? "" : report.damage.front().what);
  EXPECT_EQ(report.not_looked_at, "");
  EXPECT_TRUE(report.page_checksums);
  EXPECT_EQ(report.batches, 27U);
  EXPECT_EQ(report.events, 27U * 60);
  EXPECT_EQ(report.blocks, 3U);
  EXPECT_GT(report.chunks, 90U);
  EXPECT_EQ(report.tail_batches, 0U);
}

TEST_F(CheckTest, WorksBesideARunningWriter) {
  auto options = folder_.options();
  auto writer = Writer::open(options);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(commit(**writer, make_batch(1, {make_event(event::EventKind::exec, 5, 10)}, 9)));
  const auto report = check();
  EXPECT_EQ(report.damages, 0U) << (report.damage.empty() ? "" : report.damage.front().what);
  EXPECT_EQ(report.tail_batches, 1U);
}

// The writer seals the tail while it is read: nothing is left out, and nothing counted or blamed twice.
TEST_F(CheckTest, FollowsTheTailIntoTheBlockThatItIsSealedInto) {
  auto options = folder_.options();
  options.block_events = 600;
  auto writer = Writer::open(options);
  ASSERT_TRUE(writer);
  EventGenerator events(2);
  std::uint64_t sequence = 27;
  const auto add = [&](int batches) {
    for (int n = 0; n < batches; ++n) {
      std::vector<event::ProcessEvent> batch;
      for (int i = 0; i < 60; ++i) batch.push_back(events.next());
      ASSERT_TRUE(commit(**writer, make_batch(++sequence, std::move(batch))));
    }
  };
  add(9);
  CheckOptions check_options;
  bool sealed = false;
  std::uint64_t told = 0;
  // The fourth time: with the first batch of the tail, after the three blocks.
  check_options.progress = [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_LE(done, total);
    if (++told != 4) return;
    EXPECT_EQ(done, 3U);
    add(2);
    const auto deadline = Deadline::after(std::chrono::seconds(20));
    while ((*writer)->state().blocks < 4 && !deadline.expired()) std::this_thread::yield();
    sealed = (*writer)->state().blocks == 4;
  };
  const auto report = check(check_options);
  ASSERT_TRUE(sealed);
  EXPECT_EQ(report.damages, 0U) << (report.damage.empty() ? "" : report.damage.front().what);
  EXPECT_EQ(report.blocks, 4U);
  EXPECT_EQ(report.batches, sequence);
  EXPECT_EQ(report.events, sequence * 60);
}

TEST_F(CheckTest, NamesBlockAndColumnOfADamagedChunk) {
  const auto place = static_cast<unsigned>(event::Column::name);
  alter("UPDATE chunks SET data=CAST(substr(data,1,25)||x'ff'||substr(data,27) AS BLOB) WHERE chunk_id=" +
        std::to_string(chunk_id(2, static_cast<std::uint8_t>(place))));
  const auto report = check();
  ASSERT_EQ(report.damages, 1U);
  EXPECT_EQ(report.damage[0].part, "block");
  EXPECT_EQ(report.damage[0].block, 2);
  EXPECT_EQ(report.damage[0].column, "name");
  EXPECT_TRUE(report.damage[0].from && report.damage[0].to);
}

TEST_F(CheckTest, NamesWhatIsMissingExchangedOrContradictsItself) {
  struct Case {
    std::string sql, part, column;
  };
  const auto chunk = [](std::int64_t block, std::uint8_t place) { return std::to_string(chunk_id(block, place)); };
  constexpr auto cwd = static_cast<std::uint8_t>(event::Column::cwd);
  const Case cases[] = {
      {"DELETE FROM chunks WHERE chunk_id=" + chunk(1, cwd), "block", "cwd"},
      {"DELETE FROM chunks WHERE chunk_id=" + chunk(1, header_chunk), "block", "header"},
      {"DELETE FROM chunks WHERE chunk_id=" + chunk(1, batches_chunk), "block", "batches"},
      {"UPDATE chunks SET data=(SELECT data FROM chunks WHERE chunk_id=" + chunk(2, cwd) +
           ") WHERE chunk_id=" + chunk(1, cwd),
       "block", "cwd"},
      {"UPDATE blocks SET last_time=last_time+1 WHERE block_id=3", "block", "time"},
      {"UPDATE blocks SET events=events-1 WHERE block_id=3", "block", ""},
      {"DELETE FROM blocks WHERE block_id=2", "catalogue", ""},
      {"UPDATE epochs SET epoch=zeroblob(16)", "block", ""},
      {"UPDATE live SET event=x'00' WHERE pid=(SELECT min(pid) FROM live)", "live", ""},
      {"UPDATE meta SET value=3 WHERE key='next_event'", "catalogue", ""},
  };
  const auto whole = bytes_of(folder_.file());
  for (const auto& damage : cases) {
    write_bytes(folder_.file(), whole);
    alter(damage.sql);
    const auto report = check();
    ASSERT_GT(report.damages, 0U) << damage.sql;
    EXPECT_EQ(report.damage[0].part, damage.part) << damage.sql << ": " << report.damage[0].what;
    EXPECT_EQ(report.damage[0].column, damage.column) << damage.sql << ": " << report.damage[0].what;
  }
}

TEST_F(CheckTest, SaysWhatItHadNoTimeFor) {
  const auto report = check({.deadline = Deadline::after(std::chrono::nanoseconds(0))});
  EXPECT_NE(report.not_looked_at, "");
  EXPECT_EQ(report.damages, 0U);
}

TEST_F(CheckTest, TruncatedFilesAreToldAndNeverReadWrong) {
  const auto whole = bytes_of(folder_.file());
  for (const std::size_t left : {whole.size() - 4096, whole.size() - 100, whole.size() / 2, std::size_t{5000},
                                 std::size_t{4096}, std::size_t{500}, std::size_t{10}}) {
    write_bytes(folder_.file(), whole.substr(0, left));
    const auto report = check_store(folder_.file(), {});
    ASSERT_TRUE(report) << left << ": " << report.error().message;
    EXPECT_GT(report->damages, 0U) << left;
    auto writer = Writer::open(folder_.options());
    if (!writer) {
      EXPECT_EQ(writer.error().code, Errc::corrupt) << left << ": " << writer.error().message;
    }
  }
}

// What a reader gets of a damaged file: every event as it was, or a mark, or an error.
struct Answer {
  bool failed = false, degraded = false;
  std::map<event::EventId, std::string> events;
};
Answer read_all(const std::string& path) {
  Answer answer;
  auto reader = Reader::open(path);
  if (!reader) {
    answer.failed = true;
    return answer;
  }
  ScanRequest request;
  request.columns.set();
  auto scan = (*reader)->scan(request);
  if (!scan) {
    answer.failed = true;
    return answer;
  }
  while (true) {
    const auto row = (*scan)->next();
    if (!row) {
      answer.failed = true;
      return answer;
    }
    if (!*row) break;
    std::string text;
    for (std::size_t i = 0; i < event::column_count; ++i) {
      std::ostringstream out;
      std::visit(
          [&](const auto& held) {
            if constexpr (!std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) out << held;
          },
          (*scan)->value(static_cast<event::Column>(i)));
      text += out.str() + '\x1f';
    }
    answer.events[(*scan)->event_id()] = std::move(text);
  }
  answer.degraded = !(*scan)->stats().damage.empty();
  return answer;
}

TEST_F(CheckTest, FlippedBitsAnywhereAreNeverAnAnswer) {
  const auto whole = bytes_of(folder_.file());
  const auto right = read_all(folder_.file());
  ASSERT_EQ(right.events.size(), 27U * 60);
  std::mt19937_64 random(99);
  int failed = 0, degraded = 0, unread = 0;
  const char* longer = std::getenv("DE_CRASH_ROUNDS");  // NOLINT(concurrency-mt-unsafe): nothing sets it
  const int rounds = longer == nullptr ? 60 : std::atoi(longer);
  for (int round = 0; round < rounds; ++round) {
    std::string bytes = whole;
    // One bit; often in the first pages, which hold the catalogue; sometimes a handful.
    const auto limit = round % 3 == 0 ? std::min<std::size_t>(bytes.size(), std::size_t{16} * 4096) : bytes.size();
    std::string where;
    for (int flips = round % 10 == 0 ? 5 : 1; flips > 0; --flips) {
      const auto at = random() % limit;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
      where += " byte " + std::to_string(at);
    }
    write_bytes(folder_.file(), bytes);
    std::filesystem::remove(folder_.file() + "-shm");
    const auto answer = read_all(folder_.file());
    if (answer.failed) {
      ++failed;
    } else if (answer.degraded) {
      ++degraded;
      for (const auto& [id, text] : answer.events) ASSERT_EQ(text, right.events.at(id)) << where;
    } else {
      ++unread;
      ASSERT_EQ(answer.events, right.events) << where;
    }
    const auto report = check_store(folder_.file(), {});
    // Another version, another kind of file: refused, by name.
    if (report && (answer.failed || answer.degraded)) {
      EXPECT_GT(report->damages, 0U) << where;
    }
  }
  std::cout << rounds << " damaged files: " << degraded << " answers marked degraded, " << failed << " refused, "
            << unread << " not touched by the damage\n";
  EXPECT_GT(degraded, 0);
}

TEST_F(CheckTest, ATornWalGivesWhatWasWholeBeforeIt) {
  // Copies of a file and its WAL as a crash leaves them, cut or altered at any place.
  const TempFolder other;
  auto options = other.options();
  auto writer = Writer::open(options);
  ASSERT_TRUE(writer);
  for (std::uint64_t sequence = 1; sequence <= 20; ++sequence) {
    ASSERT_TRUE(commit(**writer, make_batch(sequence, {make_event(event::EventKind::exec, 5, 10, "some")})));
  }
  const auto file = bytes_of(other.file()), wal = bytes_of(other.file() + "-wal");
  ASSERT_GT(wal.size(), 20U * 4096);
  std::mt19937_64 random(5);
  std::size_t shorter = 0;
  for (int round = 0; round < 60; ++round) {
    const TempFolder copy;
    std::filesystem::create_directories(copy.path() + "/state");
    write_bytes(copy.file(), file);
    auto torn = wal;
    const auto at = random() % torn.size();
    if (round % 2 == 0)
      torn.resize(at);
    else
      torn[at] = static_cast<char>(torn[at] ^ (1 << random() % 8));
    write_bytes(copy.file() + "-wal", torn);
    auto again = Writer::open(copy.options());
    if (!again) continue;  // the very first commits, of the schema
    auto reader = Reader::open(copy.file());
    ASSERT_TRUE(reader) << reader.error().message;
    const auto found = ids(**reader);
    for (std::size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i], static_cast<event::EventId>(i + 1));
    if (found.size() < 20) ++shorter;
    EXPECT_EQ((*again)->committed_sequence("procmond", make_batch(1, {}).id.epoch), found.size())
        << "the collector is told where to go on";
    EXPECT_EQ(check_store(copy.file(), {})->damages, 0U);
  }
  EXPECT_GT(shorter, 20U);
}

}  // namespace
}  // namespace daemoneye::store
