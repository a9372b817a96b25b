#include "bundle/format.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/text.h"
#include "config/config.h"
#include "config/yaml.h"
#include "detect/rule.h"
#include "ledger/note.h"

namespace daemoneye::bundle {
namespace {

using nlohmann::json;

std::string shown(std::string_view text) { return '\'' + base::printable(text.substr(0, max_path_bytes)) + '\''; }

bool is_name(std::string_view text) {
  return !text.empty() && text.front() != '.' && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

std::unexpected<Error> bad_manifest(const std::string& what) {
  return fail(Errc::invalid_input, "the bundle's manifest: " + what);
}

std::string_view begin_of_a_packed_file(std::string_view bytes) {
  if (bytes.starts_with("\x1f\x8b")) return "gzip";
  if (bytes.starts_with("PK\x03\x04")) return "zip";
  if (bytes.starts_with("\x28\xb5\x2f\xfd")) return "zstd";
  if (bytes.starts_with("\xfd"
                        "7zXZ"))
    return "xz";
  if (bytes.starts_with("BZh")) return "bzip2";
  return {};
}

Result<Timestamp> moment(const json& value, const char* key) {
  if (!value.is_string()) return bad_manifest(std::string(key) + ": not a text");
  const auto& text = value.get_ref<const std::string&>();
  const auto time = base::parse_iso(text);
  if (!time || base::to_iso(*time) != text) return bad_manifest(std::string(key) + ": not a moment");
  return *time;
}

Result<Manifest::File> file_of(const json& entry) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("length") || !entry.contains("path") ||
      !entry.contains("sha256") || !entry["length"].is_number_unsigned() || !entry["path"].is_string() ||
      !entry["sha256"].is_string()) {
    return bad_manifest("a file without path, length and sha256");
  }
  Manifest::File file{.path = entry["path"].get<std::string>(), .length = entry["length"].get<std::uint64_t>()};
  const auto kind = kind_of(file.path);
  if (!kind) return fail(kind.error().code, kind.error().message);
  if (file.length > max_bytes_of(*kind)) {
    return fail(Errc::invalid_input, "the bundle's file " + shown(file.path) + " claims " +
                                         std::to_string(file.length) + " bytes; at most " +
                                         std::to_string(max_bytes_of(*kind)) + " are taken");
  }
  const auto& hex = entry["sha256"].get_ref<const std::string&>();
  const auto digest = base::from_hex(hex);
  if (!digest || digest->size() != file.digest.size() || base::to_hex(*digest) != hex) {
    return bad_manifest(shown(file.path) + ": sha256 is no digest");
  }
  std::ranges::copy(*digest, file.digest.begin());
  return file;
}

}  // namespace

Result<Parts> split(std::string_view bytes) {
  if (const auto packed = begin_of_a_packed_file(bytes); !packed.empty()) {
    return fail(Errc::invalid_input, "not a bundle but a " + std::string(packed) +
                                         " file: a bundle is not compressed, and none is unpacked");
  }
  if (!bytes.starts_with(magic)) return fail(Errc::invalid_input, "not a bundle");
  if (bytes.size() > max_bundle_bytes) {
    return fail(Errc::invalid_input, "the bundle is larger than " + std::to_string(max_bundle_bytes) + " bytes");
  }
  base::ByteReader in(bytes.substr(magic.size()));
  const std::size_t note_bytes = in.u32(), manifest_bytes = in.u32();
  if (!in.ok()) return fail(Errc::corrupt, "the bundle is cut off");
  if (note_bytes > ledger::max_note_bytes || manifest_bytes > max_manifest_bytes) {
    return fail(Errc::invalid_input, "the bundle claims a signature of " + std::to_string(note_bytes) +
                                         " bytes and a manifest of " + std::to_string(manifest_bytes) + "; at most " +
                                         std::to_string(ledger::max_note_bytes) + " and " +
                                         std::to_string(max_manifest_bytes) + " are taken");
  }
  Parts parts;
  parts.note = in.raw(note_bytes);
  parts.manifest = in.raw(manifest_bytes);
  if (!in.ok()) return fail(Errc::corrupt, "the bundle is cut off");
  parts.contents = in.rest();
  return parts;
}

std::string join(const Parts& parts) {
  std::string bytes(magic);
  base::ByteWriter out(bytes);
  out.u32(static_cast<std::uint32_t>(parts.note.size()));
  out.u32(static_cast<std::uint32_t>(parts.manifest.size()));
  out.raw(parts.note);
  out.raw(parts.manifest);
  out.raw(parts.contents);
  return bytes;
}

Result<Version> Version::parse(std::string_view text) {
  constexpr std::size_t max_digits = 9;
  const auto parts = base::split(text, '.');
  Version version;
  version.text_ = std::string(text);
  bool good = parts.size() <= version.numbers_.size();
  for (std::size_t i = 0; good && i < parts.size(); ++i) {
    const auto number = base::parse_integer<std::uint32_t>(parts[i]);
    good = number && parts[i].size() <= max_digits && std::to_string(*number) == parts[i];
    if (good) version.numbers_[i] = *number;
  }
  if (good) return version;
  return fail(Errc::invalid_input,
              "version: found " + shown(text) + "; allowed: one to four numbers with dots between them, as 1.4.2");
}

