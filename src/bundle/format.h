// The file of a bundle, as writer and reader must agree on it; docs/formats/bundle.md says it in words. What comes from
// outside is bounded here before anything is done with it; nothing in it is compressed, so nothing can grow.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/time.h"

namespace daemoneye::bundle {

inline constexpr std::string_view magic = "DEBUNDL1";
inline constexpr std::string_view note_title = "daemoneye/bundle@v1";
inline constexpr std::size_t max_bundle_bytes = std::size_t{64} * 1024 * 1024;
inline constexpr std::size_t max_manifest_bytes = std::size_t{4} * 1024 * 1024;
inline constexpr std::size_t max_files = 10'000, max_path_bytes = 128, max_id_bytes = 64, max_description_bytes = 1024;

// The parts of the file. Views into what was given.
struct Parts {
  std::string_view note;      // signed note over the manifest's digest; empty: nobody signed
  std::string_view manifest;  // canonical JSON
  std::string_view contents;  // the files, one after another
};
// invalid_input: not a bundle, or larger than allowed. corrupt: cut off.
Result<Parts> split(std::string_view bytes);
std::string join(const Parts& parts);

// "1", "1.4", "2026.11.22.1": one to four numbers, compared one by one; what is missing counts as 0.
class Version {
 public:
  static Result<Version> parse(std::string_view text);
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] bool is_before(const Version& other) const { return numbers_ < other.numbers_; }
  [[nodiscard]] bool is_same_as(const Version& other) const { return numbers_ == other.numbers_; }

 private:
  std::string text_ = "0";
  std::array<std::uint32_t, 4> numbers_{};
};

enum class FileKind : std::uint8_t { rule, exceptions, configuration };
std::string_view to_string(FileKind kind);
inline constexpr std::string_view configuration_path = "config.yaml", exceptions_suffix = ".exceptions.yaml";

// "rules/NAME.yaml", "exceptions/NAME.exceptions.yaml" or "config.yaml". invalid_input, saying why: an absolute path,
// one that leads out, one with a NUL, anything else.
Result<FileKind> kind_of(std::string_view path);
std::size_t max_bytes_of(FileKind kind);
// Where it lies in the folder of the bundle in force.
std::string place_of(std::string_view path);

struct Manifest {
  struct File {
    std::string path;
    std::uint64_t length = 0;
    base::Sha256Digest digest{};
  };
  std::string id, description;
  Version version;
  Timestamp created;
  std::optional<Timestamp> expires;
  std::vector<File> files;  // by path

  [[nodiscard]] std::string json() const;  // canonical: keys sorted, no blanks
  // Takes the canonical text alone.
  static Result<Manifest> parse(std::string_view json);
};
Result<void> check_id(std::string_view id);

// What is signed.
std::string note_text(const base::Sha256Digest& manifest_digest);

}  // namespace daemoneye::bundle
