#include "db/gathered_file.h"

#include "db/testing/temp_database.h"

namespace daemoneye::db {
namespace {

class GatheredFileTest : public testing::TempDatabase {};

// How often the write-ahead log is written to, below the gathering.
class CountingVfs final : public Vfs {
 public:
  CountingVfs() : Vfs("counting", sqlite3_vfs_find("unix"), true) {}
  ~CountingVfs() override { sqlite3_vfs_register(sqlite3_vfs_find("unix"), 1); }
  std::unique_ptr<VfsFile> wrap(const char*, int flags, std::unique_ptr<std::byte[]> storage) override {
    class File final : public VfsFile {
     public:
      File(std::unique_ptr<std::byte[]> held, unsigned* writes) : VfsFile(std::move(held)), writes_(writes) {}
      int write(const void* bytes, int amount, sqlite3_int64 offset) override {
        if (writes_ != nullptr) ++*writes_;
        return VfsFile::write(bytes, amount, offset);
      }

     private:
      unsigned* writes_;
    };
    return std::make_unique<File>(std::move(storage), (flags & SQLITE_OPEN_WAL) != 0 ? &log_writes : nullptr);
  }
  unsigned log_writes = 0;
};

TEST_F(GatheredFileTest, ACommitOfManyPagesIsOneWriteAndAtOnceThereForOthers) {
  CountingVfs vfs;
  auto writer = open(path_, true);
  ASSERT_TRUE(writer->execute("CREATE TABLE t(a, b)"));
  ASSERT_TRUE(writer->execute("INSERT INTO t VALUES(0, 'x')"));
  auto reader = open(path_, false);
  const unsigned before = vfs.log_writes;
  // A dozen pages.
  ASSERT_TRUE(writer->execute("INSERT INTO t VALUES(1, randomblob(48000))"));
  EXPECT_EQ(vfs.log_writes, before + 1);
  EXPECT_EQ(integer(*reader, "SELECT sum(length(b)) FROM t"), 48001);
  // More than is held back.
  ASSERT_TRUE(writer->execute("INSERT INTO t VALUES(2, randomblob(900000))"));
  EXPECT_EQ(integer(*reader, "SELECT sum(length(b)) FROM t"), 948001);
  EXPECT_EQ(integer(*open(path_, false), "SELECT sum(length(b)) FROM t"), 948001);
  writer.reset();
  reader.reset();
}

TEST_F(GatheredFileTest, WhatATransactionSpilledIsReadByItselfAndGoneWhenItIsRolledBack) {
  auto writer = open(path_, true);
  ASSERT_TRUE(writer->execute("PRAGMA cache_size=10; CREATE TABLE t(a, b); INSERT INTO t VALUES(0, zeroblob(100))"));
  ASSERT_TRUE(
      writer->execute("BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
                      "INSERT INTO t SELECT i, randomblob(100) FROM n"));
  EXPECT_EQ(integer(*writer, "SELECT count(*) FROM t WHERE length(b)=100"), 3001);
  EXPECT_EQ(integer(*open(path_, false), "SELECT count(*) FROM t"), 1);
  ASSERT_TRUE(writer->execute("ROLLBACK; INSERT INTO t VALUES(1, zeroblob(100))"));
  EXPECT_EQ(integer(*open(path_, false), "SELECT count(*) FROM t"), 2);
  EXPECT_EQ(integer(*writer, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check='ok'"), 1);
}

}  // namespace
}  // namespace daemoneye::db
