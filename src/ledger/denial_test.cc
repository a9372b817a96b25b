// What somebody who may only read, or only ask, can do to keep the ledger from being written.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "db/shm_locks.h"
#include "db/testing/read_locks.h"
#include "ledger/format.h"
#include "ledger/testing/temp_ledger.h"

namespace daemoneye::ledger {
namespace {

using testing::batch;
using testing::TempLedger;
namespace fs = std::filesystem;

using db::testing::ReadLocks;

TEST(Denial, AReadersLockStopsNoWriter) {
  const TempLedger temp;
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  {
    const ReadLocks locks(temp.path() + "-shm", db::first_shm_lock, db::writers_shm_locks);
    const auto appended = ledger->append("procmond", "gap", "{}");
    EXPECT_TRUE(appended) << (appended ? "" : appended.error().message);
    ASSERT_TRUE(ledger->journal_batches({batch(1)}));
    const auto sealed = ledger->seal_batches();
    EXPECT_TRUE(sealed) << (sealed ? "" : sealed.error().message);
    ledger.reset();  // as in a crash
    auto again = Ledger::open(temp.options());
    ASSERT_TRUE(again) << (again ? "" : again.error().message);
    ledger = std::move(*again);
  }
  ASSERT_TRUE(ledger->close());
  EXPECT_FALSE(temp.verify().first_bad);
}

TEST(Denial, NestingIsRefusedBeforeItIsFollowed) {
  const TempLedger temp;
  auto ledger = temp.open();
  const auto nested = [](std::size_t levels) {
    return R"({"a":)" + std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  EXPECT_TRUE(ledger->append("agent", "x", nested(10)));
  for (const std::size_t levels : {100U, 30'000U, 500'000U}) EXPECT_FALSE(ledger->append("agent", "x", nested(levels)));
  EXPECT_TRUE(ledger->append("agent", "x", R"({"a":")" + std::string(1000, '[') + R"("})")) << "in a text it is none";
  EXPECT_FALSE(temp.verify().first_bad);
}

TEST(Denial, AJournalThatIsTakenAwayIsNoticedAtTheNextRoot) {
  const TempLedger temp;
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->journal_batches({batch(1)}));
  fs::remove(journal_path(temp.path()));
  EXPECT_FALSE(ledger->seal_batches());
  EXPECT_FALSE(ledger->journal_batches({batch(2)})) << "nothing is sent";
}

TEST(Denial, TornTailsDoNotPileUp) {
  const TempLedger temp;
  for (int crash = 0; crash < 6; ++crash) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto ledger = Ledger::open(temp.options());
      const bool done = ledger && (*ledger)->append("procmond", "x", "{}");
      ::_exit(done ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    // The header of a frame that was never finished.
    const auto bytes = base::read_file(temp.path() + "-wal", 64 << 20).value();
    ASSERT_GT(bytes.size(), 56U);
    std::ofstream(temp.path() + "-wal", std::ios::binary | std::ios::trunc) << bytes << bytes.substr(32, 24);
  }
  ASSERT_TRUE(temp.open()->close());
  int kept = 0;
  for (const auto& file : fs::directory_iterator(temp.folder())) {
    kept += file.path().filename().string().find(".torn-") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(kept, 4);
}

TEST(CheckpointCopies, AHalfOneDoesNotTakeTheNextWithIt) {
  const TempLedger temp;
  auto options = temp.signing_options();
  options.checkpoint_copy = temp.root() + "/copy";
  std::ofstream(options.checkpoint_copy) << "test-host/daemoneye/abc\n12\nAAAA";
  auto ledger = TempLedger::open_with(options);
  ASSERT_TRUE(ledger->checkpoint());
  std::size_t damaged = 0;
  const auto notes = parse_notes(base::read_file(options.checkpoint_copy, 1 << 20).value(), &damaged);
  ASSERT_TRUE(notes);
  EXPECT_EQ(damaged, 1U);
  ASSERT_EQ(notes->size(), 1U);
  EXPECT_TRUE(notes->front().is_signed_by(temp.public_key()));
  EXPECT_FALSE(parse_notes(base::read_file(options.checkpoint_copy, 1 << 20).value()));
}

TEST(CheckpointCopies, GoOnInTheFileOfThatName) {
  const TempLedger temp;
  auto options = temp.signing_options();
  options.checkpoint_copy = temp.root() + "/folder/copy";
  auto ledger = TempLedger::open_with(options);
  EXPECT_NE(ledger->status().copy_problem, "");
  fs::create_directory(temp.root() + "/folder");
  ASSERT_TRUE(ledger->checkpoint());
  EXPECT_EQ(ledger->status().copy_problem, "") << "tried again";
  fs::rename(options.checkpoint_copy, options.checkpoint_copy + ".1");
  ASSERT_TRUE(ledger->append("procmond", "x", "{}"));
  ASSERT_TRUE(ledger->append("procmond", "x", "{}"));
  ASSERT_TRUE(ledger->checkpoint());
  EXPECT_EQ(parse_notes(base::read_file(options.checkpoint_copy, 1 << 20).value())->size(), 1U);
}

}  // namespace
}  // namespace daemoneye::ledger
