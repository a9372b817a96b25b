// The settings in words: for `config show`, as a file, and as the reference page.
#include "base/hash.h"
#include "base/text.h"
#include "config/config.h"
#include "config/schema.h"

namespace daemoneye::config {
namespace {

std::string default_text(const Key& key) { return key.follow ? key.follow_text : write_value(key, key.fallback); }

// A cell of a Markdown table; code unless the text brings its own.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}
std::string code_cell(const std::string& text) {
  return cell(text.find('`') == std::string::npos ? '`' + text + '`' : text);
}

constexpr std::string_view reference_begin = R"(# Configuration

This page is made from the schema that the programs use (`src/config/schema.cc`); a test holds it up to date.

The daemons and `daemoneye-cli` read one configuration: YAML files, environment variables and `--set` on the command line.

## Where values come from

The strongest first:

1. `--set KEY=VALUE` on the command line, as often as needed. VALUE is YAML: `--set app.scan_interval_ms=15000`,
   `--set 'detection.rule_paths=[/srv/rules]'`.
2. Environment variables: `DAEMONEYE_`, the key in capitals, `__` between levels:
   `DAEMONEYE_APP__SCAN_INTERVAL_MS=15000`. The value is YAML. A variable with this prefix that names no key is an error.
3. `~/.config/daemoneye/config.yaml`
4. The fragment of the bundle in force, in `bundle.path` ([rules.md](rules.md#bundles))
5. `/etc/daemoneye/config.d/*.yaml`, in the order of their names; later ones win
6. `/etc/daemoneye/config.yaml`
7. The defaults below.

`--config FILE` stands in for 3, 5 and 6. A value replaces a weaker one whole: lists are not joined.
`daemoneye-cli config show --origin` tells where each value came from, `config validate` checks, `config set` changes
([configure.md](configure.md)). Keys marked `live` are taken up by `config reload` (SIGHUP); the others count from the
next start on.

An unknown key, a wrong type or a value out of range is an error that names file, line, key, what was found and what is
allowed. All errors are told at once, and nothing starts.

A start as root does not believe what others than root can write: such a file (or one below a folder that others can
write, sticky folders like `/tmp` excepted) is ignored, with a notice; if it was named by `--config`, the start is refused.

The files are YAML, levels below each other. Not accepted: aliases and tags, a second document, a key twice, more than
1 MiB, a value above 4 KiB. `yes`, `no`, `on`, `off` are texts; booleans are `true` and `false`. A text that looks like a
number or a boolean needs quotes.

```yaml
app:
  scan_interval_ms: 15000
alerting:
  sinks:
    - type: stdout
      min_severity: high
```
)";

constexpr std::string_view sinks_text = R"(
## Sinks

`alerting.sinks` is a list of maps; each has a `type`, and may have:

| key | default | allowed | |
|---|---|---|---|
| `name` | the type | letters, digits, `_`, `.`, `-`; at most 64 | Must differ between sinks. |
| `min_severity` | `low` | low, medium, high, critical | Alerts below are not sent there. |
| `rules`, `tags` | all | `{include: [GLOB, …], exclude: [GLOB, …]}` | By the rule's id, and by the rule's tags (one that matches is enough). `exclude` is stronger. |
| `rate_limit` | none | `{alerts: 1 to 1000000, per_ms: 1000 to 86400000}` | So many alerts in a window (`per_ms`: 60000); what is beyond is not sent one by one: when the window is over one alert of rule `daemoneye.rate-limit` tells how many there were, by rule and severity. |
| `format` | `auto` | auto, json, ecs, ocsf, cef, text, template | `auto`: text for people where stdout is a terminal and in mail, JSON everywhere else. |
| `template` | | a text | For format `template`: see below. |

The other keys depend on the type; a wrong one is refused with the list of those that the type has. A secret is given
as `{env: NAME}`, `{file: /PATH}` or `{credential: NAME}` (a file of that name in `$CREDENTIALS_DIRECTORY`, where systemd
puts what `LoadCredential=` names). An inline secret is refused, and `config show` prints the reference only. A file with a
secret that every user can read or write is refused; one line end after the secret is left out. A reload (SIGHUP) reads
secrets again.

Formats: `json` is the alert as `daemoneye-cli alerts show --format json` gives it; `ecs` the Elastic Common Schema 8.4;
`ocsf` a Detection Finding (class_uid 2004) of OCSF 1.3.0; `cef` ArcSight's Common Event Format; `text` lines for people;
`template` what `template` says: `{{title}}` stands for a field of the alert (a control character is made visible),
`{{json:title}}` for the same as a JSON value with its quotes. Fields: `alert_id`, `time`, `last_seen`, `count`, `rule_id`,
`severity`, `title`, `description`, `status`, `tags`, `process_key`, `pid`, `name`, `executable_path`, `command_line`, `row`,
`evidence`, `correlation_id`, `completeness`, `host`, `agent_version`, and `row.COLUMN` for a column that the rule selects.
An unknown field is an error of the configuration.
)";

constexpr std::string_view files_text = R"(
## Files

| file | |
|---|---|
| `/etc/daemoneye/config.yaml` | of the host |
| `/etc/daemoneye/config.d/*.yaml` | fragments; they win over it |
| `~/.config/daemoneye/config.yaml` | of the user; it wins over both |
| `$CREDENTIALS_DIRECTORY/NAME` | what `{credential: NAME}` stands for |
)";

// One table a type that this program knows.
std::string type_tables() {
  std::string page;
  for (const auto& [type, keys] : registered_sink_types()) {
    page += "\n### " + type + "\n\n";
    if (keys.keys.empty()) {
      page += "No keys of its own.\n";
      continue;
    }
    page += "| key | default | allowed | |\n|---|---|---|---|\n";
    for (const auto& key : keys.keys) {
      const std::string fallback = key.required ? "(required)" : key.fallback.empty() ? "" : '`' + key.fallback + '`';
      page += "| `" + key.name + "` | " + cell(fallback) + " | " + cell(allowed_text(key)) + " | " + cell(key.help) +
              " |\n";
    }
  }
  return page;
}

}  // namespace

