// Other processes: writers that are killed, writers without room, readers of another user.
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/unique_fd.h"
#include "ledger/testing/temp_ledger.h"

namespace daemoneye::ledger {
namespace {

using testing::batch;
using testing::TempLedger;

constexpr int child_ok = 77;  // no exit code that a failure gives by itself

// Runs `body` in a child and gives its exit code; -1 when a signal ended it.
template <class Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Journals batches 1, 2, … for ever, sealing now and then; writes one byte for each that is durable. After `last` it
// waits for its end.
[[noreturn]] void write_until_killed(const Ledger::Options& options, int report, std::uint8_t epoch,
                                     std::uint64_t last = UINT64_MAX) {
  auto ledger = Ledger::open(options);
  if (!ledger) ::_exit(1);
  for (std::uint64_t n = 1;; ++n) {
    if (!(*ledger)->journal_batches({batch(n, epoch)})) ::_exit(2);
    if (::write(report, "x", 1) != 1) ::_exit(3);
    while (n == last) ::pause();
    if (n % 3 == 0 && !(*ledger)->seal_batches()) ::_exit(4);
  }
}

struct Sealed {
  std::uint64_t count = 0;  // batches 1 to count of the epoch are sealed, each once
  bool contiguous = true, recovered = false;
};

Sealed sealed(const TempLedger& temp, std::uint8_t epoch) {
  Sealed result;
  const auto wanted = event::to_string(batch(1, epoch).epoch);
  for (const auto& entry : temp.entries()) {
    if (entry.action != "batches") continue;
    const auto payload = nlohmann::json::parse(entry.payload);
    if (payload.at("epoch") != wanted) continue;
    result.contiguous = result.contiguous && payload.at("first") == result.count + 1;
    result.count = payload.at("last");
    result.recovered = result.recovered || payload.contains("recovered");
  }
  return result;
}

TEST(LedgerCrash, NoJournaledBatchIsLostOrRepeated) {
  const TempLedger temp;
  bool any_recovered = false;
  constexpr std::uint8_t runs = 10;
  for (std::uint8_t run = 1; run <= runs; ++run) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const UniqueFd reading(ends[0]);
    UniqueFd writing(ends[1]);
    const pid_t child = ::fork();
    // The last one is killed between a batch and its root, whatever the disk's pace.
    if (child == 0) write_until_killed(temp.options(), writing.get(), run, run == runs ? 4U + run : UINT64_MAX);
    writing.reset();
    // Killed at a different point each time, somewhere inside what follows the last report.
    ASSERT_EQ(base::read_up_to(reading.get(), 4U + run).value().size(), 4U + run);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    const std::uint64_t reported = 4U + run + base::read_up_to(reading.get(), 1 << 20).value().size();

    EXPECT_FALSE(temp.verify().first_bad);  // readable before anyone repairs it
    ASSERT_TRUE(temp.open()->close());
    EXPECT_EQ(temp.entries().back().action, "crash_recovery");
    const auto found = sealed(temp, run);
    EXPECT_TRUE(found.contiguous);
    EXPECT_GE(found.count, reported);
    EXPECT_LE(found.count, reported + 1);  // journaled, but killed before it could say so
    any_recovered = any_recovered || found.recovered;
    EXPECT_FALSE(temp.verify().first_bad);
  }
  EXPECT_TRUE(any_recovered);
}

TEST(LedgerCrash, AFullDiskFailsTheCallAndNothingElse) {
  const TempLedger temp;
  const int code = in_child([&] {
    auto ledger = Ledger::open(temp.options());
    if (!ledger || !(*ledger)->append("procmond", "start", "{}")) return 1;
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    const auto full = limit.rlim_cur;
    limit.rlim_cur = 4096;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string payload = "{\"a\":\"" + std::string(60000, 'x') + "\"}";
    if ((*ledger)->append("procmond", "big", payload)) return 2;
    // A digest has its room already. What cannot be had is its root, and then nothing more is taken.
    if (!(*ledger)->journal_batches({batch(1)})) return 3;
    if ((*ledger)->seal_batches()) return 8;
    if ((*ledger)->journal_batches({batch(2)})) return 9;
    if ((*ledger)->size() != 1) return 4;
    limit.rlim_cur = full;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    if (!(*ledger)->append("procmond", "big", payload) || (*ledger)->journal_batches({batch(2)})) return 5;
    if (!(*ledger)->seal_batches() || !(*ledger)->journal_batches({batch(2)})) return 6;
    return (*ledger)->close() ? child_ok : 7;
  });
  EXPECT_EQ(code, child_ok);
  EXPECT_FALSE(temp.verify().first_bad);
  EXPECT_EQ(temp.entries().size(), 4U);
}

// As a user of the readers' group: 0 when the ledger is whole and has at least `entries`.
int read_as_group_member(const std::string& path, gid_t group, std::uint64_t entries) {
  if (::setgroups(1, &group) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) return 1;
  const auto reader = LedgerReader::open(path);
  if (!reader) return 2;
  const auto report = (*reader)->verify();
  if (!report) return 3;
  return !report->first_bad && report->entries == entries ? child_ok : 4;
}

TEST(LedgerReaderOfAnotherUser, ReadsWhileWrittenAfterAStopAndAfterAKill) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const group* readers = ::getgrnam("daemon");
  if (readers == nullptr) GTEST_SKIP() << "no group 'daemon' on this machine";
  const gid_t group_id = readers->gr_gid;
  const TempLedger temp;
  auto ledger = temp.open("daemon");
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  EXPECT_EQ(in_child([&] { return read_as_group_member(temp.path(), group_id, 1); }), child_ok);
  ASSERT_TRUE(ledger->append("procmond", "stop", "{}"));
  ASSERT_TRUE(ledger->close());
  ledger.reset();
  EXPECT_EQ(in_child([&] { return read_as_group_member(temp.path(), group_id, 2); }), child_ok);

  EXPECT_EQ(in_child([&] {
              auto options = temp.options();
              options.reader_group = "daemon";
              auto killed = Ledger::open(options);
              if (!killed || !(*killed)->append("procmond", "start", "{}")) return 1;
              ::raise(SIGKILL);
              return 2;
            }),
            -1);
  EXPECT_EQ(in_child([&] { return read_as_group_member(temp.path(), group_id, 3); }), child_ok);
  // Not of the group: not even the folder.
  EXPECT_EQ(in_child([&] { return read_as_group_member(temp.path(), 65534, 3); }), 2);
}

TEST(LedgerReaderOfAnotherUser, CannotKeepTheWriterFromStarting) {
  const TempLedger temp;
  auto ledger = temp.open();
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  const auto reader = temp.reader();
  ASSERT_TRUE(reader->size());
  ASSERT_TRUE(ledger->close());
  ledger.reset();
  ledger = temp.open();
  ASSERT_TRUE(ledger);
  ASSERT_TRUE(ledger->append("procmond", "start", "{}"));
  EXPECT_EQ(reader->size().value(), 2U);
}

}  // namespace
}  // namespace daemoneye::ledger
