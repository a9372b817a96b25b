// A signed bundle of rules, exceptions and a fragment of configuration: made from files, and opened only when a trusted
// key vouches for every byte of it. Nothing here touches the network or the machine's state.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bundle/format.h"
#include "ledger/note.h"

namespace daemoneye::bundle {

struct File {
  std::string path;  // in the bundle
  std::string content;
};

struct Bundle {
  Manifest manifest;
  base::Sha256Digest digest{};  // of the manifest: names this bundle
  std::string signer;           // the trusted key that signed it
  std::vector<File> files;      // in the manifest's order
};

// `about` without its files. invalid_input: a path, a size or a number that a bundle cannot have, a path twice.
Result<std::string> make(Manifest about, std::vector<File> files, const ledger::PrivateKey& key);

// Everything is looked at, in this order: form, signature, expiry, manifest, each file. Nothing that is not signed by
// one of `trusted` is parsed beyond its form. corrupt: unsigned, not trusted, wrongly signed, expired, altered.
// invalid_input: not a bundle, or one with what none may have.
Result<Bundle> open(std::string_view bytes, const std::vector<ledger::PublicKey>& trusted, Timestamp now);

struct TrustedKeys {
  std::vector<ledger::PublicKey> keys;
  std::vector<std::string> notices;  // what was left out, and why
};
// Of every *.pub in the folder; a file that others than root and ourselves can write is left out. A folder that is not
// there trusts nobody.
Result<TrustedKeys> read_trusted_keys(const std::string& folder);
// One file, asked for by name.
Result<ledger::PublicKey> read_public_key(const std::string& path);

}  // namespace daemoneye::bundle