std::vector<ShownKey> show(const Loaded& loaded) {
  std::vector<ShownKey> shown;
  for (const Key& key : schema()) {
    shown.push_back({key.name, write_value(key, key.get(loaded.settings)), loaded.origin.at(key.name), key.help,
                     allowed_text(key), default_text(key), key.live});
  }
  return shown;
}

std::string to_yaml(const Loaded& loaded) {
  std::string out;
  std::vector<std::string_view> open;
  for (const Key& key : schema()) {
    const auto parts = base::split(key.name, '.');
    std::size_t shared = 0;
    while (shared < open.size() && shared + 1 < parts.size() && open[shared] == parts[shared]) ++shared;
    open.resize(shared);
    for (std::size_t level = shared; level + 1 < parts.size(); ++level) {
      out += std::string(level * 2, ' ') + std::string(parts[level]) + ":\n";
      open.push_back(parts[level]);
    }
    out += std::string(open.size() * 2, ' ') + std::string(parts.back()) + ": " +
           write_value(key, key.get(loaded.settings)) + '\n';
  }
  return out;
}

std::string reference_page() {
  std::string page(reference_begin);
  page += "\n## Keys\n";
  std::string_view section;
  for (const Key& key : schema()) {
    const auto first = std::string_view(key.name).substr(0, key.name.find('.'));
    if (first != section) {
      section = first;
      page += "\n### " + std::string(section) +
              "\n\n| key | default | allowed | a change counts | |\n|---|---|---|---|---|\n";
    }
    page += "| `" + key.name + "` | " + code_cell(default_text(key)) + " | " + cell(allowed_text(key)) + " | " +
            (key.live ? "live" : "restart") + " | " + cell(key.help) + " |\n";
  }
  page += sinks_text;
  page += type_tables();
  page += files_text;
  return page;
}

std::string digest_hex(const Loaded& loaded) { return base::to_hex(base::sha256(to_yaml(loaded))); }

}  // namespace daemoneye::config
