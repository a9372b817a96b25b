#include "event/batch.h"

#include <algorithm>

#include "base/bytes.h"
#include "event/event_codec.h"

namespace daemoneye::event {
namespace {

std::string_view bytes_of(const Epoch& epoch) { return {reinterpret_cast<const char*>(epoch.data()), epoch.size()}; }

Result<void> check_id(const BatchId& id, Errc code) {
  if (id.source.empty() || id.source.size() > max_source_bytes) {
    return fail(code, "batch: source of " + std::to_string(id.source.size()) + " bytes, wanted 1 to " +
                          std::to_string(max_source_bytes));
  }
  if (id.sequence == 0) return fail(code, "batch: sequence 0, numbers begin at 1");
  return {};
}

Result<void> check_bounds(std::size_t event_count, std::size_t size, Errc code) {
  if (event_count > max_batch_events) {
    return fail(code, "batch: " + std::to_string(event_count) + " events, at most " + std::to_string(max_batch_events));
  }
  if (size > max_batch_bytes) {
    return fail(code, "batch: " + std::to_string(size) + " bytes, at most " + std::to_string(max_batch_bytes));
  }
  return {};
}

void put_header(base::ByteWriter& out, const BatchId& id, std::size_t event_count) {
  out.raw(batch_magic);
  out.bytes(id.source);
  out.raw(bytes_of(id.epoch));
  out.varint(id.sequence);
  out.varint(event_count);
}

// The pieces must be whole events in the stated number: a wrong count would only be found by the receiver.
bool holds_events(std::string_view encoded_events, std::size_t event_count) {
  base::ByteReader in(encoded_events);
  std::size_t found = 0;
  while (in.ok() && !in.at_end() && found <= event_count) {
    in.bytes();
    ++found;
  }
  return in.at_end() && found == event_count;
}

}  // namespace

std::string to_string(const Epoch& epoch) { return base::to_hex(bytes_of(epoch)); }

Result<Epoch> parse_epoch(std::string_view text) {
  Epoch epoch{};
  const auto bytes = base::from_hex(text.substr(0, 2 * epoch.size() + 2));
  if (!bytes || bytes->size() != epoch.size()) return fail(Errc::invalid_input, "an epoch is 32 hex digits");
  std::copy(bytes->begin(), bytes->end(), epoch.begin());
  return epoch;
}

Result<std::string> encode_batch(const Batch& batch) {
  DE_CHECK(check_bounds(batch.events.size(), 0, Errc::limit_exceeded));
  std::string events;
  for (const auto& event : batch.events) {
    encode_event(event, events);
    DE_CHECK(check_bounds(batch.events.size(), events.size(), Errc::limit_exceeded));
  }
  return encode_batch(batch.id, batch.events.size(), events);
}

Result<std::string> encode_batch(const BatchId& id, std::size_t event_count, std::string_view encoded_events) {
  DE_CHECK(check_id(id, Errc::invalid_input));
  DE_CHECK(check_bounds(event_count, encoded_events.size(), Errc::limit_exceeded));
  if (!holds_events(encoded_events, event_count)) {
    return fail(Errc::internal, "batch: the encoded events are not " + std::to_string(event_count));
  }
  std::string bytes;
  bytes.reserve(encoded_events.size() + max_source_bytes + 64);
  base::ByteWriter out(bytes);
  put_header(out, id, event_count);
  out.raw(encoded_events);
  DE_CHECK(check_bounds(event_count, bytes.size(), Errc::limit_exceeded));
  return bytes;
}

namespace {

template <class AnyBatch>
Result<void> decode(std::string_view bytes, AnyBatch& batch) {
  DE_CHECK(check_bounds(0, bytes.size(), Errc::corrupt));
  base::ByteReader in(bytes);
  if (in.raw(batch_magic.size()) != batch_magic) return fail(Errc::corrupt, "batch: wrong magic or version");
  batch.id.source = in.bytes().substr(0, max_source_bytes + 1);
  const auto epoch = in.raw(batch.id.epoch.size());
  std::copy(epoch.begin(), epoch.end(), batch.id.epoch.begin());
  batch.id.sequence = in.varint();
  const std::uint64_t count = in.varint();
  if (!in.ok()) return fail(Errc::corrupt, "batch: header short or malformed");
  DE_CHECK(check_id(batch.id, Errc::corrupt));
  DE_CHECK(check_bounds(static_cast<std::size_t>(count), 0, Errc::corrupt));
  if (count > in.remaining() / min_event_bytes) {
    return fail(Errc::corrupt, "batch: " + std::to_string(count) + " events cannot fit the " +
                                   std::to_string(in.remaining()) + " bytes that follow");
  }
  batch.events.clear();
  batch.events.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::size_t at = in.position();
    if (const auto decoded = decode_event(in, batch.events.emplace_back()); !decoded) {
      return fail(Errc::corrupt, "batch: event " + std::to_string(i) + " at byte " + std::to_string(at) + ": " +
                                     decoded.error().message);
    }
  }
  if (!in.at_end())
    return fail(Errc::corrupt, "batch: " + std::to_string(in.remaining()) + " bytes after the last event");
  return {};
}

}  // namespace

Result<Batch> decode_batch(std::string_view bytes) {
  Batch batch;
  DE_CHECK(decode(bytes, batch));
  return batch;
}

Result<void> decode_batch(std::string_view bytes, BatchView& batch) { return decode(bytes, batch); }

base::Sha256Digest batch_digest(std::string_view canonical_bytes) { return base::sha256(canonical_bytes); }

}  // namespace daemoneye::event
