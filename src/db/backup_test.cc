#include "db/backup.h"

#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "db/page_checksum.h"
#include "db/testing/temp_database.h"

namespace daemoneye::db {
namespace {

class BackupTest : public testing::TempDatabase {
 protected:
  void SetUp() override {
    TempDatabase::SetUp();
    target_ = folder_ + "/copy.redb";
    writer_ = open(path_, true);
    ASSERT_TRUE(writer_->execute("CREATE TABLE t(a, b)"));
    add(1, 3000);
  }
  void add(int from, int to) {
    ASSERT_TRUE(writer_->execute("WITH RECURSIVE n(i) AS (SELECT " + std::to_string(from) +
                                 " UNION ALL SELECT i + 1 FROM n WHERE i < " + std::to_string(to) +
                                 ") INSERT INTO t SELECT i, zeroblob(400) FROM n"));
  }
  [[nodiscard]] bool leftovers() const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (entry.path().filename().string().find("partial") != std::string::npos) return true;
    }
    return false;
  }
  std::unique_ptr<Database> writer_;
  std::string target_;
};

TEST_F(BackupTest, CopiesOneMomentWhileOthersWriteAndDelaysThemByNothing) {
  auto reader = open(path_, false);
  std::uint64_t last = 0, total = 0;
  int commits = 0;
  const auto copied = backup(*reader, target_, {.pages_per_step = 16, .progress = [&](auto done, auto all) {
                                                  EXPECT_GE(done, last);
                                                  last = done;
                                                  total = all;
                                                  // The writer commits between any two steps, and waits for nobody.
                                                  EXPECT_TRUE(writer_->execute("INSERT INTO t VALUES(9999, 'late')"));
                                                  ++commits;
                                                }});
  ASSERT_TRUE(copied) << copied.error().message;
  EXPECT_EQ(last, total);
  EXPECT_GT(commits, 10);
  struct stat status{};
  ASSERT_EQ(stat(target_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
  EXPECT_FALSE(std::filesystem::exists(target_ + "-wal")) << "one file is all of it";
  auto copy = open(target_, false);
  EXPECT_EQ(integer(*copy, "SELECT count(*) FROM t"), 3000) << "one moment: nothing that came later";
  EXPECT_EQ(integer(*copy, "PRAGMA page_size"), 4096);
  EXPECT_EQ(bytes_of(target_)[20], 8) << "page checksums as in the source";
  auto check = copy->prepare("PRAGMA integrity_check");
  ASSERT_TRUE(*check->step());
  EXPECT_EQ(check->text(0), "ok");
  EXPECT_FALSE(leftovers());
}

// More than SQLite's cache holds, and pages that come out of the WAL, where they carry no checksum.
TEST_F(BackupTest, EveryPageOfALargeCopyCarriesItsChecksum) {
  add(3001, 15000);
  ASSERT_TRUE(writer_->execute("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint=0"));
  ASSERT_TRUE(writer_->execute("UPDATE t SET b=randomblob(400)"));
  auto reader = open(path_, false);
  const auto copied = backup(*reader, target_, {});
  ASSERT_TRUE(copied) << copied.error().message;
  const auto bytes = bytes_of(target_);
  ASSERT_GT(bytes.size(), std::size_t{4} << 20);
  constexpr std::size_t page = 4096;
  std::size_t wrong = 0;
  for (std::size_t at = 0; at < bytes.size(); at += page) {
    const std::string_view whole(bytes.data() + at, page);
    const auto checksum = page_checksum(whole.substr(0, page - page_reserved_bytes), at / page + 1);
    for (std::size_t i = 0; i < page_reserved_bytes; ++i) {
      if (static_cast<unsigned char>(whole[page - page_reserved_bytes + i]) == (checksum >> (8 * i) & 0xff)) continue;
      ++wrong;
      break;
    }
  }
  EXPECT_EQ(wrong, 0U);
  auto copy = open(target_, false);
  EXPECT_EQ(integer(*copy, "SELECT count(*) FROM t WHERE length(b)=400 AND b<>zeroblob(400)"), 15000);
  auto check = copy->prepare("PRAGMA integrity_check");
  ASSERT_TRUE(*check->step());
  EXPECT_EQ(check->text(0), "ok");
}

TEST_F(BackupTest, AFileWithoutChecksumsIsCopiedAsItIs) {
  const auto plain = folder_ + "/plain.redb";
  {
    auto source = open(plain, true, false);
    ASSERT_TRUE(
        source->execute("CREATE TABLE t(a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                        "WHERE i < 1500) INSERT INTO t SELECT randomblob(3000) FROM n"));
    ASSERT_TRUE(backup(*source, target_, {}));
  }
  EXPECT_EQ(bytes_of(target_)[20], 0);
  auto check = open(target_, false)->prepare("PRAGMA integrity_check");
  ASSERT_TRUE(*check->step());
  EXPECT_EQ(check->text(0), "ok");
}

TEST_F(BackupTest, ReplacesNothingUnlessTold) {
  write_bytes(target_, "precious");
  auto reader = open(path_, false);
  const auto refused = backup(*reader, target_, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_input);
  EXPECT_EQ(bytes_of(target_), "precious");
  write_bytes(target_ + "-wal", "of the old one");
  ASSERT_TRUE(backup(*reader, target_, {.overwrite = true}));
  EXPECT_FALSE(std::filesystem::exists(target_ + "-wal")) << "it would be taken for the new file's";
  EXPECT_EQ(integer(*open(target_, false), "SELECT count(*) FROM t"), 3000);
  EXPECT_EQ(backup(*reader, path_, {.overwrite = true}).error().code, Errc::invalid_input) << "never over itself";
}

TEST_F(BackupTest, LeavesNothingWhenItCannotFinish) {
  auto reader = open(path_, false);
  const auto late = backup(*reader, target_, {.deadline = Deadline::after(std::chrono::nanoseconds(0))});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::timeout);
  EXPECT_FALSE(std::filesystem::exists(target_));
  EXPECT_FALSE(leftovers());
  EXPECT_FALSE(backup(*reader, folder_ + "/no/such/copy.redb", {}));
}

TEST_F(BackupTest, RefusesToCopyADamagedPage) {
  ASSERT_TRUE(writer_->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  writer_.reset();
  auto bytes = bytes_of(path_);
  bytes[std::size_t{100} * 4096 + 77] ^= 4;
  write_bytes(path_, bytes);
  auto reader = open(path_, false);
  const auto copied = backup(*reader, target_, {});
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code, Errc::corrupt) << copied.error().message;
  EXPECT_FALSE(std::filesystem::exists(target_));
}

TEST_F(BackupTest, AMigrationKeepsACopyOfTheVersionBefore) {
  const auto name = [&](std::int64_t version) { return folder_ + "/file.v" + std::to_string(version) + ".redb"; };
  const std::string first = "CREATE TABLE one(a)", second = "CREATE TABLE two(a)";
  ASSERT_TRUE(migrate(*writer_, {first}, name));
  EXPECT_FALSE(std::filesystem::exists(name(0))) << "a new file needs none";
  const auto failed = migrate(*writer_, {first, second, "CREATE TABLE two(b)"}, name);
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message.find("schema 3"), std::string::npos) << failed.error().message;
  EXPECT_EQ(integer(*writer_, "PRAGMA user_version"), 1) << "the step before it is rolled back too";
  EXPECT_EQ(integer(*writer_, "SELECT count(*) FROM sqlite_schema WHERE name='two'"), 0);
  ASSERT_TRUE(migrate(*writer_, {first, second}, name));
  EXPECT_EQ(integer(*writer_, "PRAGMA user_version"), 2);
  auto copy = open(name(1), false);
  EXPECT_EQ(integer(*copy, "PRAGMA user_version"), 1);
  EXPECT_EQ(integer(*copy, "SELECT count(*) FROM t"), 3000);
}

TEST_F(BackupTest, WithoutTheCopyThereIsNoMigration) {
  ASSERT_TRUE(migrate(*writer_, {"CREATE TABLE one(a)"}));
  const auto refused = migrate(*writer_, {"CREATE TABLE one(a)", "CREATE TABLE two(a)"},
                               [](std::int64_t) { return std::string("/proc/nowhere/copy.redb"); });
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("backup"), std::string::npos) << refused.error().message;
  EXPECT_EQ(integer(*writer_, "PRAGMA user_version"), 1);
}

}  // namespace
}  // namespace daemoneye::db
