#include "ledger/note.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>

#include "base/text.h"
#include "ledger/merkle.h"

namespace daemoneye::ledger {
namespace {

constexpr char ed25519 = 0x01;  // signed-note's type of signature
constexpr std::size_t key_bytes = 32, signature_bytes = 64, hash_bytes = 4;
constexpr std::string_view private_prefix = "PRIVATE+KEY+", signature_prefix = "\xe2\x80\x94 ";  // an em dash
constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

using KeyHandle = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

const unsigned char* raw(std::string_view bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

bool is_key_name(std::string_view name) {
  return !name.empty() && name.size() <= max_key_name_bytes && base::to_valid_utf8(name) == name &&
         std::ranges::none_of(name,
                              [](char c) { return c == '+' || static_cast<unsigned char>(c) <= ' ' || c == 0x7f; }) &&
         name.find("\xc2\xa0") == std::string_view::npos;
}

// Lines as C2SP asks: valid UTF-8, no control characters but the newline.
bool is_note_text(std::string_view text) {
  return base::to_valid_utf8(text) == text &&
         std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < ' ' && c != '\n'; });
}

std::uint32_t key_hash(std::string_view name, std::string_view bytes) {
  std::string hashed(name);
  hashed += '\n';
  hashed += ed25519;
  hashed += bytes;
  const auto digest = digest_of(hashed);
  return static_cast<std::uint32_t>(digest[0]) << 24 | static_cast<std::uint32_t>(digest[1]) << 16 |
         static_cast<std::uint32_t>(digest[2]) << 8 | digest[3];
}

std::string hash_text(std::uint32_t hash) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(static_cast<std::uint8_t>(hash >> shift));
  return bytes;
}

struct KeyParts {
  std::string name, bytes;
};

// "<name>+<hash>+<base64>", the name without '+'.
Result<KeyParts> parse_key(std::string_view text) {
  const auto first = text.find('+');
  const auto second = first == std::string_view::npos ? first : text.find('+', first + 1);
  if (second == std::string_view::npos) return fail(Errc::invalid_input, "not a key of the form name+hash+key");
  KeyParts parts{.name = std::string(text.substr(0, first)), .bytes = {}};
  if (!is_key_name(parts.name)) return fail(Errc::invalid_input, "the key's name is not allowed");
  DE_TRY(auto bytes, from_base64(text.substr(second + 1)));
  if (bytes.size() != 1 + key_bytes || bytes.front() != ed25519) {
    return fail(Errc::invalid_input, "the key is not an Ed25519 key");
  }
  parts.bytes = bytes.substr(1);
  return parts;
}

Result<std::string> public_bytes_of(std::string_view seed) {
  const KeyHandle key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw(seed), seed.size()), EVP_PKEY_free);
  std::string bytes(key_bytes, '\0');
  std::size_t size = bytes.size();
  if (!key || EVP_PKEY_get_raw_public_key(key.get(), reinterpret_cast<unsigned char*>(bytes.data()), &size) != 1 ||
      size != key_bytes) {
    return fail(Errc::internal, "OpenSSL makes no Ed25519 key");
  }
  return bytes;
}

}  // namespace

std::string to_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<std::uint8_t>(bytes[i + j]) : 0U);
    }
    for (int j = 0; j < 4; ++j) {
      const bool padding = i + static_cast<std::size_t>(j) > bytes.size();
      text += padding ? '=' : alphabet[group >> (18 - 6 * j) & 63];
    }
  }
  return text;
}

Result<std::string> from_base64(std::string_view text) {
  const auto bad = [] { return fail(Errc::invalid_input, "not base64"); };
  if (text.size() % 4 != 0) return bad();
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::uint32_t group = 0;
    std::size_t padding = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const char c = text[i + j];
      const auto value = alphabet.find(c);
      if (c == '=' && i + 4 == text.size() && j >= 2) {
        ++padding;
        group <<= 6;
      } else if (value == std::string_view::npos || padding > 0) {
        return bad();
      } else {
        group = group << 6 | static_cast<std::uint32_t>(value);
      }
    }
    if ((padding == 1 && (group & 0xff) != 0) || (padding == 2 && (group & 0xffff) != 0)) return bad();
    for (std::size_t j = 0; j < 3 - padding; ++j) {
      bytes += static_cast<char>(static_cast<std::uint8_t>(group >> (16 - 8 * j)));
    }
  }
  return bytes;
}

