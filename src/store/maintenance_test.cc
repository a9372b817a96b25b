// What keeps a store within its bounds and in order while it is used: purge, compact, retention, a stuck reader.
#include "store/maintenance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <iterator>
#include <thread>

#include "event/batch.h"
#include "event/testing/random_event.h"
#include "store/check.h"
#include "store/store_file.h"
#include "store/testing/temp_store.h"
#include "store/wal_watch.h"

namespace daemoneye::store {
namespace {

using namespace std::chrono_literals;
using namespace store::testing;
using event::EventKind;
using Kind = MaintenanceRequest::Kind;

class MaintenanceTest : public ::testing::Test {
 protected:
  void open(StoreOptions options) {
    auto writer = Writer::open(options);
    ASSERT_TRUE(writer) << writer.error().message;
    writer_ = std::move(*writer);
  }
  StoreOptions blocks_of(std::uint32_t events) const {
    auto options = folder_.options();
    options.block_events = events;
    return options;
  }
  // Events a microsecond apart, from where the last call ended.
  void fill(std::uint64_t batches, int events_a_batch = 10) {
    for (std::uint64_t i = 0; i < batches; ++i) {
      std::vector<event::ProcessEvent> events;
      for (int n = 0; n < events_a_batch; ++n) {
        events.push_back(random_.next());
        events.back().time.ns = clock_ += 1000;
      }
      ASSERT_TRUE(commit(*writer_, make_batch(++sequence_, std::move(events))));
    }
  }
  MaintenanceState maintain(const MaintenanceRequest& request) {
    const auto id = writer_->start_maintenance(request);
    EXPECT_TRUE(id) << id.error().message;
    const auto deadline = Deadline::after(60s);
    while (writer_->maintenance().running && !deadline.expired()) std::this_thread::yield();
    EXPECT_EQ(writer_->maintenance().id, *id);
    return writer_->maintenance();
  }
  std::unique_ptr<Reader> reader() const {
    auto reader = Reader::open(folder_.file());
    EXPECT_TRUE(reader) << reader.error().message;
    return reader ? std::move(*reader) : nullptr;
  }
  static std::set<std::string> reasons_of(const event::Completeness& completeness) {
    std::set<std::string> reasons;
    for (const auto& reason : completeness.reasons) reasons.insert(reason.reason);
    return reasons;
  }
  void raise_alert(const std::string& id, std::int64_t time, bool waits) {
    ASSERT_TRUE(raise(*writer_, {alert_of(id, time, waits)}));
  }
  static Writer::Raise alert_of(const std::string& id, std::int64_t time, bool waits) {
    Alert alert;
    alert.alert_id = id;
    alert.time.ns = alert.last_seen.ns = time;
    alert.rule_id = "rule";
    alert.row_json = "{}";
    alert.description = std::string(2000, 'd');
    std::vector<Route> sinks;
    if (waits) sinks.emplace_back("stdout");
    return {alert, {}, sinks};
  }

