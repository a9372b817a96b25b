// The settings a program runs with, as plain values. Filled from the one schema in schema.cc.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace daemoneye::config {

// A value that must not be shown: given as {env: NAME}, {file: PATH} or {credential: NAME} (a file of that name in
// $CREDENTIALS_DIRECTORY, where systemd puts them); resolved when used.
struct SecretReference {
  enum class Kind : std::uint8_t { env, file, credential } kind = Kind::env;
  std::string where;
  bool operator==(const SecretReference&) const = default;
};

// One entry of alerting.sinks. Keys that only one type knows stay in `options`, already checked against that
// type's own list of keys.
struct SinkSettings {
  std::string type;  // stdout | file | syslog | webhook | email
  std::string name;  // default: the type
  std::string min_severity = "low";
  std::string format = "auto";  // auto | json | ecs | ocsf | cef | text | template; auto: the sink's own choice
  std::string text_template;    // key `template`, for format template
  // Globs; an empty `include` wants all. An alert has several tags: one that matches is enough.
  struct Patterns {
    std::vector<std::string> include, exclude;
    bool operator==(const Patterns&) const = default;
  } rules = {}, tags = {};
  // Beyond so many alerts in a window a summary stands for the rest.
  struct RateLimit {
    std::uint32_t alerts = 0;  // 0: no limit
    std::uint32_t per_ms = 60'000;
    bool operator==(const RateLimit&) const = default;
  } rate_limit = {};
  std::map<std::string, std::string> options;
  std::map<std::string, std::vector<std::string>> lists;
  std::map<std::string, SecretReference> secrets;
  // An entry of a map is among `options` or `secrets` by KEY.ENTRY ("headers.X-Team"); no key has a dot in its name.
  bool operator==(const SinkSettings&) const = default;
};

struct QueueSettings {
  std::uint32_t capacity = 0;
  std::string on_full;  // wait | drop_oldest | drop_newest
};

struct Settings {
  struct App {
    std::uint32_t scan_interval_ms;
    std::uint32_t batch_size;
    std::string state_dir;
    std::string user, collector_user;
    std::uint32_t memory_budget_mb;
  } app;
  std::map<std::string, QueueSettings> queues;  // by queue name; every known queue is present
  struct Database {
    std::string path;
    std::uint32_t retention_days, max_size_mb;
    std::string on_damage;  // stop | set_aside
  } database;
  struct Audit {
    std::string path;
    std::uint32_t checkpoint_interval_s;
    std::uint32_t checkpoint_entries;
    std::string key_path;
    std::string checkpoint_copy;
    std::uint32_t segment_mb;
  } audit;
  struct Collection {
    std::string realtime;  // auto | ebpf | netlink | off
    bool hash_executables;
    std::uint32_t hash_cpu_percent;
    bool mask_arguments;
    std::vector<std::string> exclude;  // predicate texts, checked when loaded
    bool store_forks;
  } collection;
  struct Ipc {
    std::string socket_path;
    std::uint32_t max_pending_records, max_concurrent_tasks;
  } ipc;
  struct Detection {
    std::vector<std::string> rule_paths;
    std::uint32_t rule_timeout_ms;
  } detection;
  struct Bundle {
    std::string path, trusted_keys;  // folders
  } bundle;
  struct Alerting {
    std::vector<SinkSettings> sinks;
    std::uint32_t max_parallel_deliveries;
    struct Retry {
      std::uint32_t max_retries, max_delay_ms;
    } retry;
    struct Breaker {
      std::uint32_t failures, open_ms;
    } breaker;
    std::uint64_t max_age_ms;
    std::uint32_t dedup_window_ms;
    std::uint32_t delivery_retention_days, dead_letter_retention_days;
  } alerting;
  struct Metrics {
    std::string listen, textfile;  // empty: off
  } metrics;
  struct Logging {
    std::string level;   // trace | debug | info | warn | error
    std::string format;  // json | text
  } logging;
};

}  // namespace daemoneye::config
