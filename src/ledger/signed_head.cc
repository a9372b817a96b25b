#include "ledger/signed_head.h"

#include <algorithm>

#include "base/file.h"
#include "base/text.h"
#include "ledger/format.h"
#include "ledger/reader.h"
#include "observe/log.h"

namespace daemoneye::ledger {
namespace {

constexpr unsigned head_mode = 0600;
constexpr std::uint64_t max_taken_anew = 200'000;

bool is_signed_by_any(const Note& note, const std::vector<PublicKey>& keys) {
  return std::ranges::any_of(keys, [&](const PublicKey& key) { return note.is_signed_by(key); });
}

}  // namespace

std::string signed_head_path(const std::string& key_path) { return key_path + ".head"; }

Result<void> keep_signed_head(const std::string& key_path, const std::string& note) {
  return base::write_file_atomic(signed_head_path(key_path), note, head_mode);
}

std::optional<Checkpoint> read_signed_head(const std::string& key_path, const std::vector<PublicKey>& keys) {
  const auto path = signed_head_path(key_path);
  const auto bytes = base::read_file(path, max_note_bytes);
  if (!bytes) {
    if (bytes.error().code == Errc::not_found) return std::nullopt;
    observe::log(observe::Level::warn, "ledger", "what was signed last cannot be read",
                 {{"error", bytes.error().message}});
    return std::nullopt;
  }
  const auto note = Note::parse(*bytes);
  auto checkpoint = note ? Checkpoint::parse(note->text) : Result<Checkpoint>(std::unexpected(note.error()));
  if (!checkpoint || !is_signed_by_any(*note, keys)) {
    observe::log(observe::Level::warn, "ledger",
                 "what was signed last is not signed by the key, and counts for nothing", {{"path", path}});
    return std::nullopt;
  }
  return std::move(*checkpoint);
}

Result<SignedPast> check_signed_past(const std::string& path, std::uint64_t size, const std::string& key_path,
                                     const std::optional<PublicKey>& key, const std::optional<PublicKey>& own) {
  SignedPast past;
  std::vector<PublicKey> keys;
  if (key) keys.push_back(*key);
  if (own) keys.push_back(*own);
  if (!key_path.empty()) past.signed_head = read_signed_head(key_path, keys);
  if (size == 0) {
    if (past.signed_head) past.replaced = "started_anew";
    return past;
  }
  DE_TRY(const auto reader, LedgerReader::open(path));
  std::uint64_t anchored = 0;
  DE_TRY(const auto newest, reader->checkpoint_covering(1));
  if (newest && key) {
    const auto bad = [&](const std::string& what) {
      return fail(Errc::corrupt, path + ": the newest checkpoint in the ledger " + what);
    };
    const auto note = Note::parse(*newest);
    if (!note) return bad("is none: " + note.error().message);
    const auto checkpoint = Checkpoint::parse(note->text);
    if (!checkpoint) return bad("is none: " + checkpoint.error().message);
    if (checkpoint->size > size) return bad("is of more entries than there are");
    if (!note->is_signed_by(*key)) return bad("is not signed by the key that is recorded, " + key->id());
    DE_TRY(const auto root, reader->root(checkpoint->size));
    if (root != checkpoint->root) return bad("has another root than the entries before it");
    anchored = checkpoint->size;
  }
  if (const auto& kept = past.signed_head) {
    if (kept->size > size) {
      past.replaced = "put_back";
    } else {
      DE_TRY(const auto root, reader->root(kept->size));
      if (root != kept->root) past.replaced = "rewritten";
    }
  }
  if (size - anchored > max_taken_anew) return past;  // a log that had no key until now
  // Stored hashes of what came since were never under a signature: they are taken from the entries themselves.
  DE_TRY(auto tree, reader->tree(anchored));
  Result<void> read = reader->read(anchored, size - anchored, [&](const Entry& entry) {
    tree.add(entry.entry_hash);
    return true;
  });
  DE_CHECK(read);
  if (tree.size() != size) return fail(Errc::corrupt, path + ": an entry is missing");
  past.tree = std::move(tree);
  return past;
}

}  // namespace daemoneye::ledger
