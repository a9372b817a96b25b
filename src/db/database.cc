#include "db/database.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/time.h"
#include "db/account.h"
#include "db/backup.h"
#include "db/page_checksum.h"
#include "db/sole_writer.h"
#include "db/vfs.h"

namespace daemoneye::db {
namespace {

// Above what the automatic checkpoint (1000 pages of 4 KiB) lets it reach when no reader holds it up.
constexpr int wal_bytes_kept = 6 * 1024 * 1024;
constexpr std::chrono::seconds longest_giving{2};
constexpr std::chrono::milliseconds giving_interval{5};

Errc errc_of(int code) {
  if (code == SQLITE_IOERR_DATA) return Errc::corrupt;  // a page's checksum differs
  switch (code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_IOERR: return Errc::io;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_CANTOPEN: return Errc::unavailable;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT: return Errc::corrupt;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY: return Errc::permission_denied;
    case SQLITE_INTERRUPT:
    case SQLITE_ABORT: return Errc::cancelled;
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG: return Errc::limit_exceeded;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE: return Errc::invalid_input;
    default: return Errc::internal;
  }
}

Result<std::int64_t> single_integer(Database& database, std::string_view sql) {
  DE_TRY(auto statement, database.prepare(sql));
  DE_TRY(const bool row, statement.step());
  return row ? statement.integer(0) : 0;
}

// The settings that must be in force before the first page is written.
Result<void> prepare_new_file(Database& database, const Database::Options& options) {
  int reserved = options.page_checksums ? page_reserved_bytes : 0;
  sqlite3_file_control(database.raw(), "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved);
  DE_CHECK(database.execute("PRAGMA page_size=" + std::to_string(options.page_size)));
  DE_CHECK(database.execute("PRAGMA auto_vacuum=INCREMENTAL"));
  return {};
}

Result<void> set_journal(Database& database, const Database::Options& options) {
  DE_TRY(auto statement, database.prepare("PRAGMA journal_mode=WAL"));
  DE_TRY(const bool row, statement.step());
  if (!row || statement.text(0) != "wal") {
    return fail(Errc::unavailable, database.path() + ": the file system does not support WAL");
  }
  statement.reset();
  // A WAL that keeps its size is written in place: truncated at every restart, it would grow with every commit, and
  // each fsync would have to write the file system's journal as well. At the close it is emptied all the same.
  DE_CHECK(database.execute("PRAGMA synchronous=FULL; PRAGMA journal_size_limit=" + std::to_string(wal_bytes_kept) +
                            "; PRAGMA secure_delete=OFF"));
  if (!options.autocheckpoint) DE_CHECK(database.execute("PRAGMA wal_autocheckpoint=0"));
  return {};
}

void configure_handle(sqlite3* handle, bool read_only) {
  // Without a WAL file another user of the group, who may not create one, could not open the database after a clean
  // stop; so neither side removes it.
  int persist = 1;
  sqlite3_file_control(handle, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
  if (read_only) sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
}

}  // namespace

Error last_error(sqlite3* handle, std::string_view doing) {
  const int code = handle == nullptr ? SQLITE_NOMEM : sqlite3_extended_errcode(handle);
  std::string message(doing);
  message += ": ";
  if ((code & 0xff) == SQLITE_FULL)
    message += "disk full";
  else
    message += handle == nullptr ? "out of memory" : sqlite3_errmsg(handle);
  if (const auto page = take_damaged_page(); code == SQLITE_IOERR_DATA) {
    message += ": page " + std::to_string(page) + " of the file is damaged (its checksum differs)";
    return {Errc::corrupt, std::move(message)};
  }
  if (const int noted = take_failed_errno(); handle != nullptr && (code & 0xff) == SQLITE_IOERR) {
    const int system = noted != 0 ? noted : sqlite3_system_errno(handle);
    if (system == ENOSPC || system == EDQUOT)
      message += " (disk full)";
    else if (system != 0)
      message += std::string(" (") + std::strerror(system) + ")";
  }
  return {errc_of(code), std::move(message)};
}

Database::Database(sqlite3* handle, std::string path) : handle_(handle), path_(std::move(path)) {}

Database::~Database() {
  verbs_ = {};  // or the handle would stay open for them
  sqlite3_close_v2(handle_);
}

Database::Checkpointed Database::checkpoint(Checkpoint kind) {
  const bool truncate = kind == Checkpoint::truncate;
  Checkpointed result;
  if (truncate) sqlite3_busy_timeout(handle_, 0);
  const int code =
      sqlite3_wal_checkpoint_v2(handle_, nullptr, truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE,
                                &result.frames, &result.moved);
  const int primary = code & 0xff;
  result.done = code == SQLITE_OK;
  if (result.done) {
    if (result.moved > 0 || result.frames <= 0) checkpoint_error_.clear();
  } else if (primary != SQLITE_BUSY && primary != SQLITE_LOCKED) {
    checkpoint_error_ = last_error(handle_, path_).message;
  }
  if (truncate) sqlite3_busy_timeout(handle_, static_cast<int>(busy_timeout_ms_));
  return result;
}

// Whoever opens a database first makes the files beside it. A reader that is root gives them to the database's owner a
// moment later; in between they are closed to the owner, although all that was there is its own.
Result<std::unique_ptr<Database>> Database::open(const std::string& path, const Options& options) {
  const auto deadline = Deadline::after(longest_giving);
  for (;;) {
    int code = SQLITE_OK;
    auto opened = open_once(path, options, code);
    const bool closed = code == SQLITE_READONLY || code == SQLITE_CANTOPEN || code == SQLITE_PERM;
    if (opened || options.mode == Mode::read_only || !closed || deadline.expired()) return opened;
    const auto folder = std::filesystem::path(path).parent_path();
    if (::access(path.c_str(), W_OK) != 0 || ::access(folder.empty() ? "." : folder.c_str(), W_OK) != 0) return opened;
    std::this_thread::sleep_for(giving_interval);
  }
}

Result<std::unique_ptr<Database>> Database::open_once(const std::string& path, const Options& options, int& code) {
  const bool read_only = options.mode == Mode::read_only;
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT || read_only) return fail_errno("open " + path, errno);
    status.st_size = 0;
  } else if (!S_ISREG(status.st_mode)) {
    return fail(Errc::invalid_input, path + ": not a regular file");
  }
  if (read_only && status.st_size == 0) return fail(Errc::not_found, path + ": the file is empty");

