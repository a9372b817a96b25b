#include "config/change.h"

#include <algorithm>
#include <map>

#include "base/hash.h"
#include "base/text.h"
#include "config/schema.h"

namespace daemoneye::config {
namespace {

// A sink's other keys may hold an address with a token in it; what changed in them is told by a digest.
std::string sinks_text(const std::vector<SinkSettings>& sinks) {
  constexpr std::size_t digest_digits = 12;
  std::string names;
  for (const auto& sink : sinks) {
    names += (names.empty() ? "" : ", ") + sink.name + " (" + sink.type + ", " + sink.min_severity + ')';
  }
  return '[' + names + "] " + base::to_hex(base::sha256(write_sinks(sinks))).substr(0, digest_digits);
}

std::string difference_text(const Key& key, const Value& value) {
  const auto* sinks = std::get_if<std::vector<SinkSettings>>(&value);
  auto text = sinks != nullptr ? sinks_text(*sinks) : write_value(key, value);
  if (text.size() > max_difference_bytes) text = base::to_valid_utf8(text.substr(0, max_difference_bytes - 3)) + "…";
  return text;
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
}

bool holds(const std::string& folder, const std::string& path) {
  return folder == "/" || path == folder || path.starts_with(folder + '/');
}

bool is_loopback(std::string_view host) {
  return host.starts_with("127.") || host == "localhost" || host == "[::1]" || host == "::1";
}

std::string_view host_of_url(std::string_view url) {
  const auto begin = url.find("://");
  if (begin != std::string_view::npos) url.remove_prefix(begin + 3);
  url = url.substr(0, url.find_first_of("/?#"));
  if (const auto at = url.rfind('@'); at != std::string_view::npos) url.remove_prefix(at + 1);
  return url.starts_with('[') ? url.substr(0, url.find(']') + 1) : url.substr(0, url.find(':'));
}

std::string option(const SinkSettings& sink, const std::string& name, const std::string& fallback = "") {
  const auto found = sink.options.find(name);
  return found == sink.options.end() ? fallback : found->second;
}

// Why others may read what this sink sends; empty: they may not.
std::string readable_by_others(const SinkSettings& sink) {
  if (sink.type == "webhook") {
    const auto url = option(sink, "url");
    if (url.starts_with("http://") && !is_loopback(host_of_url(url))) return "sends alerts over http://, unencrypted";
  } else if (sink.type == "syslog") {
    const auto transport = option(sink, "transport", "unix");
    if (transport != "unix" && transport != "tls" && !is_loopback(option(sink, "host", "localhost"))) {
      return "sends alerts over " + transport + ", unencrypted";
    }
  } else if (sink.type == "email") {
    if (option(sink, "security", "starttls") == "none" && !is_loopback(option(sink, "host", "localhost"))) {
      return "sends alerts by mail without encryption";
    }
  }
  return {};
}

int rank(const std::string& severity) {
  static const std::vector<std::string> severities = {"low", "medium", "high", "critical"};
  return static_cast<int>(std::ranges::find(severities, severity) - severities.begin());
}

class Comparison {
 public:
  Comparison(const Settings& before, const Settings& after) : before_(before), after_(after) {}

  std::vector<Weakening> run() {
    privacy();
    evidence();
    alerts();
    trust();
    return std::move(found_);
  }

 private:
  void weaker(bool is, const std::string& key, std::string what) {
    if (is) found_.push_back({key, std::move(what)});
  }

  void privacy() {
    const auto &was = before_.collection, &is = after_.collection;
    weaker(was.mask_arguments && !is.mask_arguments, "collection.mask_arguments",
           "passwords and tokens in arguments are stored and sent as they are");
    const auto host = after_.metrics.listen.substr(0, after_.metrics.listen.rfind(':'));
    weaker(!host.empty() && !is_loopback(host) && after_.metrics.listen != before_.metrics.listen, "metrics.listen",
           "who reaches this machine on " + after_.metrics.listen +
               " can read its metrics, and nobody is asked who it is");
  }

