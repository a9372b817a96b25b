#include "store/writer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <map>

#include "event/testing/random_event.h"
#include "store/ingest.h"
#include "store/store_file.h"
#include "store/testing/temp_store.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using namespace store::testing;
using event::EventKind;
using event::testing::RandomEvents;

std::unique_ptr<Writer> open_writer(const StoreOptions& options) {
  auto writer = Writer::open(options);
  EXPECT_TRUE(writer) << writer.error().message;
  return writer ? std::move(*writer) : nullptr;
}
std::unique_ptr<Reader> open_reader(const std::string& path) {
  auto reader = Reader::open(path);
  EXPECT_TRUE(reader) << reader.error().message;
  return reader ? std::move(*reader) : nullptr;
}

std::vector<event::ProcessEvent> random_events(RandomEvents& random, std::size_t count) {
  std::vector<event::ProcessEvent> events;
  while (events.size() < count) events.push_back(random.next());
  return events;
}

TEST(Ingest, BatchesAreCommittedBetweenTheStepsOfASeal) {
  const TempFolder folder;
  ASSERT_TRUE(prepare_folder(folder.file(), ""));
  auto database = *open_store_for_writing(folder.file(), "");
  db::StatementCache statements(*database);
  Ingest ingest(statements);
  ASSERT_TRUE(ingest.load());
  RandomEvents random(5);
  std::vector<base::Sha256Digest> digests;
  const auto add = [&] {
    const auto batch = make_batch(digests.size() + 1, random_events(random, 20));
    IncomingBatch incoming;
    incoming.id = batch.id;
    incoming.canonical = *event::encode_batch(batch);
    incoming.digest = event::batch_digest(incoming.canonical);
    ASSERT_TRUE(decode(incoming));
    auto transaction = *db::Transaction::begin(*database);
    ASSERT_TRUE(ingest.write(incoming, {}));
    ASSERT_TRUE(ingest.finish_transaction());
    ASSERT_TRUE(transaction.commit());
    ingest.committed();
    digests.push_back(incoming.digest);
  };
  add();
  add();
  EXPECT_EQ(*ingest.seal_step(), Ingest::SealStep::more);
  add();
  EXPECT_EQ(*ingest.seal_step(), Ingest::SealStep::more);
  add();
  EXPECT_EQ(*ingest.seal_step(), Ingest::SealStep::sealed);
  EXPECT_EQ(ingest.tail_batches(), 2U);
  EXPECT_FALSE(ingest.wants_seal(41));
  EXPECT_TRUE(ingest.wants_seal(40));
  EXPECT_EQ(*ingest.seal_step(), Ingest::SealStep::more);
  ingest.rolled_back();  // what was begun is forgotten, and begun anew from the tail
  ASSERT_TRUE(ingest.load());
  EXPECT_TRUE(*ingest.seal());
  EXPECT_EQ(ingest.tail_batches(), 0U);

  auto reader = open_reader(folder.file());
  EXPECT_EQ(reader->stats()->blocks, 2U);
  std::size_t next = 0;
  ASSERT_TRUE(reader->batches([&](const Reader::BatchRow& row) {
    EXPECT_EQ(row.first_event, static_cast<event::EventId>(20 * next + 1));
    const auto canonical = reader->reconstruct_batch(row);
    EXPECT_TRUE(canonical && event::batch_digest(*canonical) == digests.at(next));
    ++next;
    return true;
  }));
  EXPECT_EQ(next, digests.size());
}

TEST(Writer, NumbersEventsInTheOrderOfCommit) {
  const TempFolder folder;
  auto writer = open_writer(folder.options());
  const auto first =
      commit(*writer, make_batch(1, {make_event(EventKind::exec, 1, 10), make_event(EventKind::exec, 2, 11)}));
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->first_event, 1);
  EXPECT_EQ(first->last_event, 2);
  EXPECT_FALSE(first->duplicate);
  const auto second = commit(*writer, make_batch(2, {make_event(EventKind::exec, 3, 12)}));
  EXPECT_EQ(second->first_event, 3);
  const auto empty = commit(*writer, make_batch(3, {}));
  EXPECT_GT(empty->first_event, empty->last_event);
  auto reader = open_reader(folder.file());
  EXPECT_EQ(ids(*reader), (std::vector<event::EventId>{1, 2, 3}));
  EXPECT_EQ(*reader->last_event_id(), 3);
}