  if (!accounts_installed()) return fail(Errc::internal, "SQLite was in use before its allocator was set");
  sqlite3* raw = nullptr;
  const int flags = (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) |
                    SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int opened = sqlite3_open_v2(path.c_str(), &raw, flags, page_checksum_vfs());
  std::unique_ptr<Database> database(new Database(raw, path));
  const struct NotedAtTheEnd {
    sqlite3* handle;
    int& code;
    ~NotedAtTheEnd() { code = sqlite3_errcode(handle) & 0xff; }
  } noted{raw, code};
  if (opened != SQLITE_OK) {
    auto error = last_error(raw, "open " + path);
    if (raw != nullptr && sqlite3_system_errno(raw) == EACCES) error.code = Errc::permission_denied;
    return std::unexpected(std::move(error));
  }
  database->busy_timeout_ms_ = options.busy_timeout_ms;
  sqlite3_busy_timeout(raw, static_cast<int>(options.busy_timeout_ms));
  configure_handle(raw, read_only);
  if (!read_only) SoleWriter::adopt(raw);

  const bool is_new = !read_only && status.st_size == 0;
  if (is_new) DE_CHECK(prepare_new_file(*database, options));
  DE_TRY(const std::int64_t found, single_integer(*database, "PRAGMA application_id"));
  if (static_cast<std::uint32_t>(found) != options.application_id) {
    // An unmarked file without any table is what a crash between creation and marking leaves.
    DE_TRY(const std::int64_t tables, single_integer(*database, "SELECT count(*) FROM sqlite_schema"));
    if (read_only || found != 0 || tables != 0) {
      return fail(Errc::invalid_input, path + ": another kind of file (application id " + std::to_string(found) + ")");
    }
  }
  if (read_only) {
    // Its pages are void after each commit of the writer. SQLite's own bound is 2 MB a connection.
    DE_CHECK(database->execute("PRAGMA cache_size=-512"));
  } else {
    DE_CHECK(set_journal(*database, options));
    if (static_cast<std::uint32_t>(found) != options.application_id) {
      const auto id = static_cast<std::int32_t>(options.application_id);
      DE_CHECK(database->execute("PRAGMA application_id=" + std::to_string(id)));
    }
  }
  return database;
}

Result<void> Database::execute(const std::string& sql) {
  if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return std::unexpected(last_error(handle_, path_));
  }
  return {};
}

