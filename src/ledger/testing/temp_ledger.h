// A ledger in a folder of its own for tests, and a way behind its back.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/hash.h"
#include "ledger/ledger.h"

namespace daemoneye::ledger::testing {

class TempLedger {
 public:
  TempLedger() {
    char name[] = "/tmp/daemoneye-ledger-XXXXXX";
    root_ = ::mkdtemp(name);
    ::chmod(root_.c_str(), 0755);  // other users must reach the folder below
  }
  ~TempLedger() { std::filesystem::remove_all(root_); }
  TempLedger(const TempLedger&) = delete;
  TempLedger& operator=(const TempLedger&) = delete;

  [[nodiscard]] std::string root() const { return root_; }
  [[nodiscard]] std::string folder() const { return root_ + "/audit"; }
  [[nodiscard]] std::string path() const { return folder() + "/audit.redb"; }

  [[nodiscard]] Ledger::Options options() const {
    Ledger::Options options;
    options.path = path();
    return options;
  }
  // With a key, which the checkpoints of a test are signed with.
  [[nodiscard]] Ledger::Options signing_options() const {
    auto all = options();
    all.key_path = folder() + "/checkpoint.key";
    all.name = "test-host";
    return all;
  }
  [[nodiscard]] PublicKey public_key() const {
    return PublicKey::parse(base::read_file(folder() + "/checkpoint.key.pub", 1024).value()).value();
  }
  [[nodiscard]] std::unique_ptr<Ledger> open(const std::string& group = "") const {
    auto all = options();
    all.reader_group = group;
    return open_with(all);
  }
  [[nodiscard]] static std::unique_ptr<Ledger> open_with(const Ledger::Options& options) {
    auto opened = Ledger::open(options);
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().message);
    return opened ? *std::move(opened) : nullptr;
  }
  [[nodiscard]] std::unique_ptr<LedgerReader> reader() const {
    auto opened = LedgerReader::open(path());
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().message);
    return opened ? *std::move(opened) : nullptr;
  }
  [[nodiscard]] LedgerReader::Report verify(
      const LedgerReader::VerifyOptions& options = LedgerReader::VerifyOptions()) const {
    const auto report = reader()->verify(options);
    EXPECT_TRUE(report) << (report ? "" : report.error().message);
    return report.value_or(LedgerReader::Report());
  }
  [[nodiscard]] std::vector<Entry> entries() const {
    std::vector<Entry> all;
    EXPECT_TRUE(reader()->read(0, UINT64_MAX, [&](const Entry& entry) {
      all.push_back(entry);
      return true;
    }));
    return all;
  }

  // What someone with the right to write the file can do to it. The error text, or "" when it was done.
  [[nodiscard]] std::string tamper(const std::string& sql, bool drop_triggers = true) const {
    return tamper_file(path(), sql, drop_triggers);
  }
  [[nodiscard]] static std::string tamper_file(const std::string& file, const std::string& sql,
                                               bool drop_triggers = true) {
    sqlite3* handle = nullptr;
    EXPECT_EQ(sqlite3_open(file.c_str(), &handle), SQLITE_OK);
    const std::string all = (drop_triggers ? "DROP TRIGGER IF EXISTS entries_never_change;"
                                             "DROP TRIGGER IF EXISTS entries_never_go;"
                                           : "") +
                            sql;
    char* message = nullptr;
    sqlite3_exec(handle, all.c_str(), nullptr, nullptr, &message);
    std::string error = message == nullptr ? "" : message;
    sqlite3_free(message);
    sqlite3_close(handle);
    return error;
  }

  // A well-formed entry with its own hashes, as SQL; `head` says whether the head follows it.
  [[nodiscard]] static std::string insert_sql(Entry entry, bool head) {
    entry.payload_digest = base::sha256(entry.payload);
    entry.entry_hash = base::sha256(std::string(1, '\0') + encode_leaf(entry));
    const auto blob = [](const base::Sha256Digest& digest) { return "x'" + base::to_hex(digest) + "'"; };
    std::string sql = "INSERT OR REPLACE INTO entries VALUES (" + std::to_string(entry.sequence) + "," +
                      std::to_string(entry.time.ns) + ",'" + entry.actor + "','" + entry.action + "','" +
                      entry.payload + "'," + blob(entry.entry_hash) + ");";
    if (head) {
      sql += "UPDATE head SET size = " + std::to_string(entry.sequence + 1) + ", last_hash = " + blob(entry.entry_hash);
    }
    return sql;
  }

 private:
  std::string root_;
};

inline Ledger::BatchDigest batch(std::uint64_t sequence, std::uint8_t epoch = 1) {
  Ledger::BatchDigest digest;
  digest.epoch.fill(epoch);
  digest.sequence = sequence;
  digest.digest = base::sha256(std::to_string(sequence));
  return digest;
}

}  // namespace daemoneye::ledger::testing
