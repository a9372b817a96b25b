// The one table of configuration keys. It drives reading, checking, defaults, `config show` and the reference page.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"
#include "config/settings.h"
#include "config/yaml.h"

namespace daemoneye::config {

enum class Kind {
  integer,  // minimum..maximum
  boolean,
  name,     // a user's name
  path,     // absolute
  address,  // `off`, PORT or HOST:PORT; without a host: loopback
  choice,   // one of `choices`
  texts,    // a list of texts, each given to the key's validator
  paths,    // a list of absolute paths
  sinks,    // the list of alerting.sinks
};

using Value = std::variant<std::int64_t, bool, std::string, std::vector<std::string>, std::vector<SinkSettings>>;

struct Key {
  std::string name = {};  // "app.scan_interval_ms"
  Kind kind = Kind::integer;
  std::string help = {};  // one line
  std::string unit = {};  // "ms"; empty: none
  std::int64_t minimum = 0, maximum = 0;
  std::vector<std::string> choices = {};
  std::string suffix = {};  // a path must end in it
  bool may_be_off = false;  // a path may also be `off`
  Value fallback = {};      // the built-in default, unless it follows something:
  std::function<Result<Value>(const Settings& so_far, const Sources& sources)> follow = {};
  std::string follow_text = {};  // how `follow` reads in the reference
  std::function<void(Settings&, Value)> set = {};
  std::function<Value(const Settings&)> get = {};
  bool live = false;  // a change is taken up by a reload
};

std::string default_bundle_path(const Sources& sources);

const std::vector<Key>& schema();
const Key* find_key(std::string_view name);
// True for "app", "alerting.retry": names with keys below them.
bool is_section(std::string_view name);
// What stands directly below a section ("" is the top): "scan_interval_ms", "retry".
std::vector<std::string_view> children(std::string_view section);
// "; did you mean app.batch_size?", or what there is instead.
std::string hint_for_unknown(std::string_view name);

// "DAEMONEYE_APP__SCAN_INTERVAL_MS"
std::string environment_name(std::string_view key);

// Takes what is wrong with a value: its line, its key (a list's element with its index), found and allowed.
using Report = std::function<void(unsigned line, const std::string& key, std::string message)>;
// The value the node holds; nothing after at least one report.
std::optional<Value> read_value(const Key& key, const Node& node, const Report& report);
// "an integer from 1 to 10 (ms)"
std::string allowed_text(const Key& key);
// One line of YAML that read_value() takes back.
std::string write_value(const Key& key, const Value& value);

// sinks.cc
std::optional<Value> read_sinks(const Key& key, const Node& node, const Report& report);
std::string write_sinks(const std::vector<SinkSettings>& sinks);
struct SinkTypeKeys {
  std::vector<SinkKey> keys;
  SinkCheck check;
};
const std::map<std::string, SinkTypeKeys>& registered_sink_types();
// "an integer from 1 to 9", "true, false", …
std::string allowed_text(const SinkKey& key);
// The formats there are, `auto` first.
const std::vector<std::string>& sink_formats();

}  // namespace daemoneye::config
