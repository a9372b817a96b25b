// What LedgerReader's parts (reader.cc, verify.cc) share.
#pragma once

#include <vector>

#include "ledger/ledger.h"
#include "ledger/segment.h"

namespace daemoneye::ledger {

struct LedgerReader::State {
  std::string path;
  std::vector<Segment> segments;  // at least one

  // Opens what the writer has begun since.
  Result<void> refresh();
  [[nodiscard]] Segment& newest() { return segments.back(); }
  // The one that holds the entry, or would hold it.
  [[nodiscard]] Segment& segment_of(std::uint64_t sequence);
  Result<base::Sha256Digest> node(unsigned level, std::uint64_t number);
  Result<base::Sha256Digest> hash_before(std::uint64_t sequence);  // of the entry before; of the first: zeros
  Result<std::uint64_t> size();
};

}  // namespace daemoneye::ledger
