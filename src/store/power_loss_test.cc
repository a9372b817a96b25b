// What is left of the store when the disk fails or the power goes, on a disk that keeps of what was not synced whatever
// it likes (db/testing/fault_vfs.h). DE_CRASH_ROUNDS makes it longer: `make crash` does.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <set>
#include <thread>

#include "db/testing/fault_vfs.h"
#include "store/testing/temp_store.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using namespace store::testing;
using db::testing::FaultVfs;
using event::EventKind;

constexpr std::size_t events_a_batch = 15;

unsigned rounds_wanted(unsigned short_rounds) {
  const char* text = std::getenv("DE_CRASH_ROUNDS");  // NOLINT(concurrency-mt-unsafe): nothing sets it
  return text == nullptr ? short_rounds : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

event::Batch numbered(std::uint64_t sequence) {
  std::vector<event::ProcessEvent> events;
  for (std::size_t i = 0; i < events_a_batch; ++i) {
    const auto pid = static_cast<event::Pid>(sequence * events_a_batch + i);
    events.push_back(make_event(i % 3 == 0 ? EventKind::exit : EventKind::exec, pid / 2, std::int64_t{pid} + 1,
                                "program" + std::to_string(pid % 97)));
  }
  return make_batch(sequence, std::move(events));
}

void submit(Writer& writer, std::uint64_t sequence, std::atomic<std::uint64_t>& acknowledged) {
  const auto batch = numbered(sequence);
  auto canonical = *event::encode_batch(batch);
  const auto digest = event::batch_digest(canonical);
  writer.commit_batch(batch.id, std::move(canonical), digest, {}, [&acknowledged](const auto& result) {
    if (result) acknowledged = std::max(acknowledged.load(), result->id.sequence);
  });
}

StoreOptions small_blocks(const TempFolder& folder) {
  auto options = folder.options();
  options.block_events = 100;
  options.queue_capacity = 4096;
  return options;
}

// Every batch up to `acknowledged` once, as it was committed; what came after it, in order and whole.
void expect_whole(const std::string& path, std::uint64_t acknowledged) {
  auto reader = Reader::open(path);
  ASSERT_TRUE(reader) << reader.error().message;
  std::uint64_t next = 1;
  event::EventId next_event = 1;
  std::vector<Reader::BatchRow> rows;
  const auto read = (*reader)->batches([&](const auto& row) {
    EXPECT_EQ(row.id.sequence, next) << "lost, twice or out of order";
    EXPECT_EQ(row.first_event, next_event);
    next = row.id.sequence + 1;
    next_event = row.last_event + 1;
    rows.push_back(row);
    return true;
  });
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_GE(next - 1, acknowledged) << "an acknowledged batch is lost";
  for (const auto& row : rows) {
    const auto bytes = (*reader)->reconstruct_batch(row);
    ASSERT_TRUE(bytes) << bytes.error().message;
    ASSERT_EQ(event::batch_digest(*bytes), row.digest);
  }
}

// Commits until the power goes. Some wait for their acknowledgement, so that commits are of any size.
void write_until_dark(const FaultVfs& disk, Writer& writer, std::mt19937_64& random,
                      std::atomic<std::uint64_t>& acknowledged) {
  auto next = writer.committed_sequence("procmond", numbered(1).id.epoch) + 1;
  // Those that were committed and not acknowledged come again.
  for (auto again = acknowledged + 1; again < next; ++again) submit(writer, again, acknowledged);
  for (unsigned i = 0; i < 1500 && !disk.powerless(); ++i, ++next) {
    submit(writer, next, acknowledged);
    const bool wait = random() % 2 == 0;
    while (wait && acknowledged < next && !disk.powerless()) std::this_thread::yield();
  }
}

TEST(PowerLoss, LosesNothingThatWasAcknowledgedAndTheFileAlwaysOpens) {
  const unsigned rounds = rounds_wanted(30);
  constexpr unsigned rounds_a_file = 15;
  std::mt19937_64 random(rounds);
  std::uint64_t kept = 0;
  unsigned at_creation = 0;
  for (unsigned round = 0; round < rounds;) {
    const TempFolder folder;
    FaultVfs disk(random());
    std::atomic<std::uint64_t> acknowledged = 0;
    for (unsigned i = 0; i < rounds_a_file && round < rounds; ++i, ++round) {
      disk.cut_power_after(random() % (i == 0 ? 60 : 900));
      {
        auto writer = Writer::open(small_blocks(folder));
        if (writer) {
          write_until_dark(disk, **writer, random, acknowledged);
          disk.cut_power();
          (*writer)->close(Deadline::after(0ms));
        } else {
          ASSERT_TRUE(disk.powerless()) << "round " << round << ": " << writer.error().message;
          ++at_creation;
        }
      }
      disk.restore_power();
      if (acknowledged == 0) continue;  // it may not be there yet
      ASSERT_NO_FATAL_FAILURE(expect_whole(folder.file(), acknowledged)) << "round " << round;
    }
    {
      auto writer = Writer::open(small_blocks(folder));
      ASSERT_TRUE(writer) << writer.error().message;
    }
    kept += acknowledged;
  }
  std::cout << rounds << " power losses (" << at_creation << " while opening), " << kept
            << " acknowledged batches: 0 lost, 0 twice\n";
}

TEST(PowerLoss, ADiskThatFailsPausesTheStoreAndNothingAcknowledgedIsLostWhateverFollows) {
  const unsigned rounds = rounds_wanted(24);
  std::mt19937_64 random(7);
  for (unsigned round = 0; round < rounds; ++round) {
    const TempFolder folder;
    FaultVfs disk(random());
    std::atomic<std::uint64_t> acknowledged = 0;
    auto opened = Writer::open(small_blocks(folder));
    ASSERT_TRUE(opened) << opened.error().message;
    auto& writer = **opened;
    constexpr std::uint64_t batches = 60;
    using Fault = FaultVfs::Fault;
    const auto fault =
        std::array{Fault::write_full, Fault::write_error, Fault::read_only, Fault::sync_error}[round / 2 % 4];
    disk.fail(fault, random() % 60, UINT64_MAX);
    for (std::uint64_t i = 1; i <= batches; ++i) submit(writer, i, acknowledged);
    const auto deadline = Deadline::after(20s);
    while (!writer.state().paused && acknowledged < batches && !deadline.expired()) std::this_thread::yield();
    if (acknowledged < batches) {
      ASSERT_TRUE(writer.state().paused) << "round " << round;
      EXPECT_FALSE(writer.state().reason.empty());
    }
    if (round % 2 == 0) {
      disk.heal();
      ASSERT_TRUE(writer.drain(Deadline::after(20s)));
      EXPECT_EQ(acknowledged, batches) << "it goes on by itself";
      EXPECT_FALSE(writer.state().paused);
    }
    disk.cut_power();
    writer.close(Deadline::after(0ms));
    opened->reset();
    disk.restore_power();
    ASSERT_NO_FATAL_FAILURE(expect_whole(folder.file(), acknowledged)) << "round " << round;
  }
}

TEST(PowerLoss, AFileThatCannotBeOpenedIsAnErrorAndLeftAlone) {
  const TempFolder folder;
  FaultVfs disk(1);
  disk.fail(FaultVfs::Fault::open_error, 0, UINT64_MAX);
  const auto refused = Writer::open(folder.options());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unavailable);
  disk.heal();
  EXPECT_TRUE(Writer::open(folder.options()));
}

}  // namespace
}  // namespace daemoneye::store