std::string_view to_string(FileKind kind) {
  switch (kind) {
    case FileKind::rule: return "rule";
    case FileKind::exceptions: return "exceptions";
    case FileKind::configuration: return "configuration";
  }
  return "";
}

Result<FileKind> kind_of(std::string_view path) {
  const auto refuse = [&](const std::string& why) {
    return fail(Errc::invalid_input, "the bundle's path " + shown(path) + ' ' + why);
  };
  if (path.size() > max_path_bytes) return refuse("is longer than " + std::to_string(max_path_bytes) + " bytes");
  if (path.find('\0') != std::string_view::npos) return refuse("holds a NUL");
  if (path.starts_with('/')) return refuse("is absolute");
  for (const auto part : base::split(path, '/')) {
    if (part == "..") return refuse("leads out of the bundle");
  }
  if (path == configuration_path) return FileKind::configuration;
  const auto slash = path.find('/');
  const auto folder = path.substr(0, slash), name = slash == std::string_view::npos ? "" : path.substr(slash + 1);
  const bool is_exceptions = name.ends_with(exceptions_suffix) && name.size() > exceptions_suffix.size();
  if (is_name(name) && folder == "rules" && name.ends_with(".yaml") && !name.ends_with(exceptions_suffix)) {
    return FileKind::rule;
  }
  if (is_name(name) && folder == "exceptions" && is_exceptions) return FileKind::exceptions;
  return refuse(
      "is none that a bundle has: rules/NAME.yaml, exceptions/NAME.exceptions.yaml, config.yaml, with a NAME of "
      "letters, digits, '.', '_' and '-'");
}

std::size_t max_bytes_of(FileKind kind) {
  return kind == FileKind::configuration ? config::max_file_bytes : detect::max_rule_file_bytes;
}

std::string place_of(std::string_view path) {
  return path == configuration_path ? config::bundle_fragment_name : std::string(path.substr(path.find('/') + 1));
}

Result<void> check_id(std::string_view id) {
  if (id.size() <= max_id_bytes && is_name(id)) return {};
  return fail(Errc::invalid_input, "id: found " + shown(id) + "; allowed: letters, digits, '.', '_' and '-', at most " +
                                       std::to_string(max_id_bytes));
}

std::string Manifest::json() const {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& file : files) {
    list.push_back({{"length", file.length}, {"path", file.path}, {"sha256", base::to_hex(file.digest)}});
  }
  nlohmann::json all = {
      {"created", base::to_iso(created)}, {"files", std::move(list)}, {"id", id}, {"version", version.text()}};
  if (!description.empty()) all["description"] = description;
  if (expires) all["expires"] = base::to_iso(*expires);
  return all.dump();
}

Result<Manifest> Manifest::parse(std::string_view text) {
  if (text.size() > max_manifest_bytes) return bad_manifest("too large");
  const auto all = nlohmann::json::parse(text, nullptr, false);
  if (!all.is_object()) return bad_manifest("not a JSON object");
  for (const auto& [key, value] : all.items()) {
    if (key != "created" && key != "description" && key != "expires" && key != "files" && key != "id" &&
        key != "version") {
      return bad_manifest("unknown key " + shown(key));
    }
  }
  for (const auto* needed : {"created", "files", "id", "version"}) {
    if (!all.contains(needed)) return bad_manifest(std::string(needed) + " is missing");
  }
  Manifest manifest;
  if (!all["id"].is_string() || !all["version"].is_string() || !all["files"].is_array()) {
    return bad_manifest("id, version or files is of the wrong type");
  }
  manifest.id = all["id"].get<std::string>();
  DE_CHECK(check_id(manifest.id));
  DE_TRY(manifest.version, Version::parse(all["version"].get_ref<const std::string&>()));
  DE_TRY(manifest.created, moment(all["created"], "created"));
  if (all.contains("expires")) {
    DE_TRY(manifest.expires, moment(all["expires"], "expires"));
  }
  if (all.contains("description")) {
    if (!all["description"].is_string()) return bad_manifest("description: not a text");
    manifest.description = all["description"].get<std::string>();
    if (manifest.description.empty() || manifest.description.size() > max_description_bytes) {
      return bad_manifest("description: empty, or longer than " + std::to_string(max_description_bytes) + " bytes");
    }
  }
  if (all["files"].empty() || all["files"].size() > max_files) {
    return bad_manifest(std::to_string(all["files"].size()) + " files; allowed: 1 to " + std::to_string(max_files));
  }
  for (const auto& entry : all["files"]) {
    DE_TRY(auto file, file_of(entry));
    if (!manifest.files.empty() && file.path == manifest.files.back().path) {
      return fail(Errc::invalid_input, "the bundle's path " + shown(file.path) + " comes twice");
    }
    if (!manifest.files.empty() && file.path < manifest.files.back().path) {
      return bad_manifest("its files are not in the order of their paths");
    }
    manifest.files.push_back(std::move(file));
  }
  // A second text for the same manifest would be a place to hide something.
  if (manifest.json() != text) return bad_manifest("not in its canonical form");
  return manifest;
}

std::string note_text(const base::Sha256Digest& manifest_digest) {
  return std::string(note_title) + '\n' + base::to_hex(manifest_digest) + '\n';
}

}  // namespace daemoneye::bundle