TEST(Writer, KeepsABatchOnceHoweverOftenItComes) {
  const TempFolder folder;
  const auto batch = make_batch(1, {make_event(EventKind::exec, 1, 10)});
  {
    auto writer = open_writer(folder.options());
    ASSERT_FALSE(commit(*writer, batch)->duplicate);
    ASSERT_TRUE(commit(*writer, batch)->duplicate);
    EXPECT_EQ(writer->committed_sequence("procmond", batch.id.epoch), 1U);
    EXPECT_EQ(writer->state().duplicates, 1U);
  }
  auto writer = open_writer(folder.options());
  EXPECT_EQ(writer->committed_sequence("procmond", batch.id.epoch), 1U);
  ASSERT_TRUE(commit(*writer, batch)->duplicate);
  // The same number in another epoch is another batch.
  ASSERT_FALSE(commit(*writer, make_batch(1, {make_event(EventKind::exec, 1, 10)}, 2))->duplicate);
  EXPECT_EQ(ids(*open_reader(folder.file())).size(), 2U);
}

TEST(Writer, RefusesBytesThatAreNotTheBatchTheyClaimToBeAndGoesOn) {
  const TempFolder folder;
  auto writer = open_writer(folder.options());
  std::promise<Result<Commit>> done;
  writer->commit_batch(make_batch(1, {}).id, "not a batch", {}, {}, [&](auto result) { done.set_value(result); });
  const auto refused = done.get_future().get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_input);
  EXPECT_FALSE(writer->state().paused);
  EXPECT_FALSE(commit(*writer, make_batch(1, {make_event(EventKind::exec, 1, 10)}))->duplicate);
}

TEST(Writer, IsTheOnlyOne) {
  const TempFolder folder;
  auto writer = open_writer(folder.options());
  const auto second = Writer::open(folder.options());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::unavailable);
  EXPECT_TRUE(open_reader(folder.file())->stats()->agent_running);
  writer.reset();
  EXPECT_FALSE(open_reader(folder.file())->stats()->agent_running);
  EXPECT_TRUE(Writer::open(folder.options()));
}

TEST(Writer, MakesFolderAndFilesReadableForTheGroupAndNobodyElse) {
  const TempFolder folder;
  const auto before = umask(0077);
  auto writer = open_writer(folder.options());
  ASSERT_TRUE(commit(*writer, make_batch(1, {make_event(EventKind::exec, 1, 10)})));
  umask(before);
  const auto mode = [](const std::string& path) {
    return static_cast<int>(std::filesystem::status(path).permissions());
  };
  EXPECT_EQ(mode(folder.path() + "/state"), 0750);
  for (const char* suffix : {"", "-wal", "-shm", ".lock"}) EXPECT_EQ(mode(folder.file() + suffix), 0640) << suffix;
  EXPECT_EQ(mode(folder.file() + ".writer"), 0600) << "a reader could hold it against the writer";
}

TEST(Writer, SealsBlocksWhoseBatchesCanBeRebuiltBitForBit) {
  const TempFolder folder;
  auto options = folder.options();
  options.block_events = 300;
  RandomEvents random(7);
  std::map<std::uint64_t, std::string> canonical;
  {
    auto writer = open_writer(options);
    for (std::uint64_t sequence = 1; sequence <= 40; ++sequence) {
      const auto batch = make_batch(sequence, random_events(random, random.number(0, 60)));
      canonical[sequence] = *event::encode_batch(batch);
      ASSERT_TRUE(commit(*writer, batch));
    }
  }
  auto reader = open_reader(folder.file());
  const auto stats = reader->stats();
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_GT(stats->blocks, 1U);
  EXPECT_EQ(stats->batches, 40U);
  std::vector<Reader::BatchRow> rows;
  ASSERT_TRUE(reader->batches([&](const auto& row) { return rows.push_back(row), true; }));
  ASSERT_EQ(rows.size(), 40U);
  event::EventId next = 1;
  for (const auto& row : rows) {
    EXPECT_EQ(row.first_event, next);
    next = row.last_event + 1;
    const auto rebuilt = reader->reconstruct_batch(row);
    ASSERT_TRUE(rebuilt) << rebuilt.error().message;
    EXPECT_EQ(*rebuilt, canonical.at(row.id.sequence));
    EXPECT_EQ(event::batch_digest(*rebuilt), row.digest);
  }
}

