// Loading: built-in defaults, files, environment, command line, in the contract's precedence, with every error at once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/settings.h"

namespace daemoneye::config {

struct Problem {
  std::string place;  // "/etc/daemoneye/config.yaml:12", "DAEMONEYE_APP__BATCH_SIZE", "--set"
  std::string key;
  std::string message;  // what was found and what is allowed
};
std::string to_string(const Problem& problem);

inline constexpr const char* system_state_folder =
    "/var/lib/daemoneye";  // where root keeps state unless told otherwise

// Everything loading reads from outside, so that tests give it and nothing else is looked at.
struct Sources {
  std::optional<std::string> config_file;  // --config: replaces user, system and config.d files
  std::vector<std::string> set;            // "key=yaml value", last wins
  std::map<std::string, std::string> environment;
  std::string home;  // of the user; empty: no user file
  std::string etc = "/etc/daemoneye";
  bool privileged = false;    // root: default paths, and files that others than root can write are ignored (a notice)
  bool system_paths = false;  // not root, but the default paths are those of root: its unit's agent, or to read it
  bool terminal = false;      // decides the default of logging.format
  // Stands in for the fragment of the bundle in force; an empty text: none.
  std::optional<std::string> bundle_fragment = {};
  // By path: what stands in for a file, there or not. To try a change before it is made.
  std::map<std::string, std::string> instead = {};
  // The user's file as a start that was privileged found it (nothing: there was none): for a program that cannot look
  // there any more.
  struct AtStart {
    std::optional<std::string> user_file;
  };
  std::optional<AtStart> at_start = {};
};
// Of the user's file layer; empty: none.
std::string user_file_of(const Sources& sources);
Sources sources_from_process(std::optional<std::string> config_file, std::vector<std::string> set);

struct Loaded {
  Settings settings;
  std::map<std::string, std::string> origin;  // key -> "default", "/etc/…:12", "DAEMONEYE_…", "--set"
  std::vector<std::string> notices;           // e.g. a file that was ignored, and why
};

// Either settings that are whole and valid, or every problem found.
std::expected<Loaded, std::vector<Problem>> load(const Sources& sources);

// What the bundle in force brings, in `bundle.path`: its folder, and in it the fragment of configuration.
inline constexpr const char* bundle_folder_name = "current";
inline constexpr const char* bundle_fragment_name = "config.fragment";
std::string bundle_folder(const Settings& settings);
// Where rules come from, later folders override: detection.rule_paths and, last, the bundle in force.
std::vector<std::string> rule_folders(const Settings& settings);
// A key that says where the machine keeps its state and whom it trusts is its own: no bundle sets it.
bool is_own_of_machine(std::string_view key);

// One line a key: its effective value as YAML; secrets as their reference. Sorted as the schema is.
struct ShownKey {
  std::string key, value_yaml, origin, help, allowed, default_yaml;
  bool live = false;  // a change is taken up by a reload; else it counts from the next start on
};
std::vector<ShownKey> show(const Loaded& loaded);
// The effective settings as a YAML document that loads back to the same settings.
std::string to_yaml(const Loaded& loaded);
// docs/configuration.md, generated from the schema.
std::string reference_page();
// SHA-256 over to_yaml(): the "configuration in force" of the ledger.
std::string digest_hex(const Loaded& loaded);

// Other rooms check values whose meaning is theirs (a predicate's text, a sink's keys) without being linked here.
using Validator = std::function<Result<void>(const std::string& value)>;
void register_validator(const std::string& key, Validator validator);  // before load(); not thread-safe
// A key that only one type of sink has.
struct SinkKey {
  enum class Kind : std::uint8_t { text, number, list, map };
  enum class File : std::uint8_t { none, read, folder };
  std::string name = {};
  bool required = false;
  bool secret = false;                    // only as a reference
  std::vector<std::string> allowed = {};  // empty: any text
  std::string help = {};
  Kind kind = Kind::text;
  bool may_be_secret = false;             // a text or a reference; of a map: each of its values
  std::int64_t minimum = 0, maximum = 0;  // of a number
  std::string fallback = {};              // what it is when it is not given; shown in the reference
  File file = File::none;                 // an absolute path: of a file to read, or of one whose folder is written to
  // Looks at a text, at each text of a list, at "NAME: VALUE" for each entry of a map (a secret's value is not shown).
  std::function<Result<void>(const std::string&)> check = {};
};
// Looks at a sink whose keys are each valid.
using SinkCheck = std::function<Result<void>(const SinkSettings&)>;
void register_sink_type(const std::string& type, std::vector<SinkKey> keys, SinkCheck check = {});

}  // namespace daemoneye::config
