#include "db/database.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <thread>

#include "base/time.h"

namespace daemoneye::db {
namespace {

constexpr std::uint32_t test_application_id = 0x74657374;

class DatabaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/daemoneye_db_XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    path_ = folder_ + "/file.redb";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Database> open_writer() {
    Database::Options options;
    options.mode = Database::Mode::create_or_write;
    options.application_id = test_application_id;
    auto database = Database::open(path_, options);
    EXPECT_TRUE(database) << database.error().message;
    return database ? std::move(*database) : nullptr;
  }
  Result<std::unique_ptr<Database>> open_reader() {
    Database::Options options;
    options.application_id = test_application_id;
    return Database::open(path_, options);
  }
  static std::int64_t integer(Database& database, std::string_view sql) {
    auto statement = database.prepare(sql);
    EXPECT_TRUE(statement) << statement.error().message;
    if (!statement) return -1;
    const auto row = statement->step();
    EXPECT_TRUE(row && *row);
    return statement->integer(0);
  }
  // Runs `body` in a child; its exit status is what body returns.
  static int in_child(const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) _exit(body());
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  }
  // Another user, who is in the group that owns the files: reads the one row, or tells which step failed.
  int read_as_group_member(gid_t group) {
    return in_child([&] {
      if (setgroups(1, &group) != 0 || setgid(65534) != 0 || setuid(65534) != 0) return 10;
      auto reader = open_reader();
      if (!reader) {
        std::cerr << reader.error().message << "\n";
        return 11;
      }
      auto statement = (*reader)->prepare("SELECT a FROM t");
      if (!statement) {
        std::cerr << statement.error().message << "\n";
        return 12;
      }
      const auto row = statement->step();
      if (!row) std::cerr << row.error().message << "\n";
      if (!row || !*row || statement->integer(0) != 7) return 13;
      return 0;
    });
  }

  std::string folder_, path_;
};

TEST_F(DatabaseTest, CreatesTheFileWithTheSettingsOfTheHouse) {
  auto database = open_writer();
  ASSERT_NE(database, nullptr);
  EXPECT_EQ(integer(*database, "PRAGMA auto_vacuum"), 2);
  EXPECT_EQ(integer(*database, "PRAGMA secure_delete"), 0);
  EXPECT_EQ(integer(*database, "PRAGMA synchronous"), 2);
  EXPECT_EQ(integer(*database, "PRAGMA journal_size_limit"), 6 * 1024 * 1024);
  EXPECT_EQ(integer(*database, "PRAGMA trusted_schema"), 0);
  EXPECT_EQ(integer(*database, "PRAGMA page_size"), 4096);
  EXPECT_EQ(integer(*database, "PRAGMA application_id"), test_application_id);
}

TEST_F(DatabaseTest, KeepsWhatWasBound) {
  auto database = open_writer();
  ASSERT_TRUE(database->execute("CREATE TABLE t(a, b, c, d)"));
  auto insert = database->prepare("INSERT INTO t VALUES(?, ?, ?, ?)");
  ASSERT_TRUE(insert);
  ASSERT_TRUE(
      insert->bind(1, std::int64_t{-5}).bind(2, 0.5).bind_text(3, "").bind_blob(4, std::string_view("x\0y", 3)).run());
  auto select = database->prepare("SELECT a, b, c, d, NULL FROM t");
  ASSERT_TRUE(select);
  ASSERT_TRUE(*select->step());
  EXPECT_EQ(select->integer(0), -5);
  EXPECT_EQ(select->real(1), 0.5);
  EXPECT_FALSE(select->is_null(2));
  EXPECT_EQ(select->text(2), "");
  EXPECT_EQ(select->blob(3), std::string_view("x\0y", 3));
  EXPECT_TRUE(select->is_null(4));
}

TEST_F(DatabaseTest, GivesBackAFailedBindWhenStepped) {
  auto database = open_writer();
  auto statement = database->prepare("SELECT ?1");
  ASSERT_TRUE(statement);
  const auto row = statement->bind(9, std::int64_t{1}).step();
  ASSERT_FALSE(row);
  EXPECT_EQ(row.error().code, Errc::invalid_input);
}

TEST_F(DatabaseTest, RollsBackATransactionThatIsNotCommitted) {
  auto database = open_writer();
  ASSERT_TRUE(database->execute("CREATE TABLE t(a)"));
  {
    auto transaction = Transaction::begin(*database);
    ASSERT_TRUE(transaction);
    ASSERT_TRUE(database->execute("INSERT INTO t VALUES(1)"));
  }
  EXPECT_EQ(integer(*database, "SELECT count(*) FROM t"), 0);
  {
    auto transaction = Transaction::begin(*database);
    ASSERT_TRUE(transaction);
    ASSERT_TRUE(database->execute("INSERT INTO t VALUES(1)"));
    ASSERT_TRUE(transaction->commit());
  }
  EXPECT_EQ(integer(*database, "SELECT count(*) FROM t"), 1);
}

TEST_F(DatabaseTest, MigratesStepByStepAndRefusesANewerFile) {
  auto database = open_writer();
  ASSERT_TRUE(migrate(*database, {"CREATE TABLE one(a)"}));
  ASSERT_TRUE(migrate(*database, {"CREATE TABLE one(a)", "CREATE TABLE two(a)"}));
  EXPECT_EQ(integer(*database, "PRAGMA user_version"), 2);
  EXPECT_EQ(integer(*database, "SELECT count(*) FROM sqlite_schema"), 2);
  const auto older = migrate(*database, {"CREATE TABLE one(a)"});
  ASSERT_FALSE(older);
  EXPECT_EQ(older.error().code, Errc::invalid_input);
  EXPECT_NE(older.error().message.find("newer version"), std::string::npos);
}

