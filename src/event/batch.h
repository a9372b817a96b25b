// A batch: the unit that is sent, acknowledged, stored and proven. Immutable once numbered.
// Its canonical encoding (docs/formats/batch.md) is what is digested, sent and kept in the store's hot tail.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "event/process_event.h"

namespace daemoneye::event {

using Epoch = std::array<std::uint8_t, 16>;  // random, one a collector start
std::string to_string(const Epoch& epoch);   // 32 hex digits
Result<Epoch> parse_epoch(std::string_view text);

struct BatchId {
  std::string source;  // who sends: "procmond" on one host; at most max_source_bytes
  Epoch epoch{};
  std::uint64_t sequence = 0;  // from 1, without holes, in one epoch
  auto operator<=>(const BatchId&) const = default;
};

struct Batch {
  BatchId id;
  std::vector<ProcessEvent> events;
  bool operator==(const Batch&) const = default;
};

// Bounds of the decoder; the encoder refuses what the decoder would.
inline constexpr std::size_t max_source_bytes = 64;
inline constexpr std::size_t max_batch_bytes = 1024 * 1024;
inline constexpr std::size_t max_batch_events = 65536;
inline constexpr std::size_t max_text_bytes = 64 * 1024;  // any one text field

// One event's canonical bytes; deterministic: equal events give equal bytes, and decode gives the event back.
void encode_event(const ProcessEvent& event, std::string& out);
// The whole batch: header with id and count, then the events.
Result<std::string> encode_batch(const Batch& batch);
// From already encoded events, as a batcher collects them.
Result<std::string> encode_batch(const BatchId& id, std::size_t event_count, std::string_view encoded_events);
Result<Batch> decode_batch(std::string_view bytes);
// SHA-256 over the canonical encoding.
base::Sha256Digest batch_digest(std::string_view canonical_bytes);

// What a scan tells beyond events: counters of living processes, latest wins, not digested and not kept as history.
struct LiveUpdate {
  ProcessKey key;
  std::optional<double> cpu_usage;
  std::optional<std::uint64_t> memory_usage;
  ProcessStatus status = ProcessStatus::running;
  bool operator==(const LiveUpdate&) const = default;
};

struct ScanSummary {
  std::uint64_t scan_id = 0;  // ascending in an epoch
  Timestamp time;             // begin
  std::uint64_t duration_ms = 0;
  std::string source;  // "bpf_iter" or "procfs"
  std::uint64_t processes = 0, errors = 0, lost_events = 0;
  std::vector<LiveUpdate> updates;
  bool operator==(const ScanSummary&) const = default;
};

inline constexpr std::size_t max_scan_bytes = 8 * 1024 * 1024;
std::string encode_scan(const ScanSummary& scan);
Result<ScanSummary> decode_scan(std::string_view bytes);

}  // namespace daemoneye::event