PublicKey::PublicKey(std::string name, std::string_view bytes)
    : name_(std::move(name)), bytes_(bytes), hash_(key_hash(name_, bytes)) {}

Result<PublicKey> PublicKey::parse(std::string_view text) {
  text = base::trim(text);
  DE_TRY(auto parts, parse_key(text));
  PublicKey key(std::move(parts.name), parts.bytes);
  if (key.text() != text) return fail(Errc::invalid_input, "the key's hash is not that of the key");
  return key;
}

std::string PublicKey::id() const { return base::to_hex(hash_text(hash_)); }
std::string PublicKey::text() const { return name_ + '+' + id() + '+' + to_base64(std::string(1, ed25519) + bytes_); }

bool PublicKey::verifies(std::string_view text, std::string_view signature) const {
  if (signature.size() != signature_bytes) return false;
  const KeyHandle key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw(bytes_), bytes_.size()),
                      EVP_PKEY_free);
  const Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  return key && context && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), raw(signature), signature.size(), raw(text), text.size()) == 1;
}

PrivateKey::PrivateKey(PublicKey public_key, std::string seed)
    : public_key_(std::move(public_key)), seed_(std::move(seed)) {}
PrivateKey::PrivateKey(PrivateKey&&) noexcept = default;
PrivateKey& PrivateKey::operator=(PrivateKey&&) noexcept = default;
PrivateKey::~PrivateKey() { OPENSSL_cleanse(seed_.data(), seed_.size()); }

Result<PrivateKey> PrivateKey::generate(const std::string& name) {
  if (!is_key_name(name)) return fail(Errc::invalid_input, "'" + base::printable(name) + "' is no name for a key");
  auto seed = base::random_bytes(key_bytes);
  DE_TRY(const auto bytes, public_bytes_of(seed));
  return PrivateKey(PublicKey(name, bytes), std::move(seed));
}

Result<PrivateKey> PrivateKey::parse(std::string_view text) {
  text = base::trim(text);
  if (!text.starts_with(private_prefix)) return fail(Errc::invalid_input, "not a private key");
  text.remove_prefix(private_prefix.size());
  DE_TRY(auto parts, parse_key(text));
  DE_TRY(const auto bytes, public_bytes_of(parts.bytes));
  PrivateKey key(PublicKey(std::move(parts.name), bytes), std::move(parts.bytes));
  if (key.text() != std::string(private_prefix) + std::string(text)) {
    return fail(Errc::invalid_input, "the key's hash is not that of the key");
  }
  return key;
}

std::string PrivateKey::text() const {
  return std::string(private_prefix) + public_key_.name() + '+' + public_key_.id() + '+' +
         to_base64(std::string(1, ed25519) + seed_);
}

Result<std::string> PrivateKey::sign(std::string_view text) const {
  const KeyHandle key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw(seed_), seed_.size()), EVP_PKEY_free);
  const Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::string signature(signature_bytes, '\0');
  std::size_t size = signature.size();
  if (!key || !context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, raw(text),
                     text.size()) != 1 ||
      size != signature_bytes) {
    return fail(Errc::internal, "OpenSSL does not sign");
  }
  return signature;
}

Result<Note> Note::parse(std::string_view bytes) {
  const auto bad = [](const std::string& what) { return fail(Errc::invalid_input, "not a signed note: " + what); };
  if (bytes.size() > max_note_bytes) return bad("larger than " + std::to_string(max_note_bytes) + " bytes");
  if (!is_note_text(bytes)) return bad("it holds what is no text");
  const auto end = bytes.rfind("\n\n");
  if (end == std::string_view::npos) return bad("no blank line before the signatures");
  Note note{.text = std::string(bytes.substr(0, end + 1)), .signatures = {}};
  auto rest = bytes.substr(end + 2);
  if (rest.empty() || !rest.ends_with('\n')) return bad("the signatures do not end with a line's end");
  rest.remove_suffix(1);
  for (const auto line : base::split(rest, '\n')) {
    if (note.signatures.size() >= max_note_signatures) return bad("too many signatures");
    if (!line.starts_with(signature_prefix)) return bad("a signature line does not begin with a dash");
    const auto signature = line.substr(signature_prefix.size());
    const auto space = signature.find(' ');
    if (space == std::string_view::npos) return bad("a signature line without a signature");
    NoteSignature parsed{.name = std::string(signature.substr(0, space)), .hash = 0, .signature = {}};
    if (!is_key_name(parsed.name)) return bad("a signature's name is not allowed");
    auto decoded = from_base64(signature.substr(space + 1));
    if (!decoded || decoded->size() <= hash_bytes) return bad("a signature is not base64 of more than 4 bytes");
    for (std::size_t i = 0; i < hash_bytes; ++i) {
      parsed.hash = parsed.hash << 8 | static_cast<std::uint8_t>((*decoded)[i]);
    }
    parsed.signature = decoded->substr(hash_bytes);
    note.signatures.push_back(std::move(parsed));
  }
  return note;
}