  TempFolder folder_;
  std::unique_ptr<Writer> writer_;
  event::testing::RandomEvents random_{3};
  std::uint64_t sequence_ = 0;
  std::int64_t clock_ = 1'700'000'000'000'000'000;
};

TEST_F(MaintenanceTest, PurgeOfAMomentRemovesWhatIsBeforeItAndSaysSoInAnswers) {
  open(blocks_of(100));
  fill(30);                                  // three blocks
  const auto cut = clock_ - 1000 * 100 + 1;  // just after the second block
  raise_alert("old", clock_ - 1000 * 150, false);
  raise_alert("old and waiting", clock_ - 1000 * 150, true);
  raise_alert("young", clock_, false);
  const auto state = maintain({Kind::purge, Timestamp{cut}});
  EXPECT_EQ(state.error, "");
  EXPECT_EQ(state.events_removed, 200U);
  EXPECT_EQ(state.done, state.total);
  EXPECT_EQ(state.blocks_kept, 0U);
  auto left = reader();
  const auto found = ids(*left);
  ASSERT_EQ(found.size(), 100U);
  EXPECT_EQ(found.front(), 201);
  std::set<std::string> alerts;
  const auto listed = left->alerts(10);
  ASSERT_TRUE(listed);
  for (const auto& alert : *listed) alerts.insert(alert.alert_id);
  EXPECT_EQ(alerts, (std::set<std::string>{"old and waiting", "young"})) << "a purge silences no alert";
  const auto whole = *left->completeness({Timestamp{cut}, Timestamp{clock_}}, Timestamp{clock_});
  EXPECT_FALSE(reasons_of(whole).contains("purged"));
  const auto cut_off = *left->completeness({Timestamp{cut - 1'000'000}, Timestamp{clock_}}, Timestamp{clock_});
  EXPECT_TRUE(reasons_of(cut_off).contains("purged"));
  EXPECT_FALSE(reasons_of(cut_off).contains("before_record")) << "one reason is enough";
  EXPECT_EQ(check_store(folder_.file(), {})->damages, 0U);
}

TEST_F(MaintenanceTest, PurgeKeepsABlockThatIsPartlyYoungerAndTellsIt) {
  open(blocks_of(100));
  fill(10);
  const auto state = maintain({Kind::purge, Timestamp{clock_ - 1000 * 50}});
  EXPECT_EQ(state.events_removed, 0U);
  EXPECT_EQ(state.blocks_kept, 1U);
  EXPECT_EQ(ids(*reader()).size(), 100U);
}

TEST_F(MaintenanceTest, PurgeOfEverythingTakesTheTailTooAndForgetsNoBatch) {
  open(blocks_of(100));
  fill(25);
  const auto state = maintain({Kind::purge, std::nullopt});
  EXPECT_EQ(state.events_removed, 250U);
  EXPECT_TRUE(ids(*reader()).empty());
  const auto again = commit(*writer_, make_batch(sequence_, {}));
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->duplicate) << "a batch that comes again is known still";
  fill(1);
  EXPECT_EQ(ids(*reader()).front(), 251) << "numbers of events are not given twice";
  EXPECT_EQ(check_store(folder_.file(), {})->damages, 0U);
}

TEST_F(MaintenanceTest, CompactGivesTheSpaceBackWhileBatchesCome) {
  open(blocks_of(1000));
  fill(20, 1000);
  maintain({Kind::purge, std::nullopt});
  const auto before = writer_->state().file_bytes;
  std::atomic<bool> stop = false;
  double longest_ms = 0;
  std::thread load([&] {
    std::uint64_t next = sequence_ + 1;
    while (!stop) {
      const auto begin = base::SteadyClock::now();
      EXPECT_TRUE(commit(*writer_, make_batch(next++, {make_event(EventKind::exec, 7, clock_)})));
      longest_ms =
          std::max(longest_ms, std::chrono::duration<double, std::milli>(base::SteadyClock::now() - begin).count());
    }
  });
  const auto state = maintain({Kind::compact, {}});
  stop = true;
  load.join();
  EXPECT_EQ(state.error, "");
  EXPECT_EQ(state.done, state.total);
  EXPECT_GT(state.bytes_freed, 1024U * 1024);
  EXPECT_LT(writer_->state().file_bytes, before);
  EXPECT_EQ(reader()->stats()->free_bytes, 0U);
  std::cout << "compacted " << before / 1024 << " KiB to " << writer_->state().file_bytes / 1024
            << " KiB; the longest commit meanwhile took " << longest_ms << " ms\n";
  EXPECT_EQ(check_store(folder_.file(), {})->damages, 0U);
}

TEST_F(MaintenanceTest, AnalyzeFillsThePlannersTables) {
  open(blocks_of(100));
  fill(20);
  EXPECT_EQ(maintain({Kind::analyze, {}}).error, "");
  auto database = reader();
  auto select = database->database().prepare("SELECT count(*) FROM sqlite_stat1");
  ASSERT_TRUE(select) << select.error().message;
  ASSERT_TRUE(*select->step());
  EXPECT_GT(select->integer(0), 0);
}

TEST_F(MaintenanceTest, OneAtATime) {
  open(blocks_of(100));
  fill(300);
  ASSERT_TRUE(writer_->start_maintenance({Kind::purge, std::nullopt}));
  const auto second = writer_->start_maintenance({Kind::compact, {}});
  if (!second) {
    EXPECT_EQ(second.error().code, Errc::unavailable);
  } else {
    EXPECT_FALSE(writer_->maintenance().id == 1) << "the first was done already";
  }
}

TEST_F(MaintenanceTest, AProbeIsADurableCommit) {
  open(blocks_of(100));
  std::promise<Result<void>> done;
  const auto before = writer_->state().commits;
  writer_->probe([&](auto result) { done.set_value(std::move(result)); });
  EXPECT_TRUE(done.get_future().get());
  EXPECT_GT(writer_->state().commits, before);
}

TEST_F(MaintenanceTest, SizeCutsTheOldestOfEveryTableAndAnswersOverItSaySo) {
  auto options = blocks_of(500);
  options.max_size_mb = 4;
  open(options);
  // Two thirds of what there is room for are old alerts, which no block can make room for.
  std::vector<Writer::Raise> alerts;
  for (int i = 0; i < 1200; ++i) alerts.push_back(alert_of("alert " + std::to_string(i), clock_ + i, false));
  ASSERT_TRUE(raise(*writer_, std::move(alerts)));
  raise_alert("waits", clock_, true);
  clock_ += 1'000'000;
  const auto first = clock_;
  const auto deadline = Deadline::after(100s);
  while (writer_->state().retention_events_by_size == 0 && !deadline.expired()) fill(1, 500);
  const auto state = writer_->state();
  EXPECT_GT(state.retention_events_by_size, 0U);
  EXPECT_GE(state.retention_rows_removed, 1200U) << "older than any event: they went first";
  auto left = reader();
  const auto listed = left->alerts(10);
  ASSERT_TRUE(listed);
  ASSERT_EQ(listed->size(), 1U);
  EXPECT_EQ(listed->front().alert_id, "waits");
  const auto found = ids(*left);
  ASSERT_FALSE(found.empty());
  const auto old = *left->completeness({Timestamp{first}, Timestamp{first + 1'000'000}}, Timestamp{clock_});
  EXPECT_TRUE(reasons_of(old).contains("retention_size"));
  const auto young = *left->completeness({Timestamp{clock_ - 1000}, Timestamp{clock_}}, Timestamp{clock_});
  EXPECT_FALSE(reasons_of(young).contains("retention_size"));
}

TEST_F(MaintenanceTest, ACleanCloseLeavesNothingInTheWalThoughOthersHaveTheFileOpen) {
  open(blocks_of(100));
  fill(15);
  auto left = reader();
  EXPECT_EQ(ids(*left).size(), 150U);
  writer_->close(Deadline::after(5s));
  EXPECT_EQ(left->stats()->wal_bytes, 0U);
  EXPECT_EQ(ids(*left).size(), 150U);
}

TEST_F(MaintenanceTest, WhatComesAfterTheRequestIsNotPurged) {
  open(blocks_of(100));
  fill(25);
  writer_.reset();
  auto database = open_store_for_writing(folder_.file(), "");
  ASSERT_TRUE(database) << database.error().message;
  db::StatementCache statements(**database);
  Ingest ingest(statements);
  Retention retention(statements, {});
  Maintenance purge(statements, ingest, retention, {Kind::purge, std::nullopt}, 1);
  const auto first = purge.step();
  ASSERT_TRUE(first && *first);
  // Between two steps.
  IncomingBatch batch;
  const auto made = make_batch(++sequence_, {make_event(EventKind::exec, 7, clock_ += 1000)});
  batch.id = made.id;
  batch.canonical = *event::encode_batch(made);
  batch.digest = event::batch_digest(batch.canonical);
  ASSERT_TRUE(decode(batch));
  {
    auto transaction = db::Transaction::begin(**database);
    ASSERT_TRUE(ingest.write(batch, base::wall_now()));
    ASSERT_TRUE(ingest.finish_transaction());
    ASSERT_TRUE((*database)->execute("INSERT INTO scans VALUES(1, " + std::to_string(base::wall_now().ns) +
                                     ", 1, 'procmond', 1, 0, 0)"));
    ASSERT_TRUE(transaction->commit());
    ingest.committed();
  }
  ASSERT_TRUE(ingest.seal());
  while (true) {
    const auto more = purge.step();
    ASSERT_TRUE(more) << more.error().message;
    if (!*more) break;
  }
  EXPECT_EQ(purge.state().events_removed, 250U);
  EXPECT_EQ(ids(*reader()), std::vector<event::EventId>{251});
  auto scans = (*database)->prepare("SELECT count(*) FROM scans");
  ASSERT_TRUE(*scans->step());
  EXPECT_EQ(scans->integer(0), 1);
}

TEST_F(MaintenanceTest, APurgeThatRemovesGapsLetsTheRecordBeginAfterThem) {
  open(blocks_of(100));
  fill(10);
  const auto gap = clock_ += 1'000'000;
  ASSERT_TRUE(commit(*writer_, make_batch(++sequence_, {event::make_gap_event(
                                                           {"events_lost", Timestamp{gap - 500'000}, Timestamp{gap}, 5},
                                                           event::EventSource::ebpf, Timestamp{clock_ - 1'000'000})})));
  writer_->set_collector("procmond", true, base::wall_now());
  clock_ += 1'000'000;
  fill(11);
  const auto reasons = [&](std::int64_t from) {
    const auto now = base::wall_now();
    return reasons_of(*reader()->completeness({Timestamp{from}, Timestamp{clock_}}, now));
  };
  EXPECT_THAT(reasons(gap - 1000), ::testing::Contains("events_lost"));
  EXPECT_THAT(reasons(gap - 1000), ::testing::Not(::testing::Contains("before_record")));
  maintain({Kind::purge, Timestamp{gap + 1}});
  EXPECT_THAT(reasons(gap - 1000), ::testing::Contains("before_record")) << "its gap is no longer known";
  EXPECT_THAT(reasons(gap + 1), ::testing::Not(::testing::Contains("before_record")));
}

TEST_F(MaintenanceTest, CountsTheBlocksThatItMakesItself) {
  open(blocks_of(100));
  fill(25);
  // Into the middle of the tail, which is sealed for that and stays.
  const auto state = maintain({Kind::purge, Timestamp{clock_ - 1000 * 20}});
  EXPECT_EQ(state.events_removed, 200U);
  EXPECT_EQ(state.blocks_kept, 1U);
  EXPECT_EQ(writer_->state().blocks, 1U);
}

TEST_F(MaintenanceTest, SizeKeepsTheGapsOfTheTailForAsLongAsTheTail) {
  open(blocks_of(8192));
  std::vector<Writer::Raise> alerts;
  for (int i = 0; i < 2500; ++i) alerts.push_back(alert_of("alert " + std::to_string(i), clock_ + i, false));
  ASSERT_TRUE(raise(*writer_, std::move(alerts)));
  clock_ += 1'000'000;
  const auto first = clock_;
  fill(3);
  const auto with_gap = make_batch(++sequence_, {make_event(EventKind::exec, 7, clock_ += 1000)});
  auto canonical = *event::encode_batch(with_gap);
  const auto digest = event::batch_digest(canonical);
  std::promise<bool> done;
  writer_->commit_batch(
      with_gap.id, canonical, digest, {}, [&](const auto& result) { done.set_value(result.has_value()); },
      event::Gap{"events_lost", Timestamp{clock_ - 500}, Timestamp{clock_}, 5});
  ASSERT_TRUE(done.get_future().get());
  fill(1);
  writer_.reset();
  auto options = blocks_of(8192);
  options.max_size_mb = 4;
  open(options);
  const auto deadline = Deadline::after(60s);
  while (writer_->state().retention_rows_removed == 0 && !deadline.expired()) std::this_thread::yield();
  EXPECT_GT(writer_->state().retention_rows_removed, 0U);
  EXPECT_EQ(writer_->state().retention_events_by_size, 0U) << "there were alerts from before them";
  auto left = reader();
  EXPECT_EQ(ids(*left).size(), 41U);
  const auto told = *left->completeness({Timestamp{first}, Timestamp{clock_}}, Timestamp{clock_});
  EXPECT_TRUE(reasons_of(told).contains("events_lost"));
}

// Damage in a page that holds chunks of the oldest block; or of the newest.
class DamagedRetentionTest : public MaintenanceTest {
 protected:
  static constexpr std::uint64_t stored = 4300;
  void SetUp() override { damage("SELECT substr(data, 1, 24) FROM chunks ORDER BY chunk_id LIMIT 1"); }
  void damage(std::string_view which) {
    open(blocks_of(1000));
    fill(43, 100);
    writer_->close(Deadline::after(5s));
    writer_.reset();
    std::string needle;
    {
      auto database = reader();
      // The beginning of a chunk lies in the tree itself, however large it is.
      auto select = database->database().prepare(which);
      ASSERT_TRUE(select) << select.error().message;
      ASSERT_TRUE(*select->step());
      const auto bytes = select->blob(0);
      needle.assign(bytes.begin(), bytes.end());
      ASSERT_EQ(needle.size(), 24U);
    }
    std::fstream file(folder_.file(), std::ios::in | std::ios::out | std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(file)), {});
    ASSERT_NE(all.find(needle), std::string::npos);
    for (auto at = all.find(needle); at != std::string::npos; at = all.find(needle, at + 1)) {
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(all[at] ^ 1));
    }
  }
};

TEST_F(DamagedRetentionTest, AgeRemovesWhatComesAfterTheDamageToo) {
  auto options = blocks_of(1000);
  options.retention_days = 30;
  {
    // A collector was here a moment ago: years after the newest event the clock would be doubted.
    const auto database = open_store_for_writing(folder_.file(), "");
    ASSERT_TRUE(database) << database.error().message;
    ASSERT_TRUE((*database)->execute("INSERT INTO collectors VALUES('procmond', 0, " +
                                     std::to_string(base::wall_now().ns) + ")"));
  }
  open(options);
  const auto deadline = Deadline::after(60s);
  while (writer_->state().retention_events_removed < stored && !deadline.expired()) std::this_thread::yield();
  const auto state = writer_->state();
  EXPECT_EQ(state.retention_events_removed, stored);
  EXPECT_THAT(state.retention_damage, ::testing::HasSubstr("damaged"));
  EXPECT_EQ(state.blocks, 0U);
  EXPECT_TRUE(ids(*reader()).empty());
  // What of it could not be removed is in nobody's way.
  clock_ = base::wall_now().ns;
  fill(30, 100);
  while (writer_->state().blocks < 3 && !deadline.expired()) std::this_thread::yield();
  EXPECT_EQ(writer_->state().blocks, 3U);
  EXPECT_EQ(ids(*reader()).size(), 3000U);
}

class DamagedSealingTest : public DamagedRetentionTest {
 protected:
  void SetUp() override { damage("SELECT substr(data, 1, 24) FROM chunks ORDER BY chunk_id DESC LIMIT 1"); }
};

TEST_F(DamagedSealingTest, IsToldAndWhatComesIsKeptInTheTail) {
  open(blocks_of(1000));
  fill(15, 100);
  const auto deadline = Deadline::after(60s);
  while (writer_->state().sealing_error.empty() && !deadline.expired()) std::this_thread::yield();
  EXPECT_THAT(writer_->state().sealing_error, ::testing::HasSubstr("damaged"));
  fill(5, 100);
  EXPECT_FALSE(writer_->state().paused);
  const auto stats = reader()->stats();
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_EQ(stats->blocks, 4U);
  EXPECT_EQ(stats->events, stored + 2000);
  EXPECT_GE(stats->tail_events, 2000U);
}

TEST_F(DamagedRetentionTest, APurgeGoesOnAndTellsThatItIsNotAllOfIt) {
  open(blocks_of(1000));
  const auto state = maintain({Kind::purge, std::nullopt});
  EXPECT_EQ(state.events_removed, stored);
  EXPECT_THAT(state.error, ::testing::HasSubstr("not all of it"));
  EXPECT_TRUE(ids(*reader()).empty());
  EXPECT_THAT(writer_->state().retention_damage, ::testing::HasSubstr("damaged"));
}

TEST(WalWatch, FindsReadersOfTheFileInTheKernelsListOfLocks) {
  const std::string locks =
      "1: POSIX  ADVISORY  READ  101 fe:01:5678 124 124\n"
      "2: POSIX  ADVISORY  READ  102 fe:01:5679 124 124\n"  // another file
      "3: POSIX  ADVISORY  WRITE 103 fe:01:5678 120 120\n"  // the writer
      "4: POSIX  ADVISORY  READ  104 fe:01:5678 128 128\n"  // open, but reading nothing
      "5: OFDLCK ADVISORY  READ  -1 fe:01:5678 125 125\n"
      "6: FLOCK  ADVISORY  WRITE 105 fe:01:5678 0 EOF\n"
      "7: POSIX  ADVISORY  READ  106 fe:01:5678 126 127\n"
      "7: -> POSIX  ADVISORY  WRITE  108 fe:01:5678 126 127\n"  // waits
      "8: POSIX  ADVISORY  READ  107 fe:01:5678 0 EOF\n"
      "broken line\n";
  const auto holders = snapshot_holders(db::shm_locks(locks, makedev(0xfe, 1), 5678));
  EXPECT_THAT(holders, ::testing::ElementsAre(SnapshotHolder{101, 1}, SnapshotHolder{-1, 2}, SnapshotHolder{106, 3},
                                              SnapshotHolder{106, 4}, SnapshotHolder{107, 0}, SnapshotHolder{107, 1},
                                              SnapshotHolder{107, 2}, SnapshotHolder{107, 3}, SnapshotHolder{107, 4}));
  // Where the file system shows another device there.
  EXPECT_THAT(snapshot_holders(db::shm_locks(locks, makedev(0, 40), 5679)),
              ::testing::ElementsAre(SnapshotHolder{102, 1}));
}

TEST_F(MaintenanceTest, AStoppedReaderIsNamedByItsPidAndTheWalShrinksWhenItIsGone) {
  open(blocks_of(8192));
  fill(1);
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto held = Reader::open(folder_.file());
    if (!held || !(*held)->begin_snapshot() || !(*held)->last_event_id()) _exit(1);
    if (write(pipes[1], "r", 1) != 1) _exit(2);
    ::raise(SIGSTOP);
    _exit(0);
  }
  char ready = 0;
  ASSERT_EQ(read(pipes[0], &ready, 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  const auto deadline = Deadline::after(60s);
  while (!writer_->state().wal_pinned_s && !deadline.expired()) fill(1, 500);
  const auto state = writer_->state();
  ASSERT_TRUE(state.wal_pinned_s);
  EXPECT_GT(state.wal_bytes, WalWatch::normal_bytes);
  ASSERT_EQ(state.wal_pinned_by.size(), 1U);
  EXPECT_THAT(state.wal_pinned_by[0], ::testing::HasSubstr("pid " + std::to_string(child)));
  // To give space back would make the WAL longer still, and the file no shorter.
  EXPECT_EQ(maintain({Kind::purge, std::nullopt}).error, "");
  EXPECT_GT(reader()->stats()->free_bytes, 0U);
  EXPECT_THAT(maintain({Kind::compact, {}}).error, ::testing::HasSubstr("a reader holds an old snapshot"));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(pipes[0]);
  close(pipes[1]);
  while ((writer_->state().wal_pinned_s || writer_->state().wal_bytes > WalWatch::normal_bytes) &&
         !deadline.expired()) {
    fill(1);
  }
  EXPECT_FALSE(writer_->state().wal_pinned_s);
  EXPECT_LE(writer_->state().wal_bytes, WalWatch::normal_bytes);
  EXPECT_EQ(maintain({Kind::compact, {}}).error, "");
}

TEST_F(MaintenanceTest, BeginsOnlyWhenWhatMustComeBeforeWentWell) {
  open(blocks_of(100));
  fill(10);
  int asked = 0;
  const auto refused = writer_->start_maintenance({Kind::purge, std::nullopt}, [&]() -> Result<void> {
    ++asked;
    return fail(Errc::limit_exceeded, "cannot be recorded");
  });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::limit_exceeded);
  EXPECT_FALSE(writer_->maintenance().running);
  EXPECT_EQ(ids(*reader()).size(), 100U);
  writer_->close(Deadline::after(5s));
  EXPECT_FALSE(writer_->start_maintenance({Kind::purge, std::nullopt}, [&]() -> Result<void> {
    ++asked;
    return {};
  }));
  EXPECT_EQ(asked, 1) << "what is refused anyway is not told as if it came";
}

TEST_F(MaintenanceTest, OtherBoundsCountWhileItRuns) {
  open(blocks_of(1000));
  fill(60, 1000);
  ASSERT_EQ(writer_->state().retention_events_removed, 0U);
  auto bounds = folder_.options();
  bounds.max_size_mb = 1;
  writer_->set_retention(bounds);
  const auto deadline = Deadline::after(60s);
  while (writer_->state().retention_events_by_size == 0 && !deadline.expired()) std::this_thread::yield();
  EXPECT_GT(writer_->state().retention_events_by_size, 0U);
}

}  // namespace
}  // namespace daemoneye::store
