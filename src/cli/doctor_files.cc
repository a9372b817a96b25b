// Users, folders, files, room on the disks.
#include <grp.h>
#include <linux/magic.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "cli/doctor.h"
#include "ledger/reader.h"
#include "sandbox/sandbox.h"

namespace daemoneye::cli {
namespace {

constexpr const char* as_root = "run it as root, or as a member of the group daemoneye";
constexpr const char* reader_group = "daemoneye";
constexpr const char* admin_group = "daemoneye-admin";
constexpr std::uint64_t mib = 1024 * 1024;
constexpr std::uint64_t too_little_room = 32 * mib, little_room = 256 * mib;
constexpr std::uint64_t too_few_inodes = 256;
constexpr long cifs_magic = 0xFF534D42;  // linux/magic.h of Debian 12 has only its successor's

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

std::string megabytes(std::uint64_t bytes) { return std::to_string(bytes / mib) + " MiB"; }

std::string octal(mode_t mode) {
  std::string text = "0000";
  for (std::size_t i = 0; i < text.size(); ++i) text[3 - i] = static_cast<char>('0' + (mode >> (3 * i) & 7));
  return text;
}

std::string user_name(uid_t uid) {
  const passwd* entry = ::getpwuid(uid);  // NOLINT(concurrency-mt-unsafe): there is one thread
  return entry != nullptr ? entry->pw_name : "uid " + std::to_string(uid);
}

// What there should be at a path, and what it means when it is otherwise.
struct Expected {
  const char* check;
  std::string path, owner;  // owner: empty when the user does not matter
  bool folder = false;
  mode_t forbidden = 0;  // bits
  Verdict when_open = Verdict::fail;
  const char *open_means, *when_missing;
};

void look_at_path(const Expected& expected, Findings& findings) {
  const auto& path = expected.path;
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return findings.ok(expected.check, path + ": " + expected.when_missing);
    return findings.unknown(expected.check, fail_errno(path, errno).error().message, as_root);
  }
  const auto shown = path + " (" + octal(status.st_mode & 07777) + ", " + user_name(status.st_uid) + ')';
  if (expected.folder != S_ISDIR(status.st_mode) || (!expected.folder && !S_ISREG(status.st_mode))) {
    return findings.add(expected.check, Verdict::fail, shown + (expected.folder ? " is no folder" : " is no file"),
                        "the daemons refuse to start", "move it away");
  }
  if (!expected.owner.empty() && user_name(status.st_uid) != expected.owner) {
    return findings.add(expected.check, Verdict::fail, shown + " is not " + expected.owner + "'s",
                        "the daemon that needs it cannot use it, and its owner can change it",
                        "chown " + expected.owner + ' ' + path);
  }
  if (const auto bits = status.st_mode & expected.forbidden; bits != 0) {
    return findings.add(expected.check, expected.when_open, shown, expected.open_means,
                        "chmod " + octal(status.st_mode & 07777 & ~expected.forbidden) + ' ' + path);
  }
  findings.ok(expected.check, shown);
}

void look_at_users(const Patient& patient, Findings& findings) {
  if (!patient.for_root_start) {
    return findings.ok("users", "none of their own are needed: the daemons run as " + user_name(::geteuid()));
  }
  const auto& app = patient.loaded->settings.app;
  std::string missing;
  for (const auto& user : {app.user, app.collector_user}) {
    if (!sandbox::find_user(user)) missing += (missing.empty() ? "" : ", ") + ("user " + user);
  }
  for (const auto* group : {reader_group, admin_group}) {
    if (!sandbox::find_group(group)) missing += (missing.empty() ? "" : ", ") + ("group " + std::string(group));
  }
  if (missing.empty()) return findings.ok("users", app.user + " and " + app.collector_user + " with their groups");
  findings.add("users", Verdict::fail, "missing: " + missing, "the daemons do not start as root",
               "install the package again, or run packaging/postinst (scripts/setup does)");
}

void look_at_own_paths(const Patient& patient, Findings& findings) {
  const auto& settings = patient.loaded->settings;
  const bool root = patient.for_root_start;
  const auto agent = root ? settings.app.user : std::string(), collector = root ? settings.app.collector_user : "";
  constexpr mode_t writable = 0022, of_others = 0007;
  constexpr const char* made = "not there yet; it is made at the first start";
  constexpr const char* plantable = "who can write there can take the daemon's place or plant files for it";
  constexpr const char* readable = "everybody on this machine can read what was recorded";
  const auto store_folder = folder_of(settings.database.path), ledger_folder = folder_of(settings.audit.path);
  look_at_path({"state_folder", store_folder, agent, true, writable, Verdict::fail, plantable, made}, findings);
  look_at_path({"database", settings.database.path, agent, false, writable | of_others, Verdict::fail, readable, made},
               findings);
  look_at_path({"ledger_folder", ledger_folder, collector, true, writable, Verdict::fail, plantable, made}, findings);
  look_at_path({"ledger", settings.audit.path, collector, false, writable | of_others, Verdict::fail, readable, made},
               findings);
  look_at_path({"ledger_key", settings.audit.key_path, collector, false, 0077, Verdict::fail,
                "who reads the key can sign checkpoints of another ledger", made},
               findings);
  look_at_path(
      {"socket_folder", folder_of(settings.ipc.socket_path), agent, true, writable, Verdict::fail, plantable, made},
      findings);
}

// A privileged start passes over files that others than root can write.
void look_at_config_files(const Patient& patient, Findings& findings) {
  for (const auto& notice : patient.loaded->notices) {
    findings.add("config_files", Verdict::warn, notice, "what it says is not in force",
                 "chown root: and chmod go-w the file and its folders");
  }
  if (patient.loaded->notices.empty()) findings.ok("config_files", "none is passed over");
}

void look_at_contents(const Patient& patient, Findings& findings) {
  constexpr const char* none = "none yet: it is made at the first start";
  const auto reader = patient.invocation.reader();
  const auto stats =
      reader ? (*reader)->stats() : Result<store::Reader::Stats>(fail(Errc::unavailable, reader.error().message));
  if (stats) {
    findings.ok("database_opens", std::to_string(stats->events) + " events, schema " +
                                      std::to_string(stats->schema_version) + "; db check looks at all of it");
  } else if (const auto& database = patient.loaded->settings.database.path; ::access(database.c_str(), F_OK) != 0) {
    if (errno == ENOENT)
      findings.ok("database_opens", none);
    else
      findings.unknown("database_opens", stats.error().message, as_root);
  } else if (::access(database.c_str(), R_OK) != 0) {
    findings.unknown("database_opens", stats.error().message, as_root);
  } else {
    findings.add("database_opens", Verdict::fail, stats.error().message, "what was recorded cannot be read",
                 "daemoneye-cli db check; restore a backup, or start with --set database.on_damage=set_aside");
  }
  const auto ledger = ledger::LedgerReader::open(patient.loaded->settings.audit.path);
  const auto size = ledger ? (*ledger)->size() : std::unexpected(ledger.error());
  if (size) return findings.ok("ledger_opens", std::to_string(*size) + " entries; audit verify proves them");
  if (size.error().code == Errc::not_found) return findings.ok("ledger_opens", none);
  if (size.error().code == Errc::permission_denied) {
    return findings.unknown("ledger_opens", size.error().message, as_root);
  }
  findings.add("ledger_opens", Verdict::fail, size.error().message, "nothing new is recorded or sent",
               "daemoneye-cli audit verify tells where; keep the files, and move them away for a new ledger");
}

std::string existing_parent(std::string path) {
  while (path != "/" && ::access(path.c_str(), F_OK) != 0) path = folder_of(path);
  return path;
}

void look_at_file_system(const std::string& check, const std::string& place, Findings& findings) {
  struct statfs system{};
  if (::statfs(place.c_str(), &system) != 0) return;
  switch (system.f_type) {
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
    case cifs_magic:
    case V9FS_MAGIC:
      return findings.add(check, Verdict::fail, place + " is on a network file system",
                          "the store needs memory that processes share by its file: it can be damaged there",
                          "app.state_dir on a local disk");
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
      return findings.add(check, Verdict::warn, place + " is in memory",
                          "everything recorded is gone after a restart of the machine", "app.state_dir on a disk");
    default: return;
  }
}

// `may_grow`: bytes that are promised to what lies there.
void look_at_disk(const std::string& check, const std::string& folder, std::uint64_t may_grow, Findings& findings) {
  const auto place = existing_parent(folder);
  struct statvfs disk{};
  if (::statvfs(place.c_str(), &disk) != 0) {
    return findings.unknown(check, fail_errno(place, errno).error().message, as_root);
  }
  const std::uint64_t room = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  const auto found = megabytes(room) + " are free for " + folder;
  constexpr const char* stops = "when it is full, nothing new is stored until there is room";
  if ((disk.f_flag & ST_RDONLY) != 0) {
    findings.add(check, Verdict::fail, place + " is mounted read-only", "nothing can be stored", "mount it writable");
  } else if (room < too_little_room) {
    findings.add(check, Verdict::fail, found, stops, "make room, or move app.state_dir");
  } else if (disk.f_files > 0 && disk.f_favail < too_few_inodes) {
    findings.add(check, Verdict::fail, std::to_string(disk.f_favail) + " files more fit the disk of " + folder, stops,
                 "remove files there, or move app.state_dir");
  } else if (room < may_grow) {
    findings.add(check, Verdict::warn, found + ", and it may grow by " + megabytes(may_grow),
                 "the disk is full before database.max_size_mb bounds the store",
                 "make room, or lower database.max_size_mb");
  } else if (room < little_room) {
    findings.add(check, Verdict::warn, found, stops, "make room, or move app.state_dir");
  } else {
    findings.ok(check, found);
  }
  look_at_file_system(check, place, findings);
}

std::uint64_t size_of(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

}  // namespace

std::vector<Finding> look_at_files(const Patient& patient) {
  Findings findings("files");
  look_at_users(patient, findings);
  look_at_config_files(patient, findings);
  look_at_own_paths(patient, findings);
  look_at_contents(patient, findings);
  const auto& settings = patient.loaded->settings;
  const auto& database = settings.database;
  const auto limit = std::uint64_t{database.max_size_mb} * mib;
  const auto used = size_of(database.path) + size_of(database.path + "-wal");
  look_at_disk("disk", folder_of(database.path), limit - std::min(limit, used), findings);
  look_at_disk("ledger_disk", folder_of(settings.audit.path), 0, findings);
  return findings.take();
}

}  // namespace daemoneye::cli