std::string Note::bytes() const {
  std::string out = text + '\n';
  for (const auto& [name, hash, signature] : signatures) {
    out += std::string(signature_prefix) + name + ' ' + to_base64(hash_text(hash) + signature) + '\n';
  }
  return out;
}

Result<void> Note::sign(const PrivateKey& key) {
  DE_TRY(auto signature, key.sign(text));
  signatures.push_back({key.public_key().name(), key.public_key().hash(), std::move(signature)});
  return {};
}

bool Note::is_signed_by(const PublicKey& key) const {
  bool valid = false;
  for (const auto& signature : signatures) {
    if (signature.hash != key.hash() || signature.name != key.name()) continue;  // of somebody else: no matter
    if (!key.verifies(text, signature.signature)) return false;
    valid = true;
  }
  return valid;
}

std::string Checkpoint::text() const {
  return origin + '\n' + std::to_string(size) + '\n' + to_base64(base::as_bytes(root)) + '\n';
}

Result<Checkpoint> Checkpoint::parse(std::string_view text) {
  const auto bad = [](const std::string& what) { return fail(Errc::invalid_input, "not a checkpoint: " + what); };
  if (!text.ends_with('\n')) return bad("its last line does not end");
  text.remove_suffix(1);
  const auto lines = base::split(text, '\n');
  if (lines.size() < 3) return bad("fewer than three lines");
  for (const auto line : lines) {
    if (line.empty()) return bad("an empty line");
  }
  Checkpoint checkpoint{.origin = std::string(lines[0]), .size = 0, .root = {}};
  const auto size = base::parse_integer<std::uint64_t>(lines[1]);
  if (!size || std::to_string(*size) != lines[1]) return bad("the second line is no size");
  checkpoint.size = *size;
  const auto root = from_base64(lines[2]);
  if (!root || root->size() != checkpoint.root.size()) return bad("the third line is no root");
  std::ranges::copy(*root, checkpoint.root.begin());
  return checkpoint;
}

std::string key_name_of(std::string_view text) {
  std::string name;
  for (const char c : text.substr(0, max_key_name_bytes)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                       c == '-' || c == '_' || c == '/';
    name += plain ? c : '_';
  }
  return name.empty() ? "unnamed" : name;
}

Result<std::vector<Note>> parse_notes(std::string_view bytes, std::size_t* damaged) {
  std::vector<Note> notes;
  while (!bytes.empty()) {
    if (damaged != nullptr && bytes.front() == '\n') {  // what keeps a note from one that was cut off
      bytes.remove_prefix(1);
      continue;
    }
    // A note ends with the last of its signature lines.
    std::size_t end = bytes.find("\n\n");
    if (end == std::string_view::npos && damaged == nullptr) {
      return fail(Errc::invalid_input, "not a signed note: no signatures");
    }
    end = end == std::string_view::npos ? bytes.size() : end + 2;
    while (bytes.substr(end).starts_with(signature_prefix)) {
      const auto line_end = bytes.find('\n', end);
      end = line_end == std::string_view::npos ? bytes.size() : line_end + 1;
    }
    auto note = Note::parse(bytes.substr(0, end));
    if (note && damaged != nullptr && !Checkpoint::parse(note->text)) note = fail(Errc::invalid_input, "");
    bytes.remove_prefix(end);
    if (note)
      notes.push_back(std::move(*note));
    else if (damaged != nullptr)
      ++*damaged;
    else
      return std::unexpected(note.error());
  }
  return notes;
}

}  // namespace daemoneye::ledger