TEST(Writer, ContinuesTheTailOfAnEarlierRun) {
  const TempFolder folder;
  auto options = folder.options();
  options.block_events = 100;
  RandomEvents random(8);
  for (std::uint64_t run = 0; run < 5; ++run) {
    auto writer = open_writer(options);
    for (std::uint64_t i = 1; i <= 3; ++i) {
      ASSERT_TRUE(commit(*writer, make_batch(run * 3 + i, random_events(random, 30))));
    }
  }
  auto reader = open_reader(folder.file());
  EXPECT_EQ(ids(*reader).size(), 450U);
  EXPECT_EQ(ids(*reader).back(), 450);
  EXPECT_GE(reader->stats()->blocks, 3U);
}

TEST(Writer, NeverGivesAnEventIdTwiceEvenWhenAllBlocksAreGone) {
  const TempFolder folder;
  auto options = folder.options();
  options.block_events = 10;
  RandomEvents random(9);
  {
    auto writer = open_writer(options);
    for (std::uint64_t i = 1; i <= 5; ++i) ASSERT_TRUE(commit(*writer, make_batch(i, random_events(random, 10))));
    ASSERT_TRUE(writer->drain(Deadline::after(10s)));
  }
  {
    db::Database::Options raw;
    raw.mode = db::Database::Mode::create_or_write;
    raw.application_id = 0x44457631;
    auto database = db::Database::open(folder.file(), raw);
    ASSERT_TRUE(database);
    ASSERT_TRUE((*database)->execute("DELETE FROM blocks; DELETE FROM chunks; DELETE FROM tail"));
  }
  auto writer = open_writer(options);
  EXPECT_EQ(commit(*writer, make_batch(6, random_events(random, 1)))->first_event, 51);
}

TEST(Writer, RemovesWholeBlocksByAgeAndCountsThem) {
  const TempFolder folder;
  auto options = folder.options();
  options.block_events = 10;
  options.retention_days = 0;
  const std::int64_t now = base::wall_now().ns, day = 86'400'000'000'000;
  auto writer = open_writer(options);
  std::vector<event::ProcessEvent> old, young;
  for (event::Pid pid = 1; pid <= 10; ++pid) {
    old.push_back(make_event(EventKind::exec, pid, now - 3 * day));
    young.push_back(make_event(EventKind::exec, pid, now));
  }
  ASSERT_TRUE(commit(*writer, make_batch(1, old)));
  ASSERT_TRUE(commit(*writer, make_batch(2, young)));
  writer.reset();
  options.retention_days = 1;
  writer = open_writer(options);
  const auto deadline = Deadline::after(20s);
  while (writer->state().retention_events_removed < 10 && !deadline.expired()) std::this_thread::yield();
  EXPECT_EQ(writer->state().retention_events_removed, 10U);
  auto reader = open_reader(folder.file());
  EXPECT_EQ(ids(*reader), (std::vector<event::EventId>{11, 12, 13, 14, 15, 16, 17, 18, 19, 20}));
  // Of before, nothing is known any more.
  writer->set_collector("procmond", true, Timestamp{now});
  ASSERT_TRUE(commit(*writer, make_batch(3, {})));
  EXPECT_EQ(*reader->record_begin(), Timestamp{now});
  const auto over_both = *reader->completeness({Timestamp{now - 4 * day}, {}}, Timestamp{now});
  ASSERT_EQ(over_both.reasons.size(), 1U);
  EXPECT_EQ(over_both.reasons.front(),
            (event::Incompleteness{"before_record", {}, Timestamp{now - 4 * day}, Timestamp{now}}));
  EXPECT_TRUE(reader->completeness({}, Timestamp{now})->complete());
}

