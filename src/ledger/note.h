// C2SP signed notes (c2sp.org/signed-note) with Ed25519 keys, and the checkpoints (c2sp.org/tlog-checkpoint) in them:
// what procmond signs and what anyone verifies with the public key alone.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace daemoneye::ledger {

inline constexpr std::size_t max_note_bytes = 16 * 1024, max_key_name_bytes = 255, max_note_signatures = 16;

std::string to_base64(std::string_view bytes);
// Standard alphabet, padded, canonical: one text for the same bytes.
Result<std::string> from_base64(std::string_view text);

// "<name>+<8 hex digits>+<base64 of 0x01 and 32 bytes>"
class PublicKey {
 public:
  static Result<PublicKey> parse(std::string_view text);
  [[nodiscard]] std::string text() const;
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::string id() const;  // 8 hex digits
  [[nodiscard]] std::uint32_t hash() const { return hash_; }
  [[nodiscard]] bool verifies(std::string_view text, std::string_view signature) const;
  bool operator==(const PublicKey&) const = default;

 private:
  friend class PrivateKey;
  PublicKey(std::string name, std::string_view bytes);
  std::string name_;
  std::string bytes_;  // 32
  std::uint32_t hash_ = 0;
};

// "PRIVATE+KEY+<name>+<8 hex digits>+<base64 of 0x01 and the seed>"
class PrivateKey {
 public:
  static Result<PrivateKey> generate(const std::string& name);
  static Result<PrivateKey> parse(std::string_view text);
  PrivateKey(PrivateKey&&) noexcept;
  PrivateKey& operator=(PrivateKey&&) noexcept;
  ~PrivateKey();
  [[nodiscard]] std::string text() const;
  [[nodiscard]] const PublicKey& public_key() const { return public_key_; }
  [[nodiscard]] Result<std::string> sign(std::string_view text) const;  // 64 bytes

 private:
  PrivateKey(PublicKey public_key, std::string seed);
  PublicKey public_key_;
  std::string seed_;  // wiped when it goes
};

struct NoteSignature {
  std::string name;
  std::uint32_t hash = 0;
  std::string signature;
  bool operator==(const NoteSignature&) const = default;
};

struct Note {
  std::string text;  // ends with a newline; what is signed
  std::vector<NoteSignature> signatures;

  static Result<Note> parse(std::string_view bytes);
  [[nodiscard]] std::string bytes() const;
  Result<void> sign(const PrivateKey& key);
  // Whether one of the signatures is a valid one of `key`; none may be an invalid one.
  [[nodiscard]] bool is_signed_by(const PublicKey& key) const;
};

struct Checkpoint {
  std::string origin;
  std::uint64_t size = 0;
  base::Sha256Digest root{};

  [[nodiscard]] std::string text() const;
  static Result<Checkpoint> parse(std::string_view text);  // of a note; extension lines are allowed and not looked at
  bool operator==(const Checkpoint&) const = default;
};

// A name that may stand in a key and as a checkpoint's origin, made from any text.
std::string key_name_of(std::string_view text);

// Notes that stand one after another in a file; invalid_input names the first that is none. With `damaged` such are
// counted and left out: what a full disk cut off must not take the others with it.
Result<std::vector<Note>> parse_notes(std::string_view bytes, std::size_t* damaged = nullptr);

}  // namespace daemoneye::ledger
