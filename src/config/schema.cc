#include "config/schema.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/text.h"

namespace daemoneye::config {
namespace {

constexpr std::int64_t minute_ms = 60'000, hour_ms = 60 * minute_ms, day_ms = 24 * hour_ms;

// `access` names a member for reading and writing alike: [](auto& s) -> auto& { return s.app.batch_size; }
template <class Access>
void bind(Key& key, Access access) {
  key.get = [access](const Settings& settings) -> Value {
    const auto& member = access(settings);
    using Member = std::decay_t<decltype(member)>;
    if constexpr (std::is_integral_v<Member> && !std::is_same_v<Member, bool>) {
      return static_cast<std::int64_t>(member);
    } else {
      return member;
    }
  };
  key.set = [access](Settings& settings, Value value) {
    auto& member = access(settings);
    using Member = std::decay_t<decltype(member)>;
    if constexpr (std::is_integral_v<Member> && !std::is_same_v<Member, bool>) {
      member = static_cast<Member>(std::get<std::int64_t>(value));
    } else {
      member = std::get<Member>(std::move(value));
    }
  };
}

template <class Access>
Key integer(std::string name, std::int64_t fallback, std::int64_t minimum, std::int64_t maximum, std::string unit,
            std::string help, Access access) {
  Key key{.name = std::move(name),
          .kind = Kind::integer,
          .help = std::move(help),
          .unit = std::move(unit),
          .minimum = minimum,
          .maximum = maximum,
          .fallback = fallback};
  bind(key, access);
  return key;
}

template <class Access>
Key boolean(std::string name, bool fallback, std::string help, Access access) {
  Key key{.name = std::move(name), .kind = Kind::boolean, .help = std::move(help), .fallback = fallback};
  bind(key, access);
  return key;
}

template <class Access>
Key text(std::string name, Kind kind, std::string fallback, std::string help, Access access) {
  Key key{.name = std::move(name), .kind = kind, .help = std::move(help), .fallback = std::move(fallback)};
  bind(key, access);
  return key;
}

template <class Access>
Key choice(std::string name, std::vector<std::string> choices, std::string fallback, std::string help, Access access) {
  Key key = text(std::move(name), Kind::choice, std::move(fallback), std::move(help), access);
  key.choices = std::move(choices);
  return key;
}

template <class Access>
Key list(std::string name, Kind kind, std::vector<std::string> fallback, std::int64_t at_most, std::string help,
         Access access) {
  Key key{.name = std::move(name),
          .kind = kind,
          .help = std::move(help),
          .maximum = at_most,
          .fallback = std::move(fallback)};
  bind(key, access);
  return key;
}

Key following(Key key, std::string text,
              std::function<Result<Value>(const Settings& so_far, const Sources& sources)> follow) {
  key.follow_text = std::move(text);
  key.follow = std::move(follow);
  return key;
}

std::string variable(const Sources& sources, const std::string& name) {
  const auto found = sources.environment.find(name);
  return found == sources.environment.end() ? std::string() : found->second;
}

Result<Value> default_state_dir(const Settings&, const Sources& sources) {
  if (sources.privileged || sources.system_paths) return system_state_folder;
  // The XDG rules: a value that is not absolute counts as absent.
  if (const auto state = variable(sources, "XDG_STATE_HOME"); state.starts_with('/')) return state + "/daemoneye";
  if (sources.home.starts_with('/')) return sources.home + "/.local/state/daemoneye";
  return fail(Errc::invalid_input,
              "no default: not root, and neither XDG_STATE_HOME nor HOME is set; set app.state_dir");
}

Result<Value> default_socket(const Settings& so_far, const Sources& sources) {
  if (sources.privileged || sources.system_paths) return "/run/daemoneye/DaemonEye.sock";
  if (const auto runtime = variable(sources, "XDG_RUNTIME_DIR"); runtime.starts_with('/')) {
    return runtime + "/daemoneye/DaemonEye.sock";
  }
  return so_far.app.state_dir + "/DaemonEye.sock";
}

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

SinkSettings stdout_sink() {
  SinkSettings sink;
  sink.type = sink.name = "stdout";
  return sink;
}

template <class SettingsType>
auto& queue(SettingsType& settings, const char* name) {
  if constexpr (std::is_const_v<SettingsType>) {
    return settings.queues.at(name);
  } else {
    return settings.queues[name];
  }
}

// What a reload takes up, in the agent or in procmond. The others name what is opened, or given away, at the start:
// paths, users, sockets, sources, sizes.
constexpr std::array live_keys = {"app.scan_interval_ms",
                                  "database.retention_days",
                                  "database.max_size_mb",
                                  "audit.checkpoint_interval_s",
                                  "audit.checkpoint_entries",
                                  "alerting.delivery_retention_days",
                                  "alerting.dead_letter_retention_days",
                                  "collection.hash_cpu_percent",
                                  "collection.mask_arguments",
                                  "collection.exclude",
                                  "collection.store_forks",
                                  "detection.rule_paths",
                                  "detection.rule_timeout_ms",
                                  "alerting.sinks",
                                  "alerting.max_parallel_deliveries",
                                  "alerting.retry.max_retries",
                                  "alerting.retry.max_delay_ms",
                                  "alerting.breaker.failures",
                                  "alerting.breaker.open_ms",
                                  "alerting.max_age_ms",
                                  "alerting.dedup_window_ms",
                                  "metrics.listen",
                                  "metrics.textfile",
                                  "logging.level",
                                  "logging.format"};

std::vector<Key> make_schema() {
  std::vector<Key> keys;
  const auto add = [&](Key key) { keys.push_back(std::move(key)); };

  add(integer("app.scan_interval_ms", 30'000, 100, day_ms, "ms",
              "Time between two reconciliation scans. Real-time events do not wait for it.",
              [](auto& s) -> auto& { return s.app.scan_interval_ms; }));
  add(integer("app.batch_size", 1000, 1, 65'536, "records",
              "Records in one batch at most; a batch is also at most 1 MiB. Bounds memory.",
              [](auto& s) -> auto& { return s.app.batch_size; }));
  add(following(text("app.state_dir", Kind::path, "", "Folder of the state. The paths below follow it unless set.",
                     [](auto& s) -> auto& { return s.app.state_dir; }),
                "`/var/lib/daemoneye`; not root: `$XDG_STATE_HOME/daemoneye` (`~/.local/state/daemoneye`)",
                default_state_dir));
  add(text("app.user", Kind::name, "daemoneye", "User the agent runs as when started by root.",
           [](auto& s) -> auto& { return s.app.user; }));
  add(text("app.collector_user", Kind::name, "daemoneye-procmond", "User procmond runs as when started by root.",
           [](auto& s) -> auto& { return s.app.collector_user; }));
  add(integer("app.memory_budget_mb", 100, 16, 65'536, "MiB",
              "Memory of both daemons together. Work yields or is shed, and counted, before it is passed.",
              [](auto& s) -> auto& { return s.app.memory_budget_mb; }));

  add(integer("queues.events.capacity", 64, 1, 4096, "operations", "Writes to the event store that wait in the agent.",
              [](auto& s) -> auto& { return queue(s, "events").capacity; }));
  add(choice("queues.events.on_full", {"wait"}, "wait",
             "A full queue holds the collector back; nothing that was accepted is dropped.",
             [](auto& s) -> auto& { return queue(s, "events").on_full; }));
  add(integer("queues.detection.capacity", 256, 1, 65'536, "batches",
              "Committed batches that wait for the rules in memory.",
              [](auto& s) -> auto& { return queue(s, "detection").capacity; }));
  add(choice("queues.detection.on_full", {"drop_newest"}, "drop_newest",
             "A batch that does not fit is read back from the store later; no event is left out.",
             [](auto& s) -> auto& { return queue(s, "detection").on_full; }));

  auto database = text("database.path", Kind::path, "",
                       "The event store. Must end in .redb (a name kept for compatibility; the format is SQLite's).",
                       [](auto& s) -> auto& { return s.database.path; });
  database.suffix = ".redb";
  add(following(std::move(database), "`<app.state_dir>/events.redb`", [](const Settings& so_far, const Sources&) {
    return Result<Value>(so_far.app.state_dir + "/events.redb");
  }));
  add(integer("database.retention_days", 30, 1, 36'500, "days", "Events older than this are removed.",
              [](auto& s) -> auto& { return s.database.retention_days; }));
  add(integer("database.max_size_mb", 4096, 1, 16'777'216, "MiB",
              "Size of the store with its write-ahead log. Above it the oldest events are removed, and counted.",
              [](auto& s) -> auto& { return s.database.max_size_mb; }));
  add(choice("database.on_damage", {"stop", "set_aside"}, "stop",
             "A store too damaged to be opened: stop (exit 5), or set_aside: keep it beside and begin a new one.",
             [](auto& s) -> auto& { return s.database.on_damage; }));

  auto audit = text("audit.path", Kind::path, "",
                    "The audit ledger, in a folder of its own (0750, the collector's). Must end in .redb.",
                    [](auto& s) -> auto& { return s.audit.path; });
  audit.suffix = ".redb";
  add(following(std::move(audit), "`<app.state_dir>-audit/audit.redb`", [](const Settings& so_far, const Sources&) {
    return Result<Value>(so_far.app.state_dir + "-audit/audit.redb");
  }));
  add(integer("audit.checkpoint_interval_s", 300, 1, 86'400, "s", "Time between two signed checkpoints.",
              [](auto& s) -> auto& { return s.audit.checkpoint_interval_s; }));
  add(integer("audit.checkpoint_entries", 10'000, 1, 1'000'000, "entries",
              "A checkpoint is signed earlier when so many entries came since the last.",
              [](auto& s) -> auto& { return s.audit.checkpoint_entries; }));
  add(following(text("audit.key_path", Kind::path, "", "The key that signs checkpoints.",
                     [](auto& s) -> auto& { return s.audit.key_path; }),
                "`checkpoint.key` beside the ledger", [](const Settings& so_far, const Sources&) {
                  return Result<Value>(folder_of(so_far.audit.path) + "/checkpoint.key");
                }));
  auto copy = text("audit.checkpoint_copy", Kind::path, "",
                   "File (or pipe) that each checkpoint is appended to: best one that another machine keeps.",
                   [](auto& s) -> auto& { return s.audit.checkpoint_copy; });
  copy.may_be_off = true;
  add(std::move(copy));
  add(integer("audit.segment_mb", 256, 1, 65'536, "MiB", "The ledger begins a new file when one has this size.",
              [](auto& s) -> auto& { return s.audit.segment_mb; }));

  add(choice("collection.realtime", {"auto", "ebpf", "netlink", "off"}, "auto",
             "Where real-time events come from. `auto` takes the best that works, down to scans alone.",
             [](auto& s) -> auto& { return s.collection.realtime; }));
  add(boolean("collection.hash_executables", true, "SHA-256 of executables; cached, beside the events.",
              [](auto& s) -> auto& { return s.collection.hash_executables; }));
  add(integer("collection.hash_cpu_percent", 10, 1, 100, "% of one core", "Processor time that hashing may use.",
              [](auto& s) -> auto& { return s.collection.hash_cpu_percent; }));
  add(boolean("collection.mask_arguments", true,
              "Secrets in arguments are masked before anything is stored, sent or digested.",
              [](auto& s) -> auto& { return s.collection.mask_arguments; }));
  add(list("collection.exclude", Kind::texts, {}, 256,
           "Conditions like `name = 'sleep' AND uid >= 1000`; what they leave out is counted.",
           [](auto& s) -> auto& { return s.collection.exclude; }));
  add(boolean("collection.store_forks", false, "Forks become rows too.",
              [](auto& s) -> auto& { return s.collection.store_forks; }));

  add(following(text("ipc.socket_path", Kind::path, "", "Socket of the agent.",
                     [](auto& s) -> auto& { return s.ipc.socket_path; }),
                "`/run/daemoneye/DaemonEye.sock`; not root: `$XDG_RUNTIME_DIR/daemoneye/DaemonEye.sock`, or in "
                "`app.state_dir` when that variable is not set",
                default_socket));
  add(integer("ipc.max_pending_records", 1000, 1, 1'000'000, "records",
              "Records that procmond may have sent without an acknowledgement.",
              [](auto& s) -> auto& { return s.ipc.max_pending_records; }));
  add(integer("ipc.max_concurrent_tasks", 10, 1, 1000, "tasks", "Tasks that procmond works on at once.",
              [](auto& s) -> auto& { return s.ipc.max_concurrent_tasks; }));

  add(list("detection.rule_paths", Kind::paths, {"/usr/share/daemoneye/rules", "/etc/daemoneye/rules.d"}, 64,
           "Folders of rules. Later ones override by id; changes are taken up while running.",
           [](auto& s) -> auto& { return s.detection.rule_paths; }));
  add(integer("detection.rule_timeout_ms", 30'000, 1, hour_ms, "ms", "Hard stop of one evaluation of one rule.",
              [](auto& s) -> auto& { return s.detection.rule_timeout_ms; }));

  add(following(text("bundle.path", Kind::path, "",
                     "Folder of the bundle in force; its rules override those of detection.rule_paths.",
                     [](auto& s) -> auto& { return s.bundle.path; }),
                "`/etc/daemoneye/bundle`",
                [](const Settings&, const Sources& sources) { return Result<Value>(default_bundle_path(sources)); }));
  add(following(
      text("bundle.trusted_keys", Kind::path, "", "Folder of the public keys (*.pub) whose bundles are taken.",
           [](auto& s) -> auto& { return s.bundle.trusted_keys; }),
      "`/etc/daemoneye/trusted-keys.d`",
      [](const Settings&, const Sources& sources) { return Result<Value>(sources.etc + "/trusted-keys.d"); }));

  Key sinks{.name = "alerting.sinks",
            .kind = Kind::sinks,
            .help = "Where alerts go. See \"Sinks\".",
            .maximum = 32,
            .fallback = std::vector<SinkSettings>{stdout_sink()}};
  bind(sinks, [](auto& s) -> auto& { return s.alerting.sinks; });
  add(std::move(sinks));
  add(integer("alerting.max_parallel_deliveries", 8, 1, 256, "deliveries", "Deliveries under way at once.",
              [](auto& s) -> auto& { return s.alerting.max_parallel_deliveries; }));
  add(integer("alerting.retry.max_retries", 3, 0, 100, "retries", "Further attempts after a failed delivery.",
              [](auto& s) -> auto& { return s.alerting.retry.max_retries; }));
  add(integer("alerting.retry.max_delay_ms", 60'000, 1, day_ms, "ms",
              "Longest wait between two attempts; waits grow exponentially, with jitter.",
              [](auto& s) -> auto& { return s.alerting.retry.max_delay_ms; }));
  add(integer("alerting.breaker.failures", 5, 1, 1000, "failures",
              "Failures in a row after which a sink is left alone for a while.",
              [](auto& s) -> auto& { return s.alerting.breaker.failures; }));
  add(integer("alerting.breaker.open_ms", 30'000, 1, day_ms, "ms",
              "How long it is left alone. Alerts wait without using up retries.",
              [](auto& s) -> auto& { return s.alerting.breaker.open_ms; }));
  add(integer("alerting.max_age_ms", day_ms, 1000, 365 * day_ms, "ms",
              "An alert that could not be delivered for so long goes to the dead letter.",
              [](auto& s) -> auto& { return s.alerting.max_age_ms; }));
  add(integer("alerting.delivery_retention_days", 30, 1, 36'500, "days",
              "Attempts to deliver (`alert_deliveries`) older than this are removed.",
              [](auto& s) -> auto& { return s.alerting.delivery_retention_days; }));
  add(integer("alerting.dead_letter_retention_days", 90, 1, 36'500, "days",
              "Dead letters older than this are removed; their alerts are kept as long.",
              [](auto& s) -> auto& { return s.alerting.dead_letter_retention_days; }));
  add(integer("alerting.dedup_window_ms", 5 * minute_ms, 0, 30 * day_ms, "ms",
              "Equal alerts within this time are counted on the first. 0: every match is an alert.",
              [](auto& s) -> auto& { return s.alerting.dedup_window_ms; }));

  add(text("metrics.listen", Kind::address, "", "Address that serves metrics and /healthz; loopback without a host.",
           [](auto& s) -> auto& { return s.metrics.listen; }));
  auto textfile = text("metrics.textfile", Kind::path, "", "File that metrics are written to, for node_exporter.",
                       [](auto& s) -> auto& { return s.metrics.textfile; });
  textfile.may_be_off = true;
  add(std::move(textfile));

  add(choice("logging.level", {"trace", "debug", "info", "warn", "error"}, "info", "Least level that is logged.",
             [](auto& s) -> auto& { return s.logging.level; }));
  add(following(choice("logging.format", {"json", "text"}, "json", "Form of log lines on stderr.",
                       [](auto& s) -> auto& { return s.logging.format; }),
                "`json`; `text` on a terminal", [](const Settings&, const Sources& sources) {
                  return Result<Value>(sources.terminal ? "text" : "json");
                }));
  for (Key& key : keys) key.live = std::ranges::find(live_keys, key.name) != live_keys.end();
  return keys;
}

}  // namespace

const std::vector<Key>& schema() {
  static const std::vector<Key> keys = make_schema();
  return keys;
}

const Key* find_key(std::string_view name) {
  const auto found = std::ranges::find(schema(), name, &Key::name);
  return found == schema().end() ? nullptr : &*found;
}

bool is_section(std::string_view name) { return !children(name).empty(); }

std::vector<std::string_view> children(std::string_view section) {
  std::vector<std::string_view> found;
  for (const Key& key : schema()) {
    std::string_view rest = key.name;
    if (!section.empty()) {
      if (!rest.starts_with(section) || rest.size() <= section.size() || rest[section.size()] != '.') continue;
      rest.remove_prefix(section.size() + 1);
    }
    const auto child = rest.substr(0, rest.find('.'));
    if (std::ranges::find(found, child) == found.end()) found.push_back(child);
  }
  return found;
}

std::string hint_for_unknown(std::string_view name) {
  const auto dot = name.rfind('.');
  const auto section = dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
  const auto last = dot == std::string_view::npos ? name : name.substr(dot + 1);
  const auto siblings = children(section);
  const auto prefix = section.empty() ? std::string() : std::string(section) + '.';
  if (const auto near = base::nearest(last, siblings); !near.empty()) {
    return "; did you mean " + prefix + std::string(near) + "?";
  }
  std::vector<std::string_view> all;
  std::vector<std::string_view> same_last;
  for (const Key& key : schema()) {
    all.push_back(key.name);
    if (key.name.ends_with("." + std::string(last))) same_last.push_back(key.name);
  }
  if (same_last.size() == 1) return "; did you mean " + std::string(same_last.front()) + "?";
  if (const auto near = base::nearest(name, all); !near.empty()) return "; did you mean " + std::string(near) + "?";
  if (siblings.empty())
    return "; top-level keys: " + [] {
      std::string names;
      for (const auto child : children("")) names += (names.empty() ? "" : ", ") + std::string(child);
      return names;
    }();
  std::string names;
  for (const auto child : siblings) names += (names.empty() ? "" : ", ") + prefix + std::string(child);
  return "; allowed: " + names;
}

std::string environment_name(std::string_view key) {
  std::string name = "DAEMONEYE_";
  for (const char c : key) {
    if (c == '.')
      name += "__";
    else
      name += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  }
  return name;
}

}  // namespace daemoneye::config
