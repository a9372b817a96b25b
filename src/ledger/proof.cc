#include "ledger/proof.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/json_depth.h"
#include "base/text.h"
#include "ledger/ledger.h"
#include "ledger/merkle.h"

namespace daemoneye::ledger {
namespace {

using base::Sha256Digest;
using Json = nlohmann::json;

constexpr int max_proof_depth = 64;
constexpr std::string_view json_format = "daemoneye-proof-1";
constexpr std::string_view inclusion_head = "c2sp.org/tlog-proof@v1\n";
constexpr std::string_view consistency_head = "daemoneye/consistency-proof@v1\n";

std::unexpected<Error> bad(const std::string& what) { return fail(Errc::invalid_input, "not a proof: " + what); }

Result<Sha256Digest> digest_from(const Result<std::string>& bytes) {
  Sha256Digest digest{};
  if (!bytes || bytes->size() != digest.size()) return bad("a hash is not 32 bytes");
  std::ranges::copy(*bytes, digest.begin());
  return digest;
}

Result<std::string> text_of(const Json& object, const char* key, std::size_t max_bytes) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return bad("'" + std::string(key) + "' is missing");
  auto text = found->get<std::string>();
  if (text.size() > max_bytes) return bad("'" + std::string(key) + "' is too long");
  return text;
}

template <class T>
Result<T> number_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer()) return bad("'" + std::string(key) + "' is no integer");
  if constexpr (std::is_unsigned_v<T>) {
    if (!found->is_number_unsigned()) return bad("'" + std::string(key) + "' is below zero");
  } else {
    if (found->is_number_unsigned() && found->get<std::uint64_t>() > INT64_MAX)
      return bad("'" + std::string(key) + "' is too large");
  }
  return found->get<T>();
}

Result<Sha256Digest> hash_of(const Json& object, const char* key) {
  DE_TRY(const auto text, text_of(object, key, 64));
  return digest_from(base::from_hex(text));
}

Result<void> check_entry(const Proof& proof) {
  if (proof.actor.empty() || proof.actor.size() > max_actor_bytes || proof.action.empty() ||
      proof.action.size() > max_action_bytes || proof.payload.size() > max_payload_bytes) {
    return bad("the entry's actor, action or payload is too long or missing");
  }
  return {};
}

Result<Proof> parse_json(std::string_view bytes) {
  // Deep nesting would be followed on the stack.
  if (base::json_nests_deeper_than(bytes, max_proof_depth)) return bad("nested too deeply");
  const auto object = Json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return bad("no JSON object");
  DE_TRY(const auto format, text_of(object, "format", 64));
  if (format != json_format) return bad("of the format '" + base::printable(format) + "'");
  DE_TRY(const auto kind, text_of(object, "proves", 64));
  Proof proof;
  if (kind == "inclusion") {
    const auto entry = object.find("entry");
    if (entry == object.end() || !entry->is_object()) return bad("'entry' is missing");
    DE_TRY(proof.index, number_of<std::uint64_t>(*entry, "seq"));
    DE_TRY(proof.time_ns, number_of<std::int64_t>(*entry, "time"));
    DE_TRY(proof.actor, text_of(*entry, "actor", max_actor_bytes));
    DE_TRY(proof.action, text_of(*entry, "action", max_action_bytes));
    DE_TRY(proof.payload, text_of(*entry, "payload", max_payload_bytes));
    DE_TRY(proof.previous_hash, hash_of(*entry, "previous_hash"));
    DE_CHECK(check_entry(proof));
  } else if (kind == "consistency") {
    proof.kind = Proof::Kind::consistency;
    DE_TRY(proof.from, number_of<std::uint64_t>(object, "from"));
    DE_TRY(proof.from_root, hash_of(object, "from_root"));
  } else {
    return bad("it proves neither inclusion nor consistency");
  }
  const auto hashes = object.find("hashes");
  if (hashes == object.end() || !hashes->is_array() || hashes->size() > max_proof_hashes) {
    return bad("'hashes' is no list of at most " + std::to_string(max_proof_hashes));
  }
  for (const auto& hash : *hashes) {
    if (!hash.is_string()) return bad("a hash is no text");
    DE_TRY(auto digest, digest_from(base::from_hex(hash.get_ref<const std::string&>())));
    proof.hashes.push_back(digest);
  }
  DE_TRY(proof.checkpoint, text_of(object, "checkpoint", max_note_bytes));
  return proof;
}

// The leaf tells all of the entry but its payload, which follows it.
std::string extra_of(const Proof& proof) { return proof.leaf() + proof.payload; }

Result<void> read_extra(std::string_view bytes, Proof& proof) {
  base::ByteReader in(bytes);
  const auto magic = in.raw(4);
  const auto sequence = in.u64();
  proof.time_ns = static_cast<std::int64_t>(in.u64());
  proof.actor = in.bytes();
  proof.action = in.bytes();
  const auto payload_digest = in.raw(sizeof(Sha256Digest));
  const auto previous = in.raw(sizeof(Sha256Digest));
  if (!in.ok() || magic != "DEL\x01" || sequence != proof.index)
    return bad("its extra data is no entry of that number");
  std::ranges::copy(previous, proof.previous_hash.begin());
  proof.payload = in.rest();
  DE_CHECK(check_entry(proof));
  if (base::as_bytes(digest_of(proof.payload)) != payload_digest) return bad("the payload does not have its digest");
  return {};
}

