// What is said on the wire, as plain values; protobuf stays in codec.cc. Layouts: docs/formats/ipc.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "event/batch.h"

namespace daemoneye::ipc {

inline constexpr std::uint32_t protocol_version = 1;

// collector -> agent, first message on a connection
struct Hello {
  std::uint32_t version = protocol_version;
  std::string program_version;
  std::string source;
  event::Epoch epoch{};
  Timestamp epoch_started;
  std::string host;
};

// agent -> collector, answer to Hello
struct Welcome {
  std::uint32_t version = protocol_version;
  std::string store_id;                  // random, made with the store
  std::uint64_t committed_sequence = 0;  // of this source and epoch; 0: none
  std::uint32_t credit_records = 0;      // the window: records sent and not acknowledged
  // Until when the store's record of this source is whole, over all epochs; absent when it never heard of it.
  std::optional<Timestamp> covered_until;
};

// Batches that were acknowledged once and that the store of this connection does not hold: it is an older copy, or
// another store. Also, with an empty range (last_sequence = first_sequence - 1), what the store lacks of earlier
// epochs only. Times are those of the events that are gone; `from` reaches back to the store's covered_until when it
// holds nothing of this epoch.
struct Missing {
  std::uint64_t first_sequence = 0, last_sequence = 0;
  Timestamp from, to;
  std::uint64_t events = 0;
  bool operator==(const Missing&) const = default;
};

// collector -> agent, answer to Welcome, before the first batch: where the stream goes on. A first_sequence beyond
// the store's next one is explained by `missing`; otherwise it is a broken promise and ends the connection.
struct Resume {
  std::uint64_t first_sequence = 0;
  std::optional<Missing> missing;
};

// collector -> agent
struct BatchMessage {
  std::uint64_t sequence = 0;
  std::string canonical;  // event::encode_batch
  std::string digest;     // SHA-256, 32 bytes
  std::string scan;       // event::encode_scan, or empty
};

// agent -> collector, after the commit; cumulative
struct Acknowledge {
  std::uint64_t sequence = 0;
};

// collector -> agent: "I am alive, and up to `time` nothing is unsent". With the collector's health and metrics.
struct Heartbeat {
  Timestamp time;
  std::string health_json;   // empty: unchanged
  std::string metrics_text;  // empty: unchanged
};

// The closed table of requests. agent -> collector: the first six; operator -> agent: the rest.
enum class RequestKind : std::uint32_t {
  append_audit = 1,  // {"actor":…,"action":…,"payload":{…}} -> {"seq":N}
  enumerate = 2,     // {"task_id":…,"fields":[…],"filter":…,"threshold":N} ->
                     // {"processes":[…],"errors":[…],"truncated":B}
  hash_path = 3,     // {"path":…} -> {"sha256":…}
  capabilities = 4,  // {} -> {…}
  rotate_key = 5,    // {"actor":…} -> {"key":…}: of the ledger's checkpoints
  // {} -> {}: reads its configuration again, by itself, from the files it started with
  reload_configuration = 6,
  health = 16,   // {} -> HealthBoard JSON
  metrics = 17,  // {} -> {"text":…}
  // {} -> {"changed":[keys],"at_next_start":[keys]}, or what is wrong with the files: then nothing changed. Root or
  // daemoneye-admin. The collector is asked to do the same.
  reload = 18,
  rotate_audit_key = 20,  // {} ; root or daemoneye-admin: asks the collector for it
  record_refusal = 19,    // {"digest":…,"reason":…}: refused SQL, rate-limited into the ledger
  // Work on the store; root or daemoneye-admin. {"do":"compact"|"analyze"|"purge","before":NS|null} -> {"id":N}
  maintain = 24,
  // How far it is. {} -> {"id":N,"running":B,"done":N,"total":N,"error":…,"bytes_freed":N,"events_removed":N,
  // "rows_removed":N,"blocks_kept":N}
  maintenance = 25,
  // Alerting; all but `sinks` and `follow_alerts`: root or daemoneye-admin. Times are Unix nanoseconds or null.
  sinks = 32,          // {} -> {"sinks":[{"name":…,"type":…,"breaker":…,"waiting":N,…}]}
  test_sinks = 33,     // {"sink":…} (empty: all) -> {"results":[{"sink":…,"delivered":B,"latency_ms":N,"error":…}]}
  change_alerts = 34,  // {"do":"ack"|"close"|"reopen","alerts":[…],"note":…} -> {"changed":[…],"refused":[…]}
  // {"do":"retry"|"purge","sinks":[…],"alerts":[…],"before":NS|null} or {"do":…,"all":true} -> {"changed":N,"left":N}
  dead_letters = 35,
  follow_alerts =
      36,  // {"after":ROW,"wait_ms":N} -> {"last":ROW}, as soon as it is another, at the latest after wait_ms
  // A bundle of rules was put in force (root or daemoneye-admin): {"do":"may"} -> {}, or a refusal before anything is
  // changed; {"do":"imported","bundle":{…}} -> {}: recorded, and the rules are loaded again.
  bundle = 40,
  // Rules, without their files; root or daemoneye-admin. {"do":"enable"|"disable"|"severity"|"reset","rules":[ids],
  // "severity":WORD,"note":…} -> {"changed":[{"rule_id":…,"from":…,"to":…}],"refused":[{"rule_id":…,"why":…}]}
  change_rules = 41,
  // A configuration file is changed by `config set` (root or daemoneye-admin): {"do":"may"} -> {}, or a refusal before
  // anything is changed; {"do":"changed","key":…,"file":…,"before":…,"after":…,"weakens":[{"key":…,"what":…}]} -> {}:
  // recorded.
  configuration = 42,
};
std::string_view to_string(RequestKind kind);

struct Request {
  std::uint64_t id = 0;
  RequestKind kind = RequestKind::health;
  std::string payload;  // JSON object
  std::uint32_t timeout_ms = 30000;
};
struct Cancel {
  std::uint64_t id = 0;
};
struct Reply {
  std::uint64_t id = 0;
  std::optional<Errc> error;
  std::string message;  // when error
  std::string payload;  // JSON, when no error
};

// Bounds of the fields, checked when a message is sent and again when it is received. Bytes unless said otherwise.
inline constexpr std::size_t epoch_bytes = 16;
inline constexpr std::size_t digest_bytes = 32;
inline constexpr std::size_t max_program_version_bytes = 64;
inline constexpr std::size_t max_host_bytes = 255;
inline constexpr std::size_t max_store_id_bytes = 64;
inline constexpr std::size_t max_health_bytes = 1024 * 1024;
inline constexpr std::size_t max_metrics_bytes = 4 * 1024 * 1024;
inline constexpr std::size_t max_request_payload_bytes = 1024 * 1024;
inline constexpr std::size_t max_reply_payload_bytes = 8 * 1024 * 1024;
inline constexpr std::size_t max_reply_message_bytes = 4096;
inline constexpr std::uint32_t max_request_timeout_ms = 3'600'000;

using Message = std::variant<Hello, Welcome, Resume, BatchMessage, Acknowledge, Heartbeat, Request, Cancel, Reply>;

}  // namespace daemoneye::ipc