TEST_F(DatabaseTest, LeavesTheVersionWhenAStepFails) {
  auto database = open_writer();
  ASSERT_FALSE(migrate(*database, {"CREATE TABLE one(a); CREATE TABLE one(b)"}));
  EXPECT_EQ(integer(*database, "PRAGMA user_version"), 0);
  EXPECT_EQ(integer(*database, "SELECT count(*) FROM sqlite_schema"), 0);
}

TEST_F(DatabaseTest, RefusesFilesThatAreNotItsOwn) {
  EXPECT_EQ(open_reader().error().code, Errc::not_found);
  {
    std::ofstream out(path_);
    out << std::string(8192, 'x');
  }
  EXPECT_EQ(open_reader().error().code, Errc::corrupt);
  std::filesystem::remove(path_);
  open_writer().reset();
  Database::Options other;
  other.application_id = 1;
  EXPECT_EQ(Database::open(path_, other).error().code, Errc::invalid_input);
  other.mode = Database::Mode::create_or_write;
  EXPECT_EQ(Database::open(path_, other).error().code, Errc::invalid_input);
}

TEST_F(DatabaseTest, AReadOnlyConnectionCannotWrite) {
  auto writer = open_writer();
  ASSERT_TRUE(writer->execute("CREATE TABLE t(a)"));
  auto reader = open_reader();
  ASSERT_TRUE(reader);
  const auto written = (*reader)->execute("INSERT INTO t VALUES(1)");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, Errc::permission_denied);
}

TEST_F(DatabaseTest, KeepsTheWalFilesEmptyButThereAfterACleanClose) {
  {
    auto writer = open_writer();
    ASSERT_TRUE(writer->execute("CREATE TABLE t(a)"));
  }
  EXPECT_TRUE(std::filesystem::exists(path_ + "-wal"));
  EXPECT_EQ(std::filesystem::file_size(path_ + "-wal"), 0U);
  EXPECT_TRUE(std::filesystem::exists(path_ + "-shm"));
  {
    ASSERT_TRUE(open_reader());
  }
  EXPECT_TRUE(std::filesystem::exists(path_ + "-wal"));
}

TEST_F(DatabaseTest, AnotherUserOfTheGroupReadsWhileTheWriterRunsAfterACleanStopAndAfterAKill) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  const gid_t group = 4242;
  ASSERT_EQ(chmod(folder_.c_str(), 0750), 0);
  ASSERT_EQ(chown(folder_.c_str(), 0, group), 0);
  {
    auto writer = open_writer();
    ASSERT_TRUE(writer->execute("CREATE TABLE t(a); INSERT INTO t VALUES(7)"));
    for (const char* suffix : {"", "-wal", "-shm"}) {
      ASSERT_EQ(chown((path_ + suffix).c_str(), 0, group), 0);
      ASSERT_EQ(chmod((path_ + suffix).c_str(), 0640), 0);
    }
    EXPECT_EQ(read_as_group_member(group), 0) << "while the writer runs";
  }
  EXPECT_EQ(read_as_group_member(group), 0) << "after a clean stop";
  const int killed = in_child([&] {
    auto writer = open_writer();
    if (!writer || !writer->execute("UPDATE t SET a=8; UPDATE t SET a=7")) return 1;
    kill(getpid(), SIGKILL);
    return 2;
  });
  EXPECT_EQ(killed, 256 + SIGKILL);
  EXPECT_EQ(read_as_group_member(group), 0) << "after a kill";
}

// What a reader that is root does: it makes the file, and gives it a moment later.
TEST_F(DatabaseTest, WaitsForFilesBesideItThatAreBeingGivenToIt) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  constexpr uid_t owner = 65534;
  for (const std::string suffix : {"-shm", "-wal"}) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    ASSERT_TRUE(open_writer()->execute("CREATE TABLE t(a)"));
    for (const auto& path : {folder_, path_, path_ + "-wal", path_ + "-shm"})
      ASSERT_EQ(chown(path.c_str(), owner, 0), 0);
    ASSERT_EQ(chown((path_ + suffix).c_str(), 0, 0), 0);
    ASSERT_EQ(chmod((path_ + suffix).c_str(), 0600), 0);
    std::promise<pid_t> thread;
    Result<void> wrote;
    std::jthread opens([&] {
      // Of this thread alone; it ends with it.
      syscall(SYS_setresuid, owner, owner, owner);
      thread.set_value(gettid());
      auto writer =
          Database::open(path_, {.mode = Database::Mode::create_or_write, .application_id = test_application_id});
      wrote = writer ? (*writer)->execute("INSERT INTO t VALUES(1)") : std::unexpected(writer.error());
    });
    const auto waits = "/proc/self/task/" + std::to_string(thread.get_future().get()) + "/syscall";
    const auto deadline = Deadline::after(std::chrono::seconds(60));
    for (std::string call; call != std::to_string(SYS_clock_nanosleep) && !deadline.expired();) {
      std::ifstream file(waits);
      if (!(file >> call)) break;  // it has given up
    }
    ASSERT_EQ(chown((path_ + suffix).c_str(), owner, 0), 0);
    opens.join();
    EXPECT_TRUE(wrote) << suffix << ": " << wrote.error().message;
  }
}

TEST_F(DatabaseTest, SaysDiskFull) {
  auto database = open_writer();
  ASSERT_TRUE(database->execute("CREATE TABLE t(a); PRAGMA max_page_count=8"));
  const auto filled = database->execute("INSERT INTO t VALUES(zeroblob(1000000))");
  ASSERT_FALSE(filled);
  EXPECT_EQ(filled.error().code, Errc::io);
  EXPECT_NE(filled.error().message.find("disk full"), std::string::npos);
}

}  // namespace
}  // namespace daemoneye::db
