// What somebody who may only read can do to keep the store from being written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/shm_locks.h"
#include "db/testing/read_locks.h"
#include "store/store_file.h"
#include "store/testing/event_generator.h"
#include "store/testing/temp_store.h"

namespace daemoneye::store {
namespace {

using namespace testing;
using db::testing::ReadLocks;

std::unique_ptr<Writer> open_writer(const StoreOptions& options) {
  auto writer = Writer::open(options);
  EXPECT_TRUE(writer) << writer.error().message;
  return writer ? std::move(*writer) : nullptr;
}

TEST(StoreDenial, AReadersLockStopsNoWriter) {
  const TempFolder folder;
  auto writer = open_writer(folder.options());
  ASSERT_TRUE(commit(*writer, make_batch(1, {make_event(event::EventKind::exec, 1, 10)})));
  const ReadLocks locks(folder.file() + "-shm", db::first_shm_lock, db::writers_shm_locks);
  for (std::uint64_t batch = 2; batch <= 20; ++batch) {
    const auto done = commit(*writer, make_batch(batch, {make_event(event::EventKind::exec, 1, 10)}));
    ASSERT_TRUE(done) << done.error().message;
  }
  EXPECT_FALSE(writer->state().paused) << writer->state().reason;
  writer.reset();
  writer = open_writer(folder.options());  // as after a crash: what is in the log is found again
  EXPECT_EQ(writer->committed_sequence("procmond", make_batch(1, {}).id.epoch), 20U);
}

TEST(StoreDenial, AReadersLockKeepsNoWriterFromStarting) {
  const TempFolder folder;
  {
    const auto writer = open_writer(folder.options());
  }
  EXPECT_FALSE(WriterLock::is_held(folder.file()));
  const ReadLocks locks(folder.file() + ".lock", 0, 0);
  EXPECT_FALSE(WriterLock::is_held(folder.file())) << "a reader does not look like a writer";
  auto writer = open_writer(folder.options());
  ASSERT_TRUE(commit(*writer, make_batch(1, {make_event(event::EventKind::exec, 1, 10)})));
  const auto second = Writer::open(folder.options());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::unavailable);
}

TEST(StoreDenial, ALockFileThatOthersMayOpenIsNotTrusted) {
  const TempFolder folder;
  {
    const auto writer = open_writer(folder.options());
  }
  std::filesystem::permissions(folder.file() + ".writer", std::filesystem::perms(0640));
  const auto refused = Writer::open(folder.options());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr(".writer"));
}

// Who may write the file locks these bytes for writing: it is waited for, and said so.
TEST(StoreDenial, AnotherWriterIsWaitedFor) {
  const TempFolder folder;
  auto writer = open_writer(folder.options());
  ASSERT_TRUE(commit(*writer, make_batch(1, {make_event(event::EventKind::exec, 1, 10)})));
  std::promise<Result<Commit>> done;
  {
    const ReadLocks lock(folder.file() + "-shm", db::first_shm_lock, 1, F_WRLCK);
    const auto batch = make_batch(2, {make_event(event::EventKind::exec, 1, 10)});
    auto bytes = event::encode_batch(batch).value();
    const auto digest = event::batch_digest(bytes);
    writer->commit_batch(batch.id, std::move(bytes), digest, "",
                         [&](Result<Commit> result) { done.set_value(std::move(result)); });
    const auto deadline = Deadline::after(std::chrono::seconds(60));
    while (!writer->state().paused && !deadline.expired()) std::this_thread::yield();
    EXPECT_TRUE(writer->state().paused) << "nothing is written beside somebody who may write";
  }
  EXPECT_TRUE(done.get_future().get());
}

}  // namespace
}  // namespace daemoneye::store
