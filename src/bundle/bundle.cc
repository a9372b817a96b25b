#include "bundle/bundle.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "config/files.h"

namespace daemoneye::bundle {
namespace {

constexpr std::size_t max_key_file_bytes = 16 * 1024, max_key_files = 256;

std::string name_of(const ledger::NoteSignature& signature) {
  std::string hash;
  for (int shift = 24; shift >= 0; shift -= 8) hash += static_cast<char>(signature.hash >> shift & 0xff);
  return signature.name + '+' + base::to_hex(hash);
}

// The trusted key that signed the note.
Result<std::string> signer_of(const ledger::Note& note, const std::vector<ledger::PublicKey>& trusted) {
  std::string names;
  for (const auto& signature : note.signatures) {
    names += (names.empty() ? "" : ", ") + base::printable(name_of(signature));
    for (const auto& key : trusted) {
      if (key.name() != signature.name || key.hash() != signature.hash) continue;
      if (key.verifies(note.text, signature.signature)) return key.text();
      return fail(Errc::corrupt, "the bundle's signature by " + base::printable(name_of(signature)) + " is wrong");
    }
  }
  return fail(Errc::corrupt, "the bundle is signed by " + names + ", which is not trusted");
}

// Why others could put a key in; empty: they cannot.
std::string not_ours(const std::string& path) {
  if (::geteuid() == 0) return config::writable_by_others(path);
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return "it cannot be examined";
  if (status.st_uid != 0 && status.st_uid != ::geteuid()) return "it belongs to uid " + std::to_string(status.st_uid);
  return (status.st_mode & (S_IWGRP | S_IWOTH)) != 0 ? "others can write it" : "";
}

}  // namespace

Result<std::string> make(Manifest about, std::vector<File> files, const ledger::PrivateKey& key) {
  DE_CHECK(check_id(about.id));
  if (about.description.size() > max_description_bytes || base::to_valid_utf8(about.description) != about.description) {
    return fail(Errc::invalid_input,
                "description: allowed: UTF-8 text of at most " + std::to_string(max_description_bytes) + " bytes");
  }
  if (files.empty()) return fail(Errc::invalid_input, "a bundle without a file");
  std::ranges::sort(files, {}, &File::path);
  std::string contents;
  about.files.clear();
  for (const auto& file : files) {
    DE_TRY(const auto kind, kind_of(file.path));
    if (file.content.size() > max_bytes_of(kind)) {
      return fail(Errc::invalid_input, file.path + ": larger than " + std::to_string(max_bytes_of(kind)) + " bytes");
    }
    if (contents.size() + file.content.size() > max_bundle_bytes) {
      return fail(Errc::invalid_input, "the bundle is larger than " + std::to_string(max_bundle_bytes) + " bytes");
    }
    about.files.push_back({file.path, file.content.size(), base::sha256(file.content)});
    contents += file.content;
  }
  const auto manifest = about.json();
  DE_CHECK(Manifest::parse(manifest));  // what is made is what is taken
  ledger::Note note{.text = note_text(base::sha256(manifest)), .signatures = {}};
  DE_CHECK(note.sign(key));
  const auto note_bytes = note.bytes();
  auto bytes = join({note_bytes, manifest, contents});
  if (bytes.size() > max_bundle_bytes) {
    return fail(Errc::invalid_input, "the bundle is larger than " + std::to_string(max_bundle_bytes) + " bytes");
  }
  return bytes;
}

Result<Bundle> open(std::string_view bytes, const std::vector<ledger::PublicKey>& trusted, Timestamp now) {
  DE_TRY(const auto parts, split(bytes));
  if (parts.note.empty()) return fail(Errc::corrupt, "the bundle is not signed");
  Bundle bundle;
  bundle.digest = base::sha256(parts.manifest);
  const auto note = ledger::Note::parse(parts.note);
  if (!note) return fail(Errc::corrupt, "the bundle's signature is damaged: " + note.error().message);
  DE_TRY(bundle.signer, signer_of(*note, trusted));
  if (note->text != note_text(bundle.digest)) {
    return fail(Errc::corrupt, "the bundle's manifest is not the one that was signed");
  }
  DE_TRY(bundle.manifest, Manifest::parse(parts.manifest));
  if (bundle.manifest.expires && *bundle.manifest.expires <= now) {
    return fail(Errc::corrupt, "the bundle expired at " + base::to_iso(*bundle.manifest.expires));
  }
  auto rest = parts.contents;
  for (const auto& file : bundle.manifest.files) {
    if (file.length > rest.size()) return fail(Errc::corrupt, "the bundle is cut off in " + file.path);
    const auto content = rest.substr(0, file.length);
    rest.remove_prefix(content.size());
    if (base::sha256(content) != file.digest) return fail(Errc::corrupt, "the bundle's " + file.path + " was altered");
    bundle.files.push_back({file.path, std::string(content)});
  }
  if (!rest.empty()) return fail(Errc::corrupt, "the bundle has bytes that its manifest does not know");
  return bundle;
}

Result<ledger::PublicKey> read_public_key(const std::string& path) {
  DE_TRY(const auto text, base::read_file(path, max_key_file_bytes));
  auto key = ledger::PublicKey::parse(text);
  if (!key) return fail(Errc::invalid_input, path + ": " + key.error().message);
  return key;
}

Result<TrustedKeys> read_trusted_keys(const std::string& folder) {
  TrustedKeys trusted;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(folder.c_str()), ::closedir);
  if (handle == nullptr && errno == ENOENT) return trusted;
  if (handle == nullptr) return fail_errno(folder, errno);
  if (const auto why = not_ours(folder); !why.empty()) {
    return fail(Errc::permission_denied, folder + ": the keys in it are not believed: " + why);
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(handle.get())) {  // NOLINT(concurrency-mt-unsafe): the handle is ours
    const std::string name = entry->d_name;
    if (name.ends_with(".pub") && !name.starts_with('.')) names.push_back(name);
    if (names.size() > max_key_files) {
      return fail(Errc::invalid_input, folder + ": more than " + std::to_string(max_key_files) + " keys");
    }
  }
  std::ranges::sort(names);
  for (const auto& name : names) {
    const auto path = (std::filesystem::path(folder) / name).string();
    const auto leave_out = [&](const std::string& why) {
      trusted.notices.emplace_back(path).append(" is not believed: ").append(why);
    };
    if (const auto why = not_ours(path); !why.empty()) {
      leave_out(why);
    } else if (auto key = read_public_key(path)) {
      trusted.keys.push_back(std::move(*key));
    } else {
      leave_out(key.error().message);
    }
  }
  return trusted;
}

}  // namespace daemoneye::bundle
