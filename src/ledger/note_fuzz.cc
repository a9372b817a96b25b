// Signed notes, checkpoints and keys from anywhere.
#include <cstdlib>

#include "ledger/note.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace daemoneye::ledger;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto note = Note::parse(text)) {
    if (note->bytes() != text) std::abort();  // one text for one note
    if (const auto checkpoint = Checkpoint::parse(note->text)) {
      if (!note->text.starts_with(checkpoint->text())) std::abort();
    }
    if (!parse_notes(text + text)) std::abort();
  }
  if (const auto key = PublicKey::parse(text)) {
    if (PublicKey::parse(key->text()) != *key) std::abort();
    (void)key->verifies("text", std::string(64, 'x'));
  }
  if (const auto key = PrivateKey::parse(text)) {
    Note note{.text = "text\n", .signatures = {}};
    if (!note.sign(*key) || !note.is_signed_by(key->public_key())) std::abort();
  }
  return 0;
}
