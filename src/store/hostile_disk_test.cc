// Disks that fail in part, damage within the tail, and what would be too large to be read again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>

#include "db/vfs.h"
#include "store/ingest.h"
#include "store/reader_pool.h"
#include "store/retention.h"
#include "store/store_file.h"
#include "store/testing/temp_store.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using namespace store::testing;
using event::EventKind;
using ::testing::HasSubstr;

// Commits go to the WAL alone. Here it works, and the file itself cannot be written; or a sync of the WAL hangs.
class PartlyBrokenDisk final : public db::Vfs {
 public:
  PartlyBrokenDisk() : Vfs("partly_broken", sqlite3_vfs_find("unix"), true) {}
  std::atomic<bool> file_fails = false, sync_hangs = false;

  std::unique_ptr<db::VfsFile> wrap(const char*, int flags, std::unique_ptr<std::byte[]> storage) override {
    return std::make_unique<File>(std::move(storage), *this, flags);
  }

 private:
  class File final : public db::VfsFile {
   public:
    File(std::unique_ptr<std::byte[]> storage, PartlyBrokenDisk& disk, int flags)
        : VfsFile(std::move(storage)), disk_(disk), flags_(flags) {}
    int write(const void* bytes, int amount, sqlite3_int64 offset) override {
      if ((flags_ & SQLITE_OPEN_MAIN_DB) != 0 && disk_.file_fails) return SQLITE_IOERR_WRITE;
      return VfsFile::write(bytes, amount, offset);
    }
    int sync(int flags) override {
      if ((flags_ & SQLITE_OPEN_WAL) != 0) disk_.sync_hangs.wait(true);
      return VfsFile::sync(flags);
    }

   private:
    PartlyBrokenDisk& disk_;
    int flags_;
  };
};

class HostileDisk : public ::testing::Test {
 protected:
  void open(const StoreOptions& options) {
    auto writer = Writer::open(options);
    ASSERT_TRUE(writer) << writer.error().message;
    writer_ = std::move(*writer);
  }
  // Batches of events with arguments that do not compress.
  void fill(int batches, int events = 100, std::size_t bytes = 1000) {
    for (int i = 0; i < batches; ++i) {
      std::vector<event::ProcessEvent> made;
      for (int n = 0; n < events; ++n) {
        ++pid_;
        auto event = make_event(EventKind::exec, pid_, pid_);
        std::string arguments(bytes, ' ');
        for (auto& letter : arguments) letter = static_cast<char>('!' + random_() % 90);
        event.process.arguments = event::Arguments::from_nul_separated(arguments + '\0');
        made.push_back(std::move(event));
      }
      ASSERT_TRUE(commit(*writer_, make_batch(++sequence_, std::move(made))));
    }
  }
  std::size_t rows_with_command_line() {
    auto reader = Reader::open(folder_.file());
    ScanRequest request;
    request.columns.set(static_cast<std::size_t>(event::Column::command_line));
    return ids(**reader, request).size();
  }
  template <typename Condition>
  bool wait(Condition condition) {
    const auto deadline = Deadline::after(60s);
    while (!condition() && !deadline.expired()) std::this_thread::sleep_for(5ms);
    return condition();
  }

  TempFolder folder_;
  std::unique_ptr<Writer> writer_;
  std::uint64_t sequence_ = 0;
  event::Pid pid_ = 0;
  std::mt19937_64 random_{1};
};

// 16 KiB of arguments an exec, of the kind that compresses to nothing: blocks are bounded by what they are when read.
TEST_F(HostileDisk, BlocksAreBoundedByWhatTheyAreUncompressed) {
  open(folder_.options());
  const int per = 60;
  for (int batch = 0; batch < 22; ++batch) {
    std::vector<event::ProcessEvent> made;
    for (int n = 0; n < per; ++n) {
      ++pid_;
      auto event = make_event(EventKind::exec, pid_, pid_);
      std::string arguments = std::to_string(pid_);
      arguments.resize(16383, 'a');
      event.process.arguments = event::Arguments::from_nul_separated(arguments + '\0');
      made.push_back(std::move(event));
    }
    ASSERT_TRUE(commit(*writer_, make_batch(++sequence_, std::move(made))));
  }
  EXPECT_TRUE(wait([&] { return writer_->state().blocks >= 1; }));
  EXPECT_LT(writer_->state().events, 8192U) << "a block of so many events would be made in any case";
  EXPECT_EQ(rows_with_command_line(), 22U * per);
}

TEST_F(HostileDisk, ACheckpointThatFailsIsToldAndCostsNoHistory) {
  PartlyBrokenDisk disk;
  auto options = folder_.options();
  options.block_events = 500;
  options.max_size_mb = 40;
  open(options);
  fill(40);  // 4 MB
  ASSERT_TRUE(wait([&] { return writer_->state().blocks >= 2; }));
  disk.file_fails = true;
  std::thread load([&] { fill(360); });  // more than the bound
  EXPECT_TRUE(wait([&] { return !writer_->state().checkpoint_error.empty(); }));
  EXPECT_TRUE(wait([&] { return writer_->state().paused; }));
  EXPECT_THAT(writer_->state().reason, HasSubstr("max_size_mb is reached"));
  EXPECT_THAT(writer_->state().checkpoint_error, HasSubstr("disk I/O error"));
  EXPECT_EQ(writer_->state().retention_events_by_size, 0U);
  disk.file_fails = false;
  load.join();
  EXPECT_TRUE(wait([&] { return writer_->state().checkpoint_error.empty() && !writer_->state().paused; }));
  EXPECT_EQ(writer_->state().events + writer_->state().retention_events_by_size, 40000U);
  writer_.reset();
}

