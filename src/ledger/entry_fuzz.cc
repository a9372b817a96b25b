// What stands in an entry: packed and textual payloads of batches, and records of the journal.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "base/unique_fd.h"
#include "ledger/format.h"
#include "ledger/journal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye::ledger;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto batches = SealedBatches::unpack(bytes)) {
    if (batches->packed() != bytes) std::abort();
    std::string json;
    batches->json(json);
    const auto again = SealedBatches::parse(json);
    if (!again || *again != *batches) std::abort();
  }
  if (const auto batches = SealedBatches::parse(bytes)) {
    const auto again = SealedBatches::unpack(batches->packed());
    if (!again || *again != *batches) std::abort();
  }
  static const daemoneye::UniqueFd file(::memfd_create("journal", MFD_CLOEXEC));
  if (::ftruncate(file.get(), 0) != 0 || ::pwrite(file.get(), data, size, 0) != static_cast<ssize_t>(size)) return 0;
  const auto found = Journal::read(file.get(), 1);
  if (!found || found->batches.size() > Journal::max_records) std::abort();
  return 0;
}
