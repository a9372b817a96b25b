// SQLite handle, statement, transaction. One Database belongs to one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace daemoneye::db {

class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  // Parameters count from 1. Text and blob are copied unless the _static form is used (then they outlive step()).
  Statement& bind(int index, std::int64_t value);
  Statement& bind(int index, double value);
  Statement& bind_text(int index, std::string_view value);
  Statement& bind_blob(int index, std::string_view value);
  Statement& bind_blob_static(int index, std::string_view value);
  Statement& bind_null(int index);

  // True: a row is there. Errors: io (FULL, with "disk full" in the text, and IOERR), unavailable (BUSY, LOCKED,
  // CANTOPEN), corrupt (CORRUPT, NOTADB, a page's checksum), permission_denied (READONLY, PERM, AUTH), cancelled
  // (INTERRUPT), limit_exceeded (NOMEM, TOOBIG), invalid_input (CONSTRAINT, MISMATCH, RANGE), internal (the rest).
  Result<bool> step();
  // step() to the end, rows ignored, then reset().
  Result<void> run();
  void reset();  // also clears the bound values

  // Columns count from 0. Views live until the next step() or reset().
  [[nodiscard]] bool is_null(int column) const;
  [[nodiscard]] std::int64_t integer(int column) const;
  [[nodiscard]] double real(int column) const;
  [[nodiscard]] std::string_view text(int column) const;
  [[nodiscard]] std::string_view blob(int column) const;
  [[nodiscard]] sqlite3_stmt* raw() const { return handle_; }

 private:
  friend class Database;
  explicit Statement(sqlite3_stmt* handle) : handle_(handle) {}
  Statement& keep(int code);
  sqlite3_stmt* handle_ = nullptr;
  Result<void> bound_ = {};  // the first failed bind, given back by step()
};

class Database {
 public:
  enum class Mode { create_or_write, read_only };
  struct Options {
    Mode mode = Mode::read_only;
    std::uint32_t busy_timeout_ms = 5000;
    std::uint32_t page_size = 4096;    // when created
    std::uint32_t application_id = 0;  // checked when opened, set when created
    bool page_checksums = false;       // when created: docs/formats/store.md; an existing file says itself what it has
    bool autocheckpoint = true;
  };
  // The file settings of the house: WAL, synchronous=FULL, persistent WAL of at most 6 MiB,
  // auto_vacuum=INCREMENTAL, secure_delete=OFF, trusted_schema=OFF, no extension loading, defensive, no triggers, no
  // views. A missing file is not_found when read_only; a file of another application is invalid_input. read_only
  // needs no right to write: neither to the folder nor to the files beside.
  static Result<std::unique_ptr<Database>> open(const std::string& path, const Options& options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  Result<void> execute(const std::string& sql);  // constant SQL of ours, any number of statements
  // What begins and ends each transaction, prepared once: a small commit is not much more than this.
  enum class Verb : std::uint8_t { begin, begin_immediate, commit };
  Result<void> execute(Verb verb);
  Result<Statement> prepare(std::string_view sql);
  // Moves the WAL into the file: `passive` what no reader is in the way of, `truncate` all of it or nothing; neither
  // waits for anybody. Readers in the way are no failure.
  enum class Checkpoint : std::uint8_t { passive, truncate };
  struct Checkpointed {
    bool done = false;          // as far as readers let it
    int frames = 0, moved = 0;  // in the WAL; of them now in the file as well
  };
  Checkpointed checkpoint(Checkpoint kind);
  // Why the last one failed, and none since has moved anything; empty: none did.
  [[nodiscard]] const std::string& checkpoint_error() const { return checkpoint_error_; }
  [[nodiscard]] std::int64_t last_insert_rowid() const;
  [[nodiscard]] std::int64_t changes() const;
  [[nodiscard]] sqlite3* raw() const { return handle_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Database(sqlite3* handle, std::string path);
  // `code`: SQLite's own, of what failed.
  static Result<std::unique_ptr<Database>> open_once(const std::string& path, const Options& options, int& code);
  sqlite3* handle_ = nullptr;
  std::string path_;
  std::string checkpoint_error_;
  std::uint32_t busy_timeout_ms_ = 0;
  std::array<std::optional<Statement>, 3> verbs_;
};

// BEGIN IMMEDIATE … COMMIT; rolls back when destroyed before commit().
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<void> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

// The error of the last failed call on `handle`, mapped as in Statement::step().
Error last_error(sqlite3* handle, std::string_view doing);

// Brings `user_version` from its value to steps.size(), all steps in one transaction: when one fails the file is as it
// was. A file that had a version gets a copy beforehand, named by `backup_name`, which stays; no copy, no migration.
// A version above steps.size() is refused: "made by a newer version".
Result<void> migrate(Database& database, const std::vector<std::string>& steps,
                     const std::function<std::string(std::int64_t version)>& backup_name = {});

}  // namespace daemoneye::db
