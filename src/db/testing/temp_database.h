// A folder with one database in it, for the tests of this room.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "db/database.h"

namespace daemoneye::db::testing {

class TempDatabase : public ::testing::Test {
 protected:
  static constexpr std::uint32_t test_application_id = 0x74657374;
  void SetUp() override {
    char name[] = "/tmp/daemoneye_db_XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    path_ = folder_ + "/file.redb";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static Result<std::unique_ptr<Database>> try_open(const std::string& path, bool write, bool checksums = true) {
    Database::Options options;
    options.mode = write ? Database::Mode::create_or_write : Database::Mode::read_only;
    options.application_id = test_application_id;
    options.page_checksums = checksums;
    return Database::open(path, options);
  }
  static std::unique_ptr<Database> open(const std::string& path, bool write, bool checksums = true) {
    auto database = try_open(path, write, checksums);
    EXPECT_TRUE(database) << database.error().message;
    return database ? std::move(*database) : nullptr;
  }
  static std::int64_t integer(Database& database, std::string_view sql) {
    auto statement = database.prepare(sql);
    EXPECT_TRUE(statement) << statement.error().message;
    if (!statement) return -1;
    const auto row = statement->step();
    EXPECT_TRUE(row && *row) << (row ? "" : row.error().message);
    return row && *row ? statement->integer(0) : -1;
  }
  static std::string bytes_of(const std::string& path) {
    const std::ifstream in(path, std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return std::move(out).str();
  }
  static void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }

  std::string folder_, path_;
};

}  // namespace daemoneye::db::testing