// Takes the line "<name> <value>".
Result<std::string_view> take_line(std::string_view& rest, std::string_view name) {
  const auto end = rest.find('\n');
  const auto line = rest.substr(0, end);
  if (end == std::string_view::npos || !line.starts_with(name) || line.size() <= name.size() ||
      line[name.size()] != ' ') {
    return bad("the line '" + std::string(name) + " …' is missing");
  }
  rest.remove_prefix(end + 1);
  return line.substr(name.size() + 1);
}

Result<std::uint64_t> take_number(std::string_view& rest, std::string_view name) {
  DE_TRY(const auto text, take_line(rest, name));
  const auto value = base::parse_integer<std::uint64_t>(text);
  if (!value || std::to_string(*value) != text) return bad("'" + std::string(name) + "' is no number");
  return *value;
}

Result<Proof> parse_text(std::string_view rest, Proof::Kind kind) {
  Proof proof{.kind = kind};
  std::string extra;
  if (kind == Proof::Kind::inclusion) {
    rest.remove_prefix(inclusion_head.size());
    DE_TRY(const auto encoded, take_line(rest, "extra"));
    DE_TRY(extra, from_base64(encoded));
    DE_TRY(proof.index, take_number(rest, "index"));
    DE_CHECK(read_extra(extra, proof));
  } else {
    rest.remove_prefix(consistency_head.size());
    DE_TRY(proof.from, take_number(rest, "from"));
    DE_TRY(const auto root, take_line(rest, "root"));
    DE_TRY(proof.from_root, digest_from(from_base64(root)));
  }
  while (true) {
    const auto end = rest.find('\n');
    if (end == std::string_view::npos) return bad("no checkpoint follows");
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    if (line.empty()) break;
    if (proof.hashes.size() >= max_proof_hashes) return bad("too many hashes");
    DE_TRY(auto digest, digest_from(from_base64(line)));
    proof.hashes.push_back(digest);
  }
  if (rest.size() > max_note_bytes) return bad("its checkpoint is too long");
  proof.checkpoint = rest;
  return proof;
}

}  // namespace

std::string Proof::leaf() const {
  Entry entry;
  entry.sequence = index;
  entry.time.ns = time_ns;
  entry.actor = actor;
  entry.action = action;
  entry.payload_digest = digest_of(payload);
  entry.previous_hash = previous_hash;
  return encode_leaf(entry);
}

std::string Proof::json() const {
  Json hashes_json = Json::array();
  for (const auto& hash : hashes) hashes_json.push_back(base::to_hex(hash));
  Json object = {{"format", json_format},
                 {"proves", kind == Kind::inclusion ? "inclusion" : "consistency"},
                 {"hashes", std::move(hashes_json)},
                 {"checkpoint", checkpoint}};
  if (kind == Kind::inclusion) {
    object["entry"] = {{"seq", index},     {"time", time_ns},    {"actor", actor},
                       {"action", action}, {"payload", payload}, {"previous_hash", base::to_hex(previous_hash)}};
    object["leaf"] = base::to_hex(leaf());
    object["leaf_hash"] = base::to_hex(leaf_hash(leaf()));
  } else {
    object["from"] = from;
    object["from_root"] = base::to_hex(from_root);
  }
  return object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string Proof::text() const {
  std::string out;
  if (kind == Kind::inclusion) {
    out =
        std::string(inclusion_head) + "extra " + to_base64(extra_of(*this)) + "\nindex " + std::to_string(index) + "\n";
  } else {
    out = std::string(consistency_head) + "from " + std::to_string(from) + "\nroot " +
          to_base64(base::as_bytes(from_root)) + "\n";
  }
  for (const auto& hash : hashes) out += to_base64(base::as_bytes(hash)) + "\n";
  return out + "\n" + checkpoint;
}

Result<Proof> Proof::parse(std::string_view bytes) {
  if (bytes.size() > max_proof_bytes) return bad("larger than " + std::to_string(max_proof_bytes) + " bytes");
  if (bytes.starts_with(inclusion_head)) return parse_text(bytes, Kind::inclusion);
  if (bytes.starts_with(consistency_head)) return parse_text(bytes, Kind::consistency);
  return parse_json(bytes);
}

Result<Checkpoint> verify_proof(const Proof& proof, const PublicKey& key) {
  const auto wrong = [](const std::string& what) { return fail(Errc::corrupt, "the proof does not hold: " + what); };
  const auto note = Note::parse(proof.checkpoint);
  if (!note) return wrong(note.error().message);
  auto checkpoint = Checkpoint::parse(note->text);
  if (!checkpoint) return wrong(checkpoint.error().message);
  if (!note->is_signed_by(key)) return wrong("its checkpoint is not signed by the key " + key.id());
  const bool holds =
      proof.kind == Proof::Kind::inclusion
          ? proves_inclusion(proof.index, checkpoint->size, leaf_hash(proof.leaf()), proof.hashes, checkpoint->root)
          : proves_consistency(proof.from, checkpoint->size, proof.from_root, checkpoint->root, proof.hashes);
  if (!holds) return wrong("its hashes do not lead to the root that was signed");
  return checkpoint;
}

}  // namespace daemoneye::ledger
