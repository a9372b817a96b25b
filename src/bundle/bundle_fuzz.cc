// Bundles from anywhere: their form, the manifest, and all of it behind a signature that holds.
#include <cstdlib>

#include "bundle/bundle.h"

namespace {

using namespace daemoneye;

const ledger::PrivateKey& key() {
  static const auto made = ledger::PrivateKey::generate("fuzz").value();
  return made;
}

void open_bundle(std::string_view bytes) {
  const auto opened = bundle::open(bytes, {key().public_key()}, Timestamp{0});
  if (!opened) return;
  // What is taken has safe paths, and gives the same bundle when it is made again.
  for (const auto& file : opened->files) {
    if (!bundle::kind_of(file.path) || bundle::place_of(file.path).find('/') != std::string::npos) std::abort();
  }
  if (opened->manifest.json() != bundle::Manifest::parse(opened->manifest.json())->json()) std::abort();
  const auto again = bundle::make(opened->manifest, opened->files, key());
  if (!again || bundle::open(*again, {key().public_key()}, Timestamp{0})->digest != opened->digest) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  open_bundle(bytes);
  [[maybe_unused]] const auto version = bundle::Version::parse(bytes);
  const auto parts = bundle::split(bytes);
  if (!parts) return 0;
  if (bundle::join(*parts) != bytes) std::abort();
  // A signer whose key was stolen may put anything behind it.
  ledger::Note note{.text = bundle::note_text(base::sha256(parts->manifest)), .signatures = {}};
  if (!note.sign(key())) std::abort();
  const auto signed_note = note.bytes();
  open_bundle(bundle::join({signed_note, parts->manifest, parts->contents}));
  return 0;
}
