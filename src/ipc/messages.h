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
  std::string store_id;                   // random, made with the store
  std::uint64_t committed_sequence = 0;   // of this source and epoch; 0: none
  std::uint32_t credit_records = 0;       // the window: records sent and not acknowledged
  // Until when the store's record of this source is whole, over all epochs; absent when it never heard of it.
  std::optional<Timestamp> covered_until;
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

// The closed table of requests. agent -> collector: the first four; operator -> agent: the rest.
enum class RequestKind : std::uint32_t {
  append_audit = 1,   // {"actor":…,"action":…,"payload":{…}} -> {"seq":N}
  enumerate = 2,      // {"task_id":…,"filter":…,"threshold":N} -> {"processes":[…],"errors":[…],"truncated":B}
  hash_path = 3,      // {"path":…} -> {"sha256":…}
  capabilities = 4,   // {} -> {…}
  health = 16,        // {} -> HealthBoard JSON
  metrics = 17,       // {} -> {"text":…}
  reload = 18,        // {} ; root or daemoneye-admin
  record_refusal = 19,  // {"digest":…,"reason":…}: refused SQL, rate-limited into the ledger
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

using Message = std::variant<Hello, Welcome, BatchMessage, Acknowledge, Heartbeat, Request, Cancel, Reply>;

}  // namespace daemoneye::ipc