Result<void> Database::execute(Verb verb) {
  constexpr std::string_view sql[] = {"BEGIN", "BEGIN IMMEDIATE", "COMMIT"};
  auto& statement = verbs_[static_cast<std::size_t>(verb)];
  if (!statement) {
    DE_TRY(statement, prepare(sql[static_cast<std::size_t>(verb)]));
  }
  if (auto done = statement->run(); !done) return fail(done.error().code, path_ + ": " + done.error().message);
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(handle_, sql.data(), static_cast<int>(sql.size()), &statement, nullptr) != SQLITE_OK) {
    return std::unexpected(last_error(handle_, path_));
  }
  return Statement(statement);
}

std::int64_t Database::last_insert_rowid() const { return sqlite3_last_insert_rowid(handle_); }
std::int64_t Database::changes() const { return sqlite3_changes64(handle_); }

Result<Transaction> Transaction::begin(Database& database) {
  DE_CHECK(database.execute(Database::Verb::begin_immediate));
  return Transaction(database);
}

Transaction::Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}

Transaction::~Transaction() {
  // SQLite has already rolled back by itself after some errors; then there is nothing to do.
  if (database_ != nullptr && sqlite3_get_autocommit(database_->raw()) == 0) {
    sqlite3_exec(database_->raw(), "ROLLBACK", nullptr, nullptr, nullptr);
  }
}

Result<void> Transaction::commit() {
  DE_CHECK(database_->execute(Database::Verb::commit));
  database_ = nullptr;
  return {};
}

namespace {

Result<void> check_version(const Database& database, std::int64_t version, std::int64_t known) {
  if (version > known) {
    return fail(Errc::invalid_input, database.path() + ": made by a newer version (schema " + std::to_string(version) +
                                         ", this program knows " + std::to_string(known) + ")");
  }
  if (version < 0) return fail(Errc::corrupt, database.path() + ": schema version below zero");
  return {};
}

}  // namespace

Result<void> migrate(Database& database, const std::vector<std::string>& steps,
                     const std::function<std::string(std::int64_t version)>& backup_name) {
  const auto known = static_cast<std::int64_t>(steps.size());
  DE_TRY(const std::int64_t before, single_integer(database, "PRAGMA user_version"));
  DE_CHECK(check_version(database, before, known));
  if (before == known) return {};
  if (before > 0 && backup_name) {
    if (auto copied = backup(database, backup_name(before), {.overwrite = true}); !copied) {
      return fail(copied.error().code, database.path() + ": not brought from schema " + std::to_string(before) +
                                           " to " + std::to_string(known) +
                                           ", since the backup before it failed: " + copied.error().message);
    }
  }
  // One transaction: a step that fails leaves the file as it was, in the version that it had.
  DE_TRY(auto transaction, Transaction::begin(database));
  DE_TRY(const std::int64_t version, single_integer(database, "PRAGMA user_version"));
  DE_CHECK(check_version(database, version, known));
  for (auto step = version; step < known; ++step) {
    if (auto stepped = database.execute(steps[static_cast<std::size_t>(step)]); !stepped) {
      return fail(stepped.error().code, database.path() + ": the step to schema " + std::to_string(step + 1) +
                                            " failed, and the file is as it was: " + stepped.error().message);
    }
  }
  DE_CHECK(database.execute("PRAGMA user_version=" + std::to_string(known)));
  return transaction.commit();
}

}  // namespace daemoneye::db
