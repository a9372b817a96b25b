// The ledger's folder, files and lock, checked before SQLite sees them.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "ledger/ledger.h"

namespace daemoneye::ledger {

// The folder and what is claimed in it, for as long as the ledger is open.
class Files {
 public:
  // Creates the folder (0750) where missing, gives it to the reader group where we may, takes the single-writer lock.
  // permission_denied: the folder is not ours alone to write. unavailable: another writer holds the lock.
  static Result<Files> claim(const Ledger::Options& options);

  // A file of the folder, made (0640) where missing, with what SQLite keeps beside it: ours alone to write, no link.
  Result<UniqueFd> claim_file(const std::string& path) const;
  // What SQLite has made beside a file by now, given to the group as well.
  void give_beside(const std::string& path) const;
  // How many segments there are, at least 1: none is missing between the first and the last.
  [[nodiscard]] std::uint64_t segments() const { return segments_; }

  // What a crash left behind the last commit of the file's write-ahead log is kept beside it: PATH.torn-20261122T….
  struct KeptAside {
    std::string path;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] Result<std::optional<KeptAside>> keep_torn_tail(const std::string& path) const;

 private:
  void forget_old_tails() const;

  UniqueFd folder_, lock_;
  std::string folder_path_;
  std::optional<gid_t> group_;
  std::uint64_t segments_ = 1;
};

// Tells whether a path still leads to the file that was there at first.
class FileIdentity {
 public:
  static Result<FileIdentity> of(const std::string& path);
  [[nodiscard]] bool is_still_there() const;

 private:
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace daemoneye::ledger
