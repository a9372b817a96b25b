#include "db/page_checksum.h"

#include <random>

#include "db/testing/temp_database.h"

namespace daemoneye::db {
namespace {

constexpr const char* sum_sql = "SELECT sum(a * 31 + length(b)) FROM t";

class PageChecksumTest : public testing::TempDatabase {
 protected:
  void make_file(bool checksums = true) {
    auto database = open(path_, true, checksums);
    ASSERT_TRUE(database->execute(
        "CREATE TABLE t(a, b); CREATE INDEX t_a ON t(a);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
        "INSERT INTO t SELECT i, randomblob(50 + i % 100) FROM n; INSERT INTO t VALUES(0, zeroblob(20000))"));
    ASSERT_TRUE(database->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  }
};

TEST_F(PageChecksumTest, EveryFlippedBitOfAPageIsFoundWhenItIsReadAndNamesThePage) {
  make_file();
  const std::string whole = bytes_of(path_);
  const auto pages = whole.size() / 4096;
  ASSERT_GT(pages, 30U);
  std::mt19937_64 random(4);
  for (int round = 0; round < 300; ++round) {
    std::string bytes = whole;
    // Not the first page, whose header decides whether it is a database at all.
    const auto at = 4096 + random() % (bytes.size() - 4096);
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
    const std::string copy = folder_ + "/copy.redb";
    write_bytes(copy, bytes);
    auto database = open(copy, false);
    ASSERT_NE(database, nullptr);
    auto check = database->prepare("PRAGMA integrity_check");
    ASSERT_TRUE(check);
    bool told = false;
    while (true) {
      const auto row = check->step();
      if (!row) {
        EXPECT_EQ(row.error().code, Errc::corrupt);
        EXPECT_NE(row.error().message.find("page " + std::to_string(at / 4096 + 1) + " "), std::string::npos)
            << row.error().message;
        told = true;
        break;
      }
      if (!*row) break;
      told = told || check->text(0) != "ok";
    }
    // Pages that nothing refers to (free ones) are not read by anything.
    if (!told) {
      EXPECT_EQ(integer(*database, sum_sql), integer(*open(path_, false), sum_sql));
    }
  }
}

TEST_F(PageChecksumTest, AFilePlainSqliteMadeIsReadAsItIs) {
  make_file(false);
  EXPECT_EQ(integer(*open(path_, false), "SELECT count(*) FROM t"), 2001);
  EXPECT_EQ(bytes_of(path_)[20], 0);
}

TEST_F(PageChecksumTest, AMisplacedPageIsFound) {
  make_file();
  std::string bytes = bytes_of(path_);
  const std::string third = bytes.substr(std::size_t{2} * 4096, 4096);
  bytes.replace(std::size_t{5} * 4096, 4096, third);
  write_bytes(path_, bytes);
  auto database = open(path_, false);
  auto check = database->prepare("PRAGMA integrity_check");
  Result<bool> row = check->step();
  while (row && *row && check->text(0) == "ok") row = check->step();
  EXPECT_TRUE(!row || *row);
}

TEST_F(PageChecksumTest, PagesWrittenAndMovedLaterCarryThemToo) {
  make_file();
  auto database = open(path_, true);
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(database->execute("DELETE FROM t WHERE a % 20 = " + std::to_string(round)));
    ASSERT_TRUE(database->execute("PRAGMA incremental_vacuum(7); PRAGMA wal_checkpoint(TRUNCATE)"));
    ASSERT_TRUE(database->execute("INSERT INTO t SELECT a + 100000, randomblob(300) FROM t LIMIT 30"));
  }
  ASSERT_TRUE(database->execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  database.reset();
  const auto bytes = bytes_of(path_);
  for (std::size_t page = 0; page < bytes.size() / 4096; ++page) {
    const std::string_view view(bytes.data() + page * 4096, 4096);
    std::uint64_t stored = 0;
    for (std::size_t i = 0; i < 8; ++i) stored |= std::uint64_t{static_cast<unsigned char>(view[4088 + i])} << (8 * i);
    if (view.find_first_not_of('\0') == std::string_view::npos) continue;
    EXPECT_EQ(stored, page_checksum(view.substr(0, 4088), page + 1)) << "page " << page + 1;
  }
}

}  // namespace
}  // namespace daemoneye::db
