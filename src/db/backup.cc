#include "db/backup.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/unique_fd.h"
#include "db/page_checksum.h"

namespace daemoneye::db {
namespace {

constexpr mode_t copy_mode = 0640;
constexpr int busy_pause_ms = 20;

struct Handle {
  sqlite3* handle = nullptr;
  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { sqlite3_close_v2(handle); }
};

// The snapshot that the whole copy is of: without it each change by another process would start the copy again.
class ReadTransaction {
 public:
  static Result<std::unique_ptr<ReadTransaction>> begin(Database& database) {
    DE_CHECK(database.execute("BEGIN"));
    auto transaction = std::make_unique<ReadTransaction>(database);
    DE_TRY(auto select, database.prepare("SELECT count(*) FROM sqlite_schema"));
    DE_CHECK(select.step());
    return transaction;
  }
  explicit ReadTransaction(Database& database) : database_(database) {}
  ReadTransaction(const ReadTransaction&) = delete;
  ReadTransaction& operator=(const ReadTransaction&) = delete;
  ~ReadTransaction() { sqlite3_exec(database_.raw(), "COMMIT", nullptr, nullptr, nullptr); }

 private:
  Database& database_;
};

// SQLite writes page 1 of a copy last, and the others as soon as its cache is full: without page 1 nobody below it
// knows that they carry checksums. Those that come out of the source's WAL have none yet.
Result<void> announce_page_size(Database& source, sqlite3* target) {
  int reserved = -1;  // asks, sets nothing
  if (sqlite3_file_control(source.raw(), "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved) != SQLITE_OK) {
    return std::unexpected(last_error(source.raw(), source.path()));
  }
  if (reserved != page_reserved_bytes) return {};
  DE_TRY(auto select, source.prepare("PRAGMA page_size"));
  DE_CHECK(select.step());
  int page_size = static_cast<int>(select.integer(0));
  if (sqlite3_file_control(target, "main", set_page_size_control, &page_size) != SQLITE_OK) {
    return std::unexpected(last_error(target, "backup: set the page size"));
  }
  return {};
}

Result<void> copy_pages(Database& source, const std::string& file, const BackupOptions& options) {
  Handle target;
  if (sqlite3_open_v2(file.c_str(), &target.handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                      page_checksum_vfs()) != SQLITE_OK) {
    return std::unexpected(last_error(target.handle, "open " + file));
  }
  const auto execute = [&](const char* sql) -> Result<void> {
    if (sqlite3_exec(target.handle, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
    return std::unexpected(last_error(target.handle, file));
  };
  // Nothing of the copy counts before it is renamed: no journal.
  DE_CHECK(execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF"));
  DE_CHECK(announce_page_size(source, target.handle));
  auto* copy = sqlite3_backup_init(target.handle, "main", source.raw(), "main");
  if (copy == nullptr) return std::unexpected(last_error(target.handle, file));
  int code = SQLITE_OK;
  bool late = false;
  while (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    if (code != SQLITE_OK) sqlite3_sleep(busy_pause_ms);
    late = options.deadline.expired();
    if (late) break;
    code = sqlite3_backup_step(copy, static_cast<int>(options.pages_per_step));
    if (options.progress && code != SQLITE_BUSY) {
      const auto total = static_cast<std::uint64_t>(sqlite3_backup_pagecount(copy));
      options.progress(total - static_cast<std::uint64_t>(sqlite3_backup_remaining(copy)), total);
    }
  }
  // The target's handle holds the error of either side.
  const int finished = sqlite3_backup_finish(copy);
  if (late) return fail(Errc::timeout, "backup: the time limit has passed");
  if (code != SQLITE_DONE || finished != SQLITE_OK) return std::unexpected(last_error(target.handle, file));
  // A file in WAL mode would need two more beside it, and a folder that its reader may write to.
  DE_CHECK(execute("PRAGMA journal_mode=DELETE"));
  return {};
}

Result<void> sync_path(const std::string& path, int flags) {
  const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return fail_errno("sync " + path, errno);
  return {};
}

bool exists(const std::string& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0;
}

constexpr const char* companions[] = {"-wal", "-shm", "-journal"};

Result<void> put_in_place(const std::string& from, const std::string& to, bool overwrite) {
  if (overwrite) {
    // What lies beside belongs to the file that goes, and would be taken for the new one's.
    for (const char* suffix : companions) ::unlink((to + suffix).c_str());
    if (::rename(from.c_str(), to.c_str()) != 0) return fail_errno("rename to " + to, errno);
    return {};
  }
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
  if (errno == EEXIST) return fail(Errc::invalid_input, to + " is there already");
  if (errno != EINVAL) return fail_errno("rename to " + to, errno);
  // A file system that does not know the flag.
  if (exists(to)) return fail(Errc::invalid_input, to + " is there already");
  if (::rename(from.c_str(), to.c_str()) != 0) return fail_errno("rename to " + to, errno);
  return {};
}

}  // namespace

Result<void> backup(Database& source, const std::string& target, const BackupOptions& options) {
  if (!options.overwrite) {
    if (exists(target)) return fail(Errc::invalid_input, target + " is there already");
    for (const char* suffix : companions) {
      if (exists(target + suffix)) {
        return fail(Errc::invalid_input, target + suffix + " is left there by another database");
      }
    }
  }
  std::error_code error;
  if (exists(target) && std::filesystem::equivalent(target, source.path(), error)) {
    return fail(Errc::invalid_input, target + " is the database itself");
  }
  const auto path = std::filesystem::absolute(target);
  const std::string temporary =
      (path.parent_path() / ("." + path.filename().string() + ".partial-" + std::to_string(::getpid()))).string();
  const auto remove_temporary = [&] {
    ::unlink(temporary.c_str());
    for (const char* suffix : companions) ::unlink((temporary + suffix).c_str());
  };
  remove_temporary();
  {
    const UniqueFd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, copy_mode));
    if (!fd) return fail_errno("create " + temporary, errno);
    if (::fchmod(fd.get(), copy_mode) != 0) {
      auto failed = fail_errno("chmod " + temporary, errno);
      remove_temporary();
      return failed;
    }
  }
  const auto written = [&]() -> Result<void> {
    {
      DE_TRY(const auto snapshot, ReadTransaction::begin(source));
      DE_CHECK(copy_pages(source, temporary, options));
    }
    DE_CHECK(sync_path(temporary, O_RDONLY));
    DE_CHECK(put_in_place(temporary, path.string(), options.overwrite));
    return sync_path(path.parent_path().string(), O_RDONLY | O_DIRECTORY);
  }();
  if (!written) remove_temporary();
  return written;
}

}  // namespace daemoneye::db