  void evidence() {
    const auto &was = before_.collection, &is = after_.collection;
    weaker(was.hash_executables && !is.hash_executables, "collection.hash_executables",
           "executables are not hashed: a replaced one is not recognised");
    weaker(was.realtime != "off" && is.realtime == "off", "collection.realtime",
           "what lives shorter than a scan's interval is not seen");
    const auto left_out = std::ranges::count_if(
        is.exclude, [&](const auto& one) { return std::ranges::find(was.exclude, one) == was.exclude.end(); });
    weaker(left_out > 0, "collection.exclude", "processes that match are not recorded, only counted");
    weaker(after_.database.retention_days < before_.database.retention_days, "database.retention_days",
           "events older than " + std::to_string(after_.database.retention_days) + " days are removed");
    weaker(after_.database.max_size_mb < before_.database.max_size_mb, "database.max_size_mb",
           "the oldest events beyond " + std::to_string(after_.database.max_size_mb) + " MiB are removed");
    weaker(after_.database.on_damage == "set_aside" && before_.database.on_damage != "set_aside", "database.on_damage",
           "a damaged store is set aside and detection goes on without its history");
    const auto &had = before_.audit, &has = after_.audit;
    weaker(has.checkpoint_interval_s > had.checkpoint_interval_s, "audit.checkpoint_interval_s",
           "the ledger is signed more rarely: what is newer than the last checkpoint is not proven");
    weaker(has.checkpoint_entries > had.checkpoint_entries, "audit.checkpoint_entries",
           "the ledger is signed after more entries: what is newer than the last checkpoint is not proven");
    weaker(!had.checkpoint_copy.empty() && has.checkpoint_copy.empty(), "audit.checkpoint_copy",
           "checkpoints are not kept elsewhere: a rewritten ledger is not found out");
    weaker(has.path != had.path, "audit.path", "another ledger is begun, which says nothing of the past");
    weaker(has.key_path != had.key_path, "audit.key_path", "checkpoints are signed with the key of another place");
  }

  void alerts() {
    std::map<std::string, const SinkSettings*> before;
    for (const auto& sink : before_.alerting.sinks) before.emplace(sink.name, &sink);
    for (const auto& sink : after_.alerting.sinks) {
      const auto was = before.find(sink.name);
      const auto old = was == before.end() ? nullptr : was->second;
      const auto why = readable_by_others(sink);
      weaker(!why.empty() && (old == nullptr || readable_by_others(*old) != why || *old != sink), "alerting.sinks",
             "sink " + sink.name + ' ' + why);
      weaker(old != nullptr && rank(sink.min_severity) > rank(old->min_severity), "alerting.sinks",
             "sink " + sink.name + " gets no alerts below " + sink.min_severity + " any more");
      if (old != nullptr) before.erase(was);
    }
    for (const auto& [name, sink] : before) {
      weaker(true, "alerting.sinks",
             "sink " + name + " gets no alerts any more; those that wait for it become dead letters");
    }
    const auto &was = before_.detection.rule_paths, &is = after_.detection.rule_paths;
    for (const auto& path : was) {
      weaker(std::ranges::find(is, path) == is.end(), "detection.rule_paths",
             "the rules of " + path + " detect no more");
    }
  }

  void trust() {
    weaker(after_.app.user == "root" && before_.app.user != "root", "app.user", "the agent keeps root's rights");
    weaker(after_.app.collector_user == "root" && before_.app.collector_user != "root", "app.collector_user",
           "procmond keeps root's rights");
    weaker(after_.bundle.trusted_keys != before_.bundle.trusted_keys, "bundle.trusted_keys",
           "bundles of the keys in " + after_.bundle.trusted_keys + " are taken");
  }

  const Settings &before_, &after_;
  std::vector<Weakening> found_;
};

}  // namespace

std::vector<Difference> differences(const Settings& before, const Settings& after) {
  std::vector<Difference> found;
  for (const Key& key : schema()) {
    const auto was = key.get(before), is = key.get(after);
    if (was == is) continue;
    found.push_back({key.name, key.live, difference_text(key, was), difference_text(key, is)});
  }
  return found;
}

Settings with_live_keys(const Settings& in_force, const Settings& wanted) {
  Settings merged = in_force;
  for (const Key& key : schema()) {
    if (key.live) key.set(merged, key.get(wanted));
  }
  return merged;
}

bool concerns_collector(std::string_view key) {
  return key == "app.scan_interval_ms" || key.starts_with("collection.") || key.starts_with("audit.") ||
         key.starts_with("logging.");
}

std::string out_of_collectors_reach(const Sources& sources, const Settings& settings) {
  if (!sources.config_file) return {};
  const auto folder = folder_of(*sources.config_file);
  for (const auto& state :
       {settings.database.path, settings.audit.path, settings.audit.key_path, settings.ipc.socket_path}) {
    if (!holds(folder, state)) continue;
    return *sources.config_file + " lies in a folder that holds state (" + state +
           "), which procmond is kept from; move it into a folder of its own";
  }
  return {};
}

std::vector<Weakening> weakenings(const Settings& before, const Settings& after) {
  return Comparison(before, after).run();
}

std::vector<Weakening> weaker_than_default(const Settings& settings) {
  // Where the state lies, and who runs what, is no weakness by itself.
  Settings defaults = settings;
  for (const Key& key : schema()) {
    if (!key.follow) key.set(defaults, key.fallback);
  }
  defaults.detection.rule_paths = settings.detection.rule_paths;
  defaults.alerting.sinks.clear();
  defaults.database.max_size_mb = std::min(defaults.database.max_size_mb, settings.database.max_size_mb);
  defaults.database.retention_days = std::min(defaults.database.retention_days, settings.database.retention_days);
  return weakenings(defaults, settings);
}

}  // namespace daemoneye::config
