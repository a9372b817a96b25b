#include "ipc/codec.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "base/bytes.h"
#include "daemoneye.pb.h"
#include "ipc/frame.h"

namespace daemoneye::ipc {

// The envelope of a batch at its bounds must fit into a frame, and so must the largest reply.
static_assert(event::max_batch_bytes + event::max_scan_bytes + 4096 <= max_frame_payload_bytes);
static_assert(max_reply_payload_bytes + 4096 <= max_frame_payload_bytes);

namespace {

// What travels as a number stays what it is when Errc is reordered.
std::uint32_t wire_code(Errc code) {
  switch (code) {
    case Errc::invalid_input: return 1;
    case Errc::not_found: return 2;
    case Errc::permission_denied: return 3;
    case Errc::unavailable: return 4;
    case Errc::corrupt: return 5;
    case Errc::timeout: return 6;
    case Errc::limit_exceeded: return 7;
    case Errc::cancelled: return 8;
    case Errc::io: return 9;
    case Errc::internal: return 10;
  }
  return 10;
}

// A code from a newer peer is an error all the same.
Errc errc_of(std::uint32_t code) {
  switch (code) {
    case 1: return Errc::invalid_input;
    case 2: return Errc::not_found;
    case 3: return Errc::permission_denied;
    case 4: return Errc::unavailable;
    case 5: return Errc::corrupt;
    case 6: return Errc::timeout;
    case 7: return Errc::limit_exceeded;
    case 8: return Errc::cancelled;
    case 9: return Errc::io;
    default: return Errc::internal;
  }
}

std::unexpected<Error> out_of_bounds(std::string_view field, std::string_view what) {
  return fail(Errc::invalid_input, "message field " + std::string(field) + ": " + std::string(what));
}

Result<void> at_most(std::string_view field, std::size_t size, std::size_t bound) {
  if (size <= bound) return {};
  return out_of_bounds(field, std::to_string(size) + " bytes, at most " + std::to_string(bound) + " are allowed");
}

Result<void> not_empty(std::string_view field, std::string_view value) {
  if (!value.empty()) return {};
  return out_of_bounds(field, "empty");
}

Result<void> sequence_given(std::string_view field, std::uint64_t sequence) {
  // The largest value is left out so that "the next one" always exists.
  if (sequence != 0 && sequence != std::numeric_limits<std::uint64_t>::max()) return {};
  return out_of_bounds(field, std::to_string(sequence) + " is no sequence number");
}

Result<void> check(const Hello& hello) {
  DE_CHECK(at_most("hello.program_version", hello.program_version.size(), max_program_version_bytes));
  DE_CHECK(not_empty("hello.source", hello.source));
  DE_CHECK(at_most("hello.source", hello.source.size(), event::max_source_bytes));
  return at_most("hello.host", hello.host.size(), max_host_bytes);
}

Result<void> check(const Welcome& welcome) {
  DE_CHECK(not_empty("welcome.store_id", welcome.store_id));
  DE_CHECK(at_most("welcome.store_id", welcome.store_id.size(), max_store_id_bytes));
  if (welcome.committed_sequence == 0) return {};
  return sequence_given("welcome.committed_sequence", welcome.committed_sequence);
}

Result<void> check(const Resume& resume) {
  DE_CHECK(sequence_given("resume.first_sequence", resume.first_sequence));
  if (!resume.missing) return {};
  const Missing& missing = *resume.missing;
  DE_CHECK(sequence_given("resume.missing.first_sequence", missing.first_sequence));
  if (missing.last_sequence != resume.first_sequence - 1 || missing.first_sequence > resume.first_sequence) {
    return out_of_bounds("resume.missing", "does not end where the stream goes on");
  }
  if (missing.to < missing.from) return out_of_bounds("resume.missing.to", "before resume.missing.from");
  return {};
}

Result<void> check(const BatchMessage& batch) {
  DE_CHECK(sequence_given("batch.sequence", batch.sequence));
  DE_CHECK(not_empty("batch.canonical", batch.canonical));
  DE_CHECK(at_most("batch.canonical", batch.canonical.size(), event::max_batch_bytes));
  if (batch.digest.size() != digest_bytes) {
    return out_of_bounds("batch.digest", std::to_string(batch.digest.size()) + " bytes, 32 are expected");
  }
  return at_most("batch.scan", batch.scan.size(), event::max_scan_bytes);
}

Result<void> check(const Acknowledge& acknowledge) {
  return sequence_given("acknowledge.sequence", acknowledge.sequence);
}

Result<void> check(const Heartbeat& heartbeat) {
  DE_CHECK(at_most("heartbeat.health_json", heartbeat.health_json.size(), max_health_bytes));
  return at_most("heartbeat.metrics_text", heartbeat.metrics_text.size(), max_metrics_bytes);
}

Result<void> check(const Request& request) {
  DE_CHECK(at_most("request.payload", request.payload.size(), max_request_payload_bytes));
  if (request.timeout_ms == 0 || request.timeout_ms > max_request_timeout_ms) {
    return out_of_bounds("request.timeout_ms", std::to_string(request.timeout_ms) + ", 1 to " +
                                                   std::to_string(max_request_timeout_ms) + " are allowed");
  }
  return {};
}

Result<void> check(const Cancel&) { return {}; }

Result<void> check(const Reply& reply) {
  return at_most("reply.payload", reply.payload.size(), max_reply_payload_bytes);
}

// --- to protobuf

void fill(wire::Envelope& out, const Hello& hello) {
  auto& body = *out.mutable_hello();
  body.set_version(hello.version);
  body.set_program_version(hello.program_version);
  body.set_source(hello.source);
  body.set_epoch(hello.epoch.data(), hello.epoch.size());
  body.set_epoch_started_ns(hello.epoch_started.ns);
  body.set_host(hello.host);
}

void fill(wire::Envelope& out, const Welcome& welcome) {
  auto& body = *out.mutable_welcome();
  body.set_version(welcome.version);
  body.set_store_id(welcome.store_id);
  body.set_committed_sequence(welcome.committed_sequence);
  body.set_credit_records(welcome.credit_records);
  if (welcome.covered_until) body.set_covered_until_ns(welcome.covered_until->ns);
}

void fill(wire::Envelope& out, const Resume& resume) {
  auto& body = *out.mutable_resume();
  body.set_first_sequence(resume.first_sequence);
  if (!resume.missing) return;
  auto& missing = *body.mutable_missing();
  missing.set_first_sequence(resume.missing->first_sequence);
  missing.set_last_sequence(resume.missing->last_sequence);
  missing.set_from_ns(resume.missing->from.ns);
  missing.set_to_ns(resume.missing->to.ns);
  missing.set_events(resume.missing->events);
}

void fill(wire::Envelope& out, const Acknowledge& acknowledge) {
  out.mutable_acknowledge()->set_sequence(acknowledge.sequence);
}

void fill(wire::Envelope& out, const Heartbeat& heartbeat) {
  auto& body = *out.mutable_heartbeat();
  body.set_time_ns(heartbeat.time.ns);
  body.set_health_json(heartbeat.health_json);
  body.set_metrics_text(heartbeat.metrics_text);
}

void fill(wire::Envelope& out, const Request& request) {
  auto& body = *out.mutable_request();
  body.set_id(request.id);
  body.set_kind(static_cast<std::uint32_t>(request.kind));
  body.set_payload(request.payload);
  body.set_timeout_ms(request.timeout_ms);
}

void fill(wire::Envelope& out, const Cancel& cancel) { out.mutable_cancel()->set_id(cancel.id); }

void fill(wire::Envelope& out, const Reply& reply) {
  auto& body = *out.mutable_reply();
  body.set_id(reply.id);
  if (reply.error) {
    body.mutable_failure()->set_code(wire_code(*reply.error));
    body.mutable_failure()->set_message(reply.message.substr(0, max_reply_message_bytes));
  } else {
    body.set_payload(reply.payload);
  }
}

template <class Body>
void append(std::string& out, const Body& body) {
  wire::Envelope envelope;
  fill(envelope, body);
  // Cannot fail: no required fields, and 2 GiB are out of reach.
  envelope.AppendToString(&out);
}

// What protobuf would write, without the two copies that its message and its output are: batches are nearly all that
// travels.
void append(std::string& out, const BatchMessage& batch) {
  constexpr std::uint32_t of_varint = 0, of_bytes = 2;
  const auto tag = [](int field, std::uint32_t type) { return static_cast<std::uint64_t>(field) << 3 | type; };
  const auto varint_bytes = [](std::uint64_t value) {
    std::size_t size = 1;
    for (; value >= 0x80; value >>= 7) ++size;
    return size;
  };
  // A field that has its default is not written.
  const auto field_bytes = [&](const std::string& field) {
    return field.empty() ? 0 : 1 + varint_bytes(field.size()) + field.size();
  };
  const std::size_t size = (batch.sequence == 0 ? 0 : 1 + varint_bytes(batch.sequence)) + field_bytes(batch.canonical) +
                           field_bytes(batch.digest) + field_bytes(batch.scan);
  constexpr std::size_t max_tag_and_length_bytes = 1 + 10;
  out.reserve(out.size() + max_tag_and_length_bytes + size);
  base::ByteWriter writer(out);
  writer.varint(tag(wire::Envelope::kBatchFieldNumber, of_bytes));
  writer.varint(size);
  if (batch.sequence != 0) {
    writer.varint(tag(wire::Batch::kSequenceFieldNumber, of_varint));
    writer.varint(batch.sequence);
  }
  const auto put = [&](int number, const std::string& field) {
    if (field.empty()) return;
    writer.varint(tag(number, of_bytes));
    writer.bytes(field);
  };
  put(wire::Batch::kCanonicalFieldNumber, batch.canonical);
  put(wire::Batch::kDigestFieldNumber, batch.digest);
  put(wire::Batch::kScanFieldNumber, batch.scan);
}

// --- from protobuf; the strings are moved out

Result<Message> take(wire::Hello& body) {
  Hello hello;
  hello.version = body.version();
  hello.program_version = std::move(*body.mutable_program_version());
  hello.source = std::move(*body.mutable_source());
  if (body.epoch().size() != epoch_bytes) {
    return out_of_bounds("hello.epoch", std::to_string(body.epoch().size()) + " bytes, 16 are expected");
  }
  std::copy_n(body.epoch().begin(), epoch_bytes, hello.epoch.begin());
  hello.epoch_started = Timestamp{body.epoch_started_ns()};
  hello.host = std::move(*body.mutable_host());
  return hello;
}

Result<Message> take(wire::Welcome& body) {
  Welcome welcome;
  welcome.version = body.version();
  welcome.store_id = std::move(*body.mutable_store_id());
  welcome.committed_sequence = body.committed_sequence();
  welcome.credit_records = body.credit_records();
  if (body.has_covered_until_ns()) welcome.covered_until = Timestamp{body.covered_until_ns()};
  return welcome;
}

Result<Message> take(wire::Resume& body) {
  Resume resume;
  resume.first_sequence = body.first_sequence();
  if (body.has_missing()) {
    const auto& missing = body.missing();
    resume.missing = Missing{missing.first_sequence(), missing.last_sequence(), Timestamp{missing.from_ns()},
                             Timestamp{missing.to_ns()}, missing.events()};
  }
  return resume;
}

Result<Message> take(wire::Batch& body) {
  return BatchMessage{body.sequence(), std::move(*body.mutable_canonical()), std::move(*body.mutable_digest()),
                      std::move(*body.mutable_scan())};
}

Result<Message> take(wire::Acknowledge& body) { return Acknowledge{body.sequence()}; }

Result<Message> take(wire::Heartbeat& body) {
  return Heartbeat{Timestamp{body.time_ns()}, std::move(*body.mutable_health_json()),
                   std::move(*body.mutable_metrics_text())};
}

Result<Message> take(wire::Request& body) {
  // A kind outside the table is for the server to answer, with the request's id.
  return Request{body.id(), static_cast<RequestKind>(body.kind()), std::move(*body.mutable_payload()),
                 body.timeout_ms()};
}

Result<Message> take(wire::Cancel& body) { return Cancel{body.id()}; }

Result<Message> take(wire::Reply& body) {
  Reply reply;
  reply.id = body.id();
  switch (body.outcome_case()) {
    case wire::Reply::kPayload: reply.payload = std::move(*body.mutable_payload()); break;
    case wire::Reply::kFailure:
      reply.error = errc_of(body.failure().code());
      reply.message = std::move(*body.mutable_failure()->mutable_message());
      DE_CHECK(at_most("reply.failure.message", reply.message.size(), max_reply_message_bytes));
      break;
    case wire::Reply::OUTCOME_NOT_SET: return out_of_bounds("reply", "neither payload nor failure");
  }
  return reply;
}

Result<Message> take(wire::Envelope& envelope) {
  switch (envelope.body_case()) {
    case wire::Envelope::kHello: return take(*envelope.mutable_hello());
    case wire::Envelope::kWelcome: return take(*envelope.mutable_welcome());
    case wire::Envelope::kResume: return take(*envelope.mutable_resume());
    case wire::Envelope::kBatch: return take(*envelope.mutable_batch());
    case wire::Envelope::kAcknowledge: return take(*envelope.mutable_acknowledge());
    case wire::Envelope::kHeartbeat: return take(*envelope.mutable_heartbeat());
    case wire::Envelope::kRequest: return take(*envelope.mutable_request());
    case wire::Envelope::kCancel: return take(*envelope.mutable_cancel());
    case wire::Envelope::kReply: return take(*envelope.mutable_reply());
    case wire::Envelope::BODY_NOT_SET: break;
  }
  return fail(Errc::corrupt, "message: empty, or of a kind this version does not know");
}

}  // namespace

std::string_view to_string(RequestKind kind) {
  switch (kind) {
    case RequestKind::append_audit: return "append_audit";
    case RequestKind::enumerate: return "enumerate";
    case RequestKind::hash_path: return "hash_path";
    case RequestKind::capabilities: return "capabilities";
    case RequestKind::rotate_key: return "rotate_key";
    case RequestKind::reload_configuration: return "reload_configuration";
    case RequestKind::rotate_audit_key: return "rotate_audit_key";
    case RequestKind::health: return "health";
    case RequestKind::metrics: return "metrics";
    case RequestKind::reload: return "reload";
    case RequestKind::record_refusal: return "record_refusal";
    case RequestKind::maintain: return "maintain";
    case RequestKind::maintenance: return "maintenance";
    case RequestKind::sinks: return "sinks";
    case RequestKind::test_sinks: return "test_sinks";
    case RequestKind::change_alerts: return "change_alerts";
    case RequestKind::dead_letters: return "dead_letters";
    case RequestKind::follow_alerts: return "follow_alerts";
    case RequestKind::bundle: return "bundle";
    case RequestKind::change_rules: return "change_rules";
    case RequestKind::configuration: return "configuration";
  }
  return "unknown";
}

Result<void> check_message(const Message& message) {
  return std::visit([](const auto& body) { return check(body); }, message);
}

void append_message(std::string& out, const Message& message) {
  std::visit([&](const auto& body) { append(out, body); }, message);
}

std::string encode_message(const Message& message) {
  std::string bytes;
  append_message(bytes, message);
  return bytes;
}

Result<Message> decode_message(std::string_view bytes) {
  if (bytes.size() > max_frame_payload_bytes) {
    return fail(Errc::corrupt, "message: " + std::to_string(bytes.size()) + " bytes, more than a frame may carry");
  }
  wire::Envelope envelope;
  if (!envelope.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return fail(Errc::corrupt, "message: not a protobuf envelope");
  }
  auto message = take(envelope);
  if (!message) return fail(Errc::corrupt, std::move(message).error().message);
  if (auto checked = check_message(*message); !checked) return fail(Errc::corrupt, std::move(checked).error().message);
  return message;
}

}  // namespace daemoneye::ipc