TEST_F(HostileDisk, ACommitThatHangsIsToldAndWhoAsksDoesNotHang) {
  PartlyBrokenDisk disk;
  open(folder_.options());
  fill(1, 5);
  disk.sync_hangs = true;
  int answers = 0;
  for (int i = 0; i < 400; ++i) {
    writer_->probe([&](const Result<void>& result) { answers += result ? 0 : 1; });
  }
  EXPECT_EQ(answers, 399) << "all but the first, which waits";
  EXPECT_TRUE(wait([&] { return writer_->state().paused; }));
  EXPECT_THAT(writer_->state().reason, HasSubstr("under way"));
  disk.sync_hangs = false;
  disk.sync_hangs.notify_all();
  EXPECT_TRUE(wait([&] { return !writer_->state().paused; }));
  std::promise<bool> done;
  ASSERT_TRUE(writer_->drain(Deadline::after(60s)));
  writer_->probe([&](const Result<void>& result) { done.set_value(result.has_value()); });
  EXPECT_TRUE(done.get_future().get());
  writer_.reset();
}

TEST_F(HostileDisk, AFlippedBitInTheTailCostsOneBatchOnly) {
  open(folder_.options());
  fill(6, 100, 400);
  writer_.reset();
  {
    std::string needle;
    {
      auto database = open_store_for_reading(folder_.file());
      ASSERT_TRUE(database);
      auto select = (*database)->prepare("SELECT substr(canonical, 30000, 24) FROM tail WHERE batch_no=3");
      ASSERT_TRUE(select && *select->step());
      needle = select->blob(0);
    }
    std::fstream file(folder_.file(), std::ios::in | std::ios::out | std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(file)), {});
    const auto at = all.find(needle);
    ASSERT_NE(at, std::string::npos);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(all[at] ^ 1));
  }
  auto options = folder_.options();
  options.block_events = 300;
  open(options);
  for (int round = 0; round < 4; ++round) {
    fill(10, 100, 400);
    ASSERT_TRUE(wait([&] { return writer_->state().blocks >= static_cast<std::uint64_t>(2 + 3 * round); }))
        << writer_->state().sealing_error;
  }
  EXPECT_EQ(writer_->state().sealing_error, "");
  auto reader = Reader::open(folder_.file());
  const auto stats = (*reader)->stats();
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_LT(stats->tail_events, 600U) << "what cannot be removed, and less than a block";
  ASSERT_EQ(stats->recent_gaps.size(), 1U);
  EXPECT_EQ(stats->recent_gaps[0].gap.reason, "corrupt_block");
  EXPECT_EQ(stats->recent_gaps[0].gap.count, 100U);
  ScanRequest request;
  request.columns.set(static_cast<std::size_t>(event::Column::command_line));
  EXPECT_EQ(ids(**reader, request).size(), 4500U);
  writer_.reset();
  // And once more after a restart.
  open(options);
  fill(10, 100, 400);
  EXPECT_TRUE(wait([&] { return writer_->state().blocks >= 16; }))
      << writer_->state().blocks << " " << writer_->state().events;
  EXPECT_EQ(writer_->state().sealing_error, "");
  EXPECT_EQ(rows_with_command_line(), 5500U);
}

TEST_F(HostileDisk, HealthsConnectionsDoNotAddUp) {
  open(folder_.options());
  ReaderPool pool(folder_.file(), 3);
  for (int i = 0; i < 20; ++i) {
    auto lease = pool.take_new(Deadline::after(10s));
    ASSERT_TRUE(lease);
    EXPECT_LE(pool.state().on_loan + pool.state().idle, 3U);
  }
}

TEST_F(HostileDisk, AClockThatJumpsForwardTakesNoHistoryWithItAtOnce) {
  open(folder_.options());
  fill(3);
  writer_.reset();
  auto database = open_store_for_writing(folder_.file(), "");
  ASSERT_TRUE(database) << database.error().message;
  db::StatementCache statements(**database);
  {
    Ingest ingest(statements);
    ASSERT_TRUE(ingest.load());
    ASSERT_TRUE(*ingest.seal());
  }
  constexpr std::int64_t day = 86'400'000'000'000;
  Retention retention(statements, {30, 0, 0, 0});
  EXPECT_FALSE(*retention.step(Timestamp{10 * day}));
  EXPECT_FALSE(*retention.step(Timestamp{4000 * day}));
  EXPECT_EQ(retention.removed().events, 0U);
  EXPECT_FALSE(*retention.step(Timestamp{10 * day + 1000}));  // put right
  // Nor at a start, when nothing but what is stored tells how late it is.
  Retention after_restart(statements, {30, 0, 0, 0});
  EXPECT_FALSE(*after_restart.step(Timestamp{4000 * day}));
  EXPECT_EQ(after_restart.removed().events, 0U);
  // A collector that was here until then: these days have passed.
  ASSERT_TRUE((*database)->execute("INSERT INTO collectors VALUES('procmond', 0, " + std::to_string(4000 * day) + ")"));
  Retention late(statements, {30, 0, 0, 0});
  EXPECT_TRUE(*late.step(Timestamp{4000 * day}));
  EXPECT_EQ(late.removed().events, 300U);
}

}  // namespace
}  // namespace daemoneye::store
