// Proof files from anywhere: what is read comes back from both forms as it was.
#include <cstdlib>

#include "ledger/proof.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye::ledger;
  static const auto key = PrivateKey::generate("fuzz")->public_key();
  const auto proof = Proof::parse({reinterpret_cast<const char*>(data), size});
  if (!proof) return 0;
  if (verify_proof(*proof, key)) std::abort();  // nobody has signed with this key
  const auto again = Proof::parse(proof->text());
  if (!again || *again != *proof) std::abort();
  const auto json = Proof::parse(proof->json());
  if (!json || *json != *proof) std::abort();
  return 0;
}
