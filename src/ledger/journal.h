// The digests of batches that are about to be sent and not yet under a root: a file of fixed records beside the ledger.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "ledger/ledger.h"

namespace daemoneye::ledger {

struct Journal {
  struct Found {
    std::vector<Ledger::BatchDigest> batches;  // of the generation that was asked for, in order of writing
    std::uint64_t torn = 0;                    // records that are damaged
  };
  // Epoch, sequence, digest, generation, CRC-32 of these.
  static constexpr std::size_t record_bytes = 16 + 8 + 32 + 4 + 4;
  // A root a second; more than that many batches a second wait for it.
  static constexpr std::size_t max_records = max_journaled_batches;

  // Opens or makes the file in `folder` (a descriptor) and takes its room on the disk.
  static Result<Journal> open(UniqueFd fd, const std::string& path);
  static Result<Found> read(int fd, std::uint64_t generation);

  // In the hands of the kernel when it returns: a crash of this process takes nothing of it, one of the machine may.
  Result<void> append(const std::vector<Ledger::BatchDigest>& batches, std::uint64_t generation);
  // What was written counts no more: its generation is over.
  void begin_anew() { records_ = 0; }
  [[nodiscard]] std::size_t records() const { return records_; }
  // Forgets all on the disk, too.
  Result<void> clear();

 private:
  UniqueFd fd_;
  std::string path_;
  std::size_t records_ = 0;
};

}  // namespace daemoneye::ledger
