#include "store/store_file.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <vector>

#include "base/time.h"
#include "db/sole_writer.h"
#include "observe/log.h"
#include "store/schema.h"

namespace daemoneye::store {
namespace {

constexpr mode_t folder_mode = 0750, file_mode = 0640, owners_mode = 0600;

std::string lock_file(const std::string& path) { return path + ".writer"; }
std::string sign_file(const std::string& path) { return path + ".lock"; }

std::optional<gid_t> group_id(const std::string& name) {
  if (name.empty()) return std::nullopt;
  group entry{};
  group* found = nullptr;
  std::vector<char> buffer(16 * 1024);
  if (getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
    return std::nullopt;
  }
  return found->gr_gid;
}

// Readers of the group are a convenience: when we may not give it, the owner still works.
// By path, never by descriptor: closing one of our own would drop SQLite's locks on the same file (POSIX locks).
void give_to_group(const std::string& path, const std::string& name) {
  const auto group = group_id(name);
  struct stat status{};
  if (!group || lstat(path.c_str(), &status) != 0 || S_ISLNK(status.st_mode) || status.st_gid == *group) return;
  if (lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    observe::log(observe::Level::warn, "store", "cannot give the group its read access",
                 {{"path", path}, {"group", name}});
  }
}

// Creates the file when it is not there, with its final rights whatever the umask: nobody sees them wider for a moment.
Result<void> create_file(const std::string& path, mode_t mode = file_mode) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd) {
    if (errno == EEXIST) return {};
    return fail_errno("create " + path, errno);
  }
  if (fchmod(fd.get(), mode) != 0) return fail_errno("chmod " + path, errno);
  return {};
}

// A name of the same kind: events.redb -> events.WORD.redb.
std::string beside(const std::string& path, const std::string& word) {
  constexpr std::string_view suffix = ".redb";
  const std::string stem = path.ends_with(suffix) ? path.substr(0, path.size() - suffix.size()) : path;
  return stem + "." + word + std::string(suffix);
}

struct flock whole_file() {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

Result<WriterLock> WriterLock::take(const std::string& path, const std::string& reader_group) {
  const auto file = lock_file(path);
  DE_CHECK(create_file(file, owners_mode));
  UniqueFd lock(::open(file.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!lock) return fail_errno("open " + file, errno);
  struct stat status{};
  if (::fstat(lock.get(), &status) != 0) return fail_errno(file, errno);
  if ((status.st_mode & ~(S_IFMT | owners_mode)) != 0)
    return fail(Errc::permission_denied, file + ": others than its owner may open it; remove it while no agent runs");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(Errc::unavailable, path + ": another agent is writing to it");
    return fail_errno("lock " + file, errno);
  }
  const auto sign_path = sign_file(path);
  DE_CHECK(create_file(sign_path));
  UniqueFd sign(::open(sign_path.c_str(), O_RDWR | O_CLOEXEC));
  if (!sign) return fail_errno("open " + sign_path, errno);
  give_to_group(sign_path, reader_group);
  auto signal = whole_file();
  if (fcntl(sign.get(), F_OFD_SETLK, &signal) != 0) {
    if (errno != EAGAIN && errno != EACCES) return fail_errno("lock " + sign_path, errno);
    // A writer that knows no other lock than this; or a reader, who can lock for reading only.
    if (is_held(path)) return fail(Errc::unavailable, path + ": another agent is writing to it");
    observe::log(observe::Level::warn, "store", "a reader keeps others from seeing that this is written to",
                 {{"path", sign_path}});
  }
  return WriterLock(std::move(lock), std::move(sign));
}

bool WriterLock::is_held(const std::string& path) {
  const UniqueFd fd(::open(sign_file(path).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return false;
  auto lock = whole_file();
  return fcntl(fd.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK;
}

void WriterLock::remove_files(const std::string& path) {
  ::unlink(lock_file(path).c_str());
  ::unlink(sign_file(path).c_str());
}

Result<void> prepare_folder(const std::string& path, const std::string& reader_group) {
  const auto folder = std::filesystem::absolute(path).parent_path();
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return {};
  std::filesystem::create_directories(folder.parent_path(), error);
  if (error) return fail_errno("create " + folder.parent_path().string(), error.value());
  if (::mkdir(folder.c_str(), folder_mode) != 0 && errno != EEXIST)
    return fail_errno("create " + folder.string(), errno);
  if (::chmod(folder.c_str(), folder_mode) != 0) return fail_errno("chmod " + folder.string(), errno);
  give_to_group(folder.string(), reader_group);
  return {};
}

std::string backup_before_migration(const std::string& path, std::int64_t version) {
  return beside(path, "schema-" + std::to_string(version));
}

Result<std::unique_ptr<db::Database>> open_store_for_writing(const std::string& path, const std::string& reader_group) {
  DE_CHECK(create_file(path));
  db::Database::Options options;
  options.mode = db::Database::Mode::create_or_write;
  options.application_id = application_id;
  options.page_checksums = true;
  const db::SoleWriter sole_writer;  // by WriterLock
  DE_TRY(auto database, db::Database::open(path, options));
  DE_CHECK(db::migrate(*database, schema_steps(),
                       [&](std::int64_t version) { return backup_before_migration(path, version); }));
  for (const char* suffix : {"", "-wal", "-shm"}) give_to_group(path + suffix, reader_group);
  return database;
}

Result<std::unique_ptr<db::Database>> open_store_for_reading(const std::string& path) {
  db::Database::Options options;
  options.application_id = application_id;
  DE_TRY(auto database, db::Database::open(path, options));
  DE_TRY(auto statement, database->prepare("PRAGMA user_version"));
  DE_TRY(const bool row, statement.step());
  const std::int64_t version = row ? statement.integer(0) : 0;
  const auto known = static_cast<std::int64_t>(schema_steps().size());
  if (version > known) {
    return fail(Errc::invalid_input, path + ": made by a newer version (schema " + std::to_string(version) +
                                         ", this program knows " + std::to_string(known) + ")");
  }
  if (version < known) {
    return fail(Errc::unavailable, path + ": not yet brought to schema " + std::to_string(known) + " by the agent");
  }
  return database;
}

Result<std::string> set_aside(const std::string& path) {
  DE_TRY(const auto lock, WriterLock::take(path, ""));
  std::string moment = base::to_iso(base::wall_now()).substr(0, 19) + "Z";  // without the fraction
  std::erase_if(moment, [](char c) { return c == '-' || c == ':'; });
  const std::string name = beside(path, "damaged-" + moment);
  // The file last: until then the next start finds it and does all of this again.
  for (const char* suffix : {"-wal", "-shm", "-journal", ""}) {
    if (::rename((path + suffix).c_str(), (name + suffix).c_str()) != 0 && errno != ENOENT) {
      return fail_errno("set aside " + path + suffix, errno);
    }
  }
  return name;
}

std::uint64_t file_size(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

}  // namespace daemoneye::store