TEST(Writer, WhatIsGoneByAgeIsNotThereAgainForAnOlderEventThatStays) {
  const TempFolder folder;
  auto options = folder.options();
  options.block_events = 10;
  const std::int64_t now = base::wall_now().ns, day = 86'400'000'000'000;
  auto writer = open_writer(options);
  std::vector<event::ProcessEvent> old, mixed;
  for (event::Pid pid = 1; pid <= 10; ++pid) {
    old.push_back(make_event(EventKind::exec, pid, now - 3 * day));
    // Its block stays, for what is young in it.
    mixed.push_back(make_event(EventKind::exec, pid, pid == 1 ? now - 4 * day : now));
  }
  ASSERT_TRUE(commit(*writer, make_batch(1, old)));
  ASSERT_TRUE(commit(*writer, make_batch(2, mixed)));
  writer->set_collector("procmond", true, Timestamp{now});
  ASSERT_TRUE(commit(*writer, make_batch(3, {})));
  auto reader = open_reader(folder.file());
  EXPECT_EQ(*reader->record_begin(), Timestamp{now - 4 * day});
  writer.reset();
  options.retention_days = 1;
  writer = open_writer(options);
  const auto deadline = Deadline::after(20s);
  while (writer->state().retention_events_removed < 10 && !deadline.expired()) std::this_thread::yield();
  EXPECT_EQ(*reader->record_begin(), Timestamp{now - 3 * day + 1});
}

TEST(Writer, KeepsTheFileBelowItsSize) {
  const TempFolder folder;
  auto options = folder.options();
  options.block_events = 1000;
  options.max_size_mb = 8;
  RandomEvents random(10);
  auto writer = open_writer(options);
  std::uint64_t sequence = 0;
  const auto deadline = Deadline::after(100s);
  while (writer->state().retention_events_removed == 0 && !deadline.expired()) {
    ASSERT_TRUE(commit(*writer, make_batch(++sequence, random_events(random, 1000))));
  }
  EXPECT_GT(writer->state().retention_events_removed, 0U);
  ASSERT_TRUE(writer->drain(Deadline::after(10s)));
  auto reader = open_reader(folder.file());
  const auto left = ids(*reader);
  ASSERT_FALSE(left.empty());
  EXPECT_EQ(left.back(), static_cast<event::EventId>(sequence * 1000));
  EXPECT_GT(left.front(), 1);
  const auto stats = *reader->stats();
  EXPECT_LT(stats.file_bytes - stats.free_bytes, std::uint64_t{12} * 1024 * 1024);
}

TEST(Writer, GivesBackWhatItCouldNotWriteWhenItCloses) {
  const TempFolder folder;
  auto writer = open_writer(folder.options());
  writer->close(Deadline::after(5s));
  const auto late = commit(*writer, make_batch(1, {}));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::unavailable);
}

TEST(Writer, ACallbackMayWriteAgain) {
  const TempFolder folder;
  auto options = folder.options();
  options.queue_capacity = 1;
  auto writer = open_writer(options);
  std::promise<bool> done;
  auto batch = make_batch(1, {make_event(EventKind::exec, 1, 10)});
  const auto canonical = *event::encode_batch(batch);
  writer->commit_batch(batch.id, canonical, event::batch_digest(canonical), {}, [&](const auto&) {
    for (int i = 0; i < 5; ++i) writer->raise({}, i, {});
    writer->raise({}, 9, [&](const auto& result) { done.set_value(result.has_value()); });
  });
  EXPECT_TRUE(done.get_future().get());
  EXPECT_EQ(*open_reader(folder.file())->stream_watermark(), 9);
}

TEST(Store, IsMadeByANewerVersion) {
  const TempFolder folder;
  open_writer(folder.options()).reset();
  {
    db::Database::Options raw;
    raw.mode = db::Database::Mode::create_or_write;
    raw.application_id = 0x44457631;
    ASSERT_TRUE((*db::Database::open(folder.file(), raw))->execute("PRAGMA user_version=99"));
  }
  const auto writer = Writer::open(folder.options());
  ASSERT_FALSE(writer);
  EXPECT_NE(writer.error().message.find("newer version"), std::string::npos);
  const auto reader = Reader::open(folder.file());
  ASSERT_FALSE(reader);
  EXPECT_NE(reader.error().message.find("newer version"), std::string::npos);
}

}  // namespace
}  // namespace daemoneye::store
